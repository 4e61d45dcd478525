package channel

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watched is a publisher with witnesses named w0, w1 …
func watched(t testing.TB, name string, n, quorum int) *publisher {
	t.Helper()
	p := &publisher{root: key(name + "root"), log: key(name + "log"), ipns: key(name + "ipns"), history: NewLog(nil)}
	p.note = RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{pub(p.root)}, Log: LogKey{Key: pub(p.log)}, IPNS: pub(p.ipns), Quorum: quorum,
	}
	for i := range n {
		p.note.Witnesses = append(p.note.Witnesses, Witness{fmt.Sprintf("w%d", i), pub(watcher(i))})
	}
	var err error
	if p.signed, err = p.note.Sign(p.root); err != nil {
		t.Fatal(err)
	}
	p.id = IDOf(p.note.Text())
	return p
}

func watcher(i int) ed25519.PrivateKey { return key(fmt.Sprintf("witness %d", i)) }

var seenAt = time.Unix(1_700_001_000, 0)

// line is what witness i answers.
func line(h *Head, i int) []byte {
	return cosign(h.checkpointText(), fmt.Sprintf("w%d", i), watcher(i), seenAt).append(nil)
}

func lineOf(name string, key ed25519.PrivateKey, h *Head) []byte {
	return cosign(h.checkpointText(), name, key, seenAt).append(nil)
}

func TestWitnessKey(t *testing.T) {
	w, secret := NewWitness([]byte("a secret of thirty-two bytes ..."), ID{1})
	if !w.Key.Equal(secret.Public()) || !validWitnessName(w.Name) {
		t.Errorf("%+v", w)
	}
	if o, _ := NewWitness([]byte("a secret of thirty-two bytes ..."), ID{2}); o.Name == w.Name || o.Key.Equal(w.Key) {
		t.Error("the same for another channel")
	}
	got, err := ParseWitness(" " + w.VKey() + "\n")
	if diff := cmp.Diff(w, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	vkey := func(name string, id uint32, raw []byte) string {
		return fmt.Sprintf("%s+%08x+%s", name, id, base64.StdEncoding.EncodeToString(raw))
	}
	typed := append([]byte{algCosignature}, w.Key...)
	for name, c := range map[string]struct{ in, want string }{
		"empty":        {"", "NAME+ID+KEY"},
		"a name alone": {"witness.example", "NAME+ID+KEY"},
		"no base64":    {w.Name + "+00000000+?", "is no key"},
		"a log's key":  {vkey(w.Name, keyID(w.Name, w.Key), append([]byte{1}, w.Key...)), "that of a log"},
		"ML-DSA":       {vkey(w.Name, 1, append([]byte{6}, make([]byte, 1312)...)), "only keys of Ed25519"},
		"short":        {vkey(w.Name, w.id(), typed[:32]), "only keys of Ed25519"},
		"another ID":   {vkey(w.Name, w.id()+1, typed), "don't belong together"},
		"another name": {vkey("other", w.id(), typed), "don't belong together"},
		"no name":      {vkey("", Witness{"", w.Key}.id(), typed), "its name"},
		"a long name":  {Witness{strings.Repeat("x", 101), w.Key}.VKey(), "its name"},
		"a space":      {Witness{"a b", w.Key}.VKey(), "its name"},
		"huge":         {strings.Repeat("x", 5000) + "+1+2", "NAME+ID+KEY"},
	} {
		if got, err := ParseWitness(c.in); !errors.Is(err, ErrWitness) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A cosignature that is not what it says counts as absent, and spoils nothing.
func TestInvalidCosignaturesAreAbsent(t *testing.T) {
	p := watched(t, "a", 3, 2)
	roots := p.roots(t)
	p.publish(t, "0")
	h := p.publish(t, "1")
	good := cosign(h.checkpointText(), "w0", watcher(0), seenAt)
	with := func(change func(*sigLine)) []byte {
		s := good
		s.sig = append([]byte(nil), s.sig...)
		change(&s)
		return s.append(nil)
	}
	later, err := SignHead(h.Leaf, h.Path, 0, h.Time.Add(time.Hour), p.log)
	if err != nil {
		t.Fatal(err)
	}
	log := signLine(h.checkpointText(), "w0", watcher(0))
	for name, c := range map[string]struct {
		lines []byte
		seen  int
	}{
		"one":                        {line(h, 0), 1},
		"all":                        {append(append(line(h, 2), line(h, 0)...), line(h, 1)...), 3},
		"twice the same":             {append(line(h, 0), line(h, 0)...), 1},
		"another name, the same key": {append(line(h, 0), lineOf("w1", watcher(0), h)...), 1},
		"a stranger":                 {lineOf("w9", watcher(9), h), 0},
		"a stranger under a name":    {lineOf("w0", watcher(9), h), 0},
		"of another time":            {line(later, 0), 0},
		"signature flipped":          {with(func(s *sigLine) { s.sig[20] ^= 1 }), 0},
		"its time flipped":           {with(func(s *sigLine) { s.sig[7] ^= 1 }), 0},
		"no time":                    {with(func(s *sigLine) { clear(s.sig[:8]) }), 0},
		"a time out of range":        {with(func(s *sigLine) { binary.BigEndian.PutUint64(s.sig, 1<<63) }), 0},
		"cut":                        {with(func(s *sigLine) { s.sig = s.sig[:70] }), 0},
		"longer":                     {with(func(s *sigLine) { s.sig = append(s.sig, 0) }), 0},
		"as a log signs":             {log.append(nil), 0},
		"another ID":                 {with(func(s *sigLine) { s.id++ }), 0},
		"a bad one before a good":    {append(with(func(s *sigLine) { s.sig[9] ^= 1 }), line(h, 1)...), 1},
	} {
		t.Run(name, func(t *testing.T) {
			// As a head that came so, and as an answer that is put into one.
			raw := append(h.Text(), c.lines...)
			got, err := roots.Head(raw)
			if err != nil {
				t.Fatal(err)
			}
			if w := roots.Witnessed(got); w != (Witnessed{c.seen, 3, 2}) || w.Met() != (c.seen >= 2) {
				t.Errorf("%+v", w)
			}
			made := roots.Cosigned(h, c.lines)
			if diff := cmp.Diff(string(got.Text()), string(made.Text())); diff != "" {
				t.Errorf("put in by ourselves:\n%s", diff)
			}
			for form, raw := range map[string][]byte{"text": made.Text(), "compact": made.Compact()} {
				again, err := roots.Head(raw)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(made.Text()), string(again.Text())); diff != "" {
					t.Errorf("changed on the way as %s:\n%s", form, diff)
				}
			}
		})
	}
	for name, answer := range map[string]string{"nothing": "", "a page": "<html>\n", "no line end": "— w0 AAAA", "too many": strings.Repeat(string(line(h, 0)), 33)} {
		if got := roots.Cosigned(h, []byte(answer)); roots.Witnessed(got).Seen != 0 {
			t.Errorf("%s: %d", name, roots.Witnessed(got).Seen)
		}
	}
	if got := roots.Cosigned(roots.Cosigned(h, line(h, 2)), line(h, 0), []byte("no line")); len(roots.SeenBy(got)) != 2 || roots.SeenBy(got)[1].Name != "w2" {
		t.Errorf("added: %+v", roots.SeenBy(got))
	}
}

// However many witnesses there are, and however long their names, a head stays
// within its limits.
func TestCosignedHeadFits(t *testing.T) {
	p := newPublisher(t, "a")
	for i := range maxWitnesses {
		name := fmt.Sprintf("w%d/%s", i, strings.Repeat("x", maxWitnessName-len(fmt.Sprintf("w%d/", i))))
		p.note.Witnesses = append(p.note.Witnesses, Witness{name, pub(watcher(i))})
	}
	var err error
	if p.signed, err = p.note.Sign(p.root); err != nil {
		t.Fatal(err)
	}
	p.id = IDOf(p.note.Text())
	roots := p.roots(t)
	for _, n := range []uint64{0, 1<<12 - 1, 1<<25 - 1} {
		leaf := p.leaf("x")
		leaf.Edition = n
		path := make([]Hash, 25)[:len(fmt.Sprintf("%b", n))]
		if n == 0 {
			path = nil
		}
		h, err := SignHead(leaf, path, 0, leaf.Date, p.log)
		if err != nil {
			t.Fatal(err)
		}
		var answers [][]byte
		for i, w := range p.note.Witnesses {
			answers = append(answers, lineOf(w.Name, watcher(i), h))
		}
		h = roots.Cosigned(h, answers...)
		if size := len(h.Text()); size > MaxHead || size < MaxHead-300 && len(h.cosig) < maxWitnesses {
			t.Errorf("edition %d: %d cosignatures in %d bytes", n, len(h.cosig), size)
		}
		c := h.Compact()
		got, err := roots.Head(c)
		if err != nil || len(c) > MaxCompact || len(c) <= MaxCompact-compactCosig && len(got.cosig) < len(h.cosig) {
			t.Errorf("edition %d: compact form of %d bytes: %v", n, len(c), err)
		}
		for i, s := range got.cosig {
			if s.name != h.cosig[i].name {
				t.Errorf("edition %d: cosignature %d is that of %s", n, i, s.name)
			}
		}
	}
}

// A compact head may carry cosignatures of witnesses that a later root note names.
func TestCompactOfUnknownWitness(t *testing.T) {
	p := watched(t, "a", 3, 2)
	h := p.publish(t, "0")
	full := p.roots(t).Cosigned(h, line(h, 0), line(h, 1), line(h, 2))
	old := p.roots(t)
	last := *old.last
	last.Witnesses, last.Quorum = last.Witnesses[1:2], 1
	old.last = &last
	got, err := old.Head(full.Compact())
	if err != nil {
		t.Fatal(err)
	}
	if w := old.Witnessed(got); w != (Witnessed{1, 1, 1}) {
		t.Errorf("%+v", w)
	}
}

// TestSeen: a reader counts the witnesses of a tree, whichever of its heads they
// have signed.
func TestSeen(t *testing.T) {
	p := watched(t, "a", 3, 2)
	h := p.publish(t, "0")
	roots := p.roots(t)
	beat := func(d time.Duration, who ...int) *Head {
		b, err := SignHead(h.Leaf, h.Path, 0, h.Time.Add(d), p.log)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range who {
			b = roots.Cosigned(b, line(b, i))
		}
		return b
	}
	v := NewView(&Invite{Channel: p.id, IPNS: pub(p.ipns)})
	if w := v.Witnessed(); w != (Witnessed{}) {
		t.Errorf("of nothing: %+v", w)
	}
	if err := v.ExtendRoots(p.signed); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		h    *Head
		want Verdict
		seen int
		time time.Duration
	}{
		{beat(0), Newer, 0, 0},
		{beat(0), Same, 0, 0},
		{beat(0, 1), Heartbeat, 1, 0},
		{beat(0, 1), Same, 1, 0},
		{beat(0, 2), Same, 1, 0},
		{beat(time.Hour), Heartbeat, 1, time.Hour},
		{beat(0, 0, 1), Heartbeat, 2, time.Hour},
		{beat(2 * time.Hour), Heartbeat, 2, 2 * time.Hour},
		{beat(2*time.Hour, 0, 1, 2), Heartbeat, 3, 2 * time.Hour},
		{beat(3*time.Hour, 0), Heartbeat, 3, 3 * time.Hour},
	} {
		got := v.Consider(c.h)
		if w := v.Witnessed(); got != c.want || w != (Witnessed{c.seen, 3, 2}) || !v.Head().Time.Equal(h.Time.Add(c.time)) {
			t.Errorf("step %d: %v, %+v, signed %v", i, got, w, v.Head().Time)
		}
		stored, err := v.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if v, err = ParseView(stored); err != nil || v.Witnessed().Seen != c.seen {
			t.Fatalf("step %d, stored: %+v, %v", i, v.Witnessed(), err)
		}
	}
	p.history = NewLog([]Hash{h.Leaf.Hash()})
	if next := p.publish(t, "1"); v.Consider(next) != Newer || v.Witnessed().Seen != 0 {
		t.Errorf("the next edition: %+v", v.Witnessed())
	}
}

// In a fork the head that enough witnesses have seen beats one that too few have,
// whichever came first and whichever is longer.
func TestWitnessesDecideForks(t *testing.T) {
	for name, c := range map[string]struct {
		quorum, longer int // of the other branch
		ours, theirs   []int
		want           Verdict
	}{
		"neither is seen":       {2, 0, nil, nil, Fork},
		"theirs is":             {2, 0, nil, []int{0, 1}, Overruled},
		"theirs, longer":        {2, 1, []int{2}, []int{0, 1}, Overruled},
		"theirs, much longer":   {2, 3, []int{2}, []int{0, 1}, Overruled},
		"theirs, shorter":       {2, -1, nil, []int{0, 1, 2}, Overruled},
		"theirs by too few":     {2, 1, nil, []int{1}, Fork},
		"ours is":               {2, 1, []int{0, 1}, nil, Fork},
		"both are":              {1, 0, []int{0}, []int{1, 2}, Fork},
		"nobody has to see any": {0, 1, nil, []int{0, 1, 2}, Fork},
	} {
		t.Run(name, func(t *testing.T) {
			a := watched(t, "a", 3, c.quorum)
			b := watched(t, "a", 3, c.quorum)
			roots := a.roots(t)
			for _, s := range []string{"0", "1"} {
				a.publish(t, s)
				b.publish(t, s)
			}
			v := NewView(&Invite{Channel: a.id, IPNS: pub(a.ipns)})
			if err := v.ExtendRoots(a.signed); err != nil {
				t.Fatal(err)
			}
			sign := func(h *Head, who []int) *Head {
				for _, i := range who {
					h = roots.Cosigned(h, line(h, i))
				}
				return h
			}
			var ours, theirs *Head
			for i := range 2 {
				ours = a.publish(t, fmt.Sprintf("ours %d", i))
				v.Consider(ours)
			}
			ours = sign(ours, c.ours)
			v.Consider(ours)
			for i := range 2 + c.longer {
				theirs = b.publish(t, fmt.Sprintf("theirs %d", i))
			}
			theirs = sign(theirs, c.theirs)
			if overrules := v.Overrules(theirs); overrules != (c.want == Overruled && theirs.Edition <= v.Size()) {
				t.Errorf("overrules: %v", overrules)
			}
			got := v.Consider(theirs)
			if got == Provisional {
				switch err := v.Fold(theirs, b.history.Leaves()[4:theirs.Edition]); {
				case errors.Is(err, ErrOverruled) && errors.Is(err, ErrFork):
					got = Overruled
				case errors.Is(err, ErrFork):
					got = Fork
				}
			}
			held := ours
			if c.want == Overruled {
				held = theirs
			}
			if got != c.want || v.Head().Tree != held.Tree || len(v.Evidence()) != 1 {
				t.Fatalf("%v, edition %d of %d is held, %d pieces of evidence", got, v.Head().Edition, held.Edition, len(v.Evidence()))
			}
			// The other one is a fork from now on, and the branch goes on.
			other := ours
			if held == ours {
				other = theirs
			}
			if again := v.Consider(other); again != Fork && again != Provisional && again != Stale || v.Head().Tree != held.Tree {
				t.Errorf("the other one again: %v", again)
			}
			stored, err := v.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if v, err = ParseView(stored); err != nil {
				t.Fatal(err)
			}
			if held == theirs {
				if next := b.publish(t, "next"); v.Consider(next) != Newer {
					t.Error("the branch does not go on")
				}
			}
		})
	}
}
