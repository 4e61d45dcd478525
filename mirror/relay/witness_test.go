package relay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// submit posts a body to the relay's witness under a prefix.
func submit(r *Relay, prefix channel.Prefix, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("POST", "https://x/"+prefix.Path()+"/witness/add-checkpoint", bytes.NewReader(body)))
	return w
}

// submission is that of the press's first size editions, from old.
func (p *press) submission(t *testing.T, heads []*sheet, old, size int) channel.Submission {
	t.Helper()
	proof, err := channel.NewLog(p.tree.Leaves()[:size]).Consistency(uint64(old))
	if err != nil {
		t.Fatal(err)
	}
	return channel.Submission{Old: uint64(old), Proof: proof, Checkpoint: heads[size-1].head.Checkpoint()}
}

// The answers of c2sp.org/tlog-witness, add-checkpoint, in its order.
func TestAddCheckpoint(t *testing.T) {
	p, other := newPress(t, "witness"), newPress(t, "another channel")
	r := start(t, Config{Witness: true})
	tg := target(t, r, p.ch)
	in := tg.Intake.Mint([8]byte{1})
	var all []*sheet
	for range 6 {
		all = append(all, p.edition(t, 0))
	}
	forked := newPress(t, "witness")
	for range 6 {
		forked.article(t, 0, "<p>Another story.</p>")
	}
	foreign := other.edition(t, 0)
	sub := func(old, size int) channel.Submission { return p.submission(t, all, old, size) }
	with := func(s channel.Submission, change func(*channel.Submission)) []byte { change(&s); return s.Marshal() }
	self, ok := r.Witness(p.ch)
	if !ok {
		t.Fatal("it is no witness")
	}
	expect := func(what string, got *httptest.ResponseRecorder, code int, body string) {
		t.Helper()
		if got.Code != code || body != "" && !strings.Contains(got.Body.String(), body) {
			t.Errorf("%s: %d %q instead of %d %q", what, got.Code, got.Body, code, body)
		}
		if kind := got.Header().Get("Content-Type"); (code == 409) != (kind == "text/x.tlog.size") {
			t.Errorf("%s: Content-Type %q", what, kind)
		}
	}
	expect("before an edition came", submit(r, in, sub(0, 1).Marshal()), 404, "not a log of this channel")
	push(t, r, all[1])
	expect("nothing", submit(r, in, nil), 400, "submission refused")
	expect("too much", submit(r, in, make([]byte, channel.MaxSubmission+1)), 413, "")
	expect("another channel's", submit(r, in, channel.Submission{Checkpoint: foreign.head.Checkpoint()}.Marshal()), 404, "")
	expect("not signed", submit(r, in, with(sub(0, 2), func(s *channel.Submission) {
		s.Checkpoint = bytes.Replace(s.Checkpoint, []byte("time 1"), []byte("time 2"), 1)
	})), 403, "not signed")
	expect("not a checkpoint", submit(r, in, with(sub(0, 2), func(s *channel.Submission) { s.Checkpoint = []byte("x\n") })), 400, "")
	expect("smaller than the old one", submit(r, in, with(sub(0, 2), func(s *channel.Submission) { s.Old = 3 })), 400, "larger than the new")
	expect("an old size, with nothing seen", submit(r, in, sub(1, 2).Marshal()), 409, "0\n")
	expect("a proof from nothing", submit(r, in, with(sub(0, 2), func(s *channel.Submission) { s.Proof = []channel.Hash{{}} })), 422, "")
	expect("the first", submit(r, in, sub(0, 2).Marshal()), 200, "— "+self.Name+" ")
	expect("from nothing again", submit(r, in, sub(0, 2).Marshal()), 409, "2\n")
	expect("the same again", submit(r, in, sub(2, 2).Marshal()), 200, "— "+self.Name+" ")
	expect("the same with a proof", submit(r, in, with(sub(2, 2), func(s *channel.Submission) { s.Proof = []channel.Hash{{}} })), 422, "")
	expect("a proof that is none", submit(r, in, with(sub(2, 5), func(s *channel.Submission) { s.Proof[0][0] ^= 1 })), 422, "does not continue")
	expect("no proof", submit(r, in, with(sub(2, 5), func(s *channel.Submission) { s.Proof = nil })), 422, "")
	fork := func(old, size int) []byte {
		proof, err := channel.NewLog(forked.tree.Leaves()[:size]).Consistency(uint64(old))
		if err != nil {
			t.Fatal(err)
		}
		n := forked.tree.Leaves()[:size-1]
		leaf := channel.Leaf{
			Channel: p.ch, Edition: uint64(size - 1), RootVersion: 1, Root: all[0].head.Root, Front: all[0].head.Front, Date: time.Unix(1_700_000_000, 0),
		}
		h, err := channel.SignHead(leaf, channel.NewLog(n).Edge(), 0, leaf.Date, p.log)
		if err != nil {
			t.Fatal(err)
		}
		return channel.Submission{Old: uint64(old), Proof: proof, Checkpoint: h.Checkpoint()}.Marshal()
	}
	expect("another history of the same size", submit(r, in, fork(2, 2)), 422, "")
	expect("another history that is longer", submit(r, in, fork(2, 5)), 422, "")
	expect("the next", submit(r, in, sub(2, 5).Marshal()), 200, "")
	expect("what was seen since", submit(r, in, sub(2, 3).Marshal()), 409, "5\n")
	expect("back", submit(r, in, sub(3, 3).Marshal()), 409, "5\n")

	// What it signs is what readers count.
	line := submit(r, in, sub(5, 6).Marshal()).Body.Bytes()
	cp, err := p.roots.Checkpoint(all[5].head.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	whole := append(all[5].head.Checkpoint(), line...)
	if got, err := channel.ParseCosigned(whole, self); err != nil || got.Size != 6 || got.Tree != cp.Tree {
		t.Errorf("%+v, %v", got, err)
	}

	// Monitors see the same, by a reader's prefix too.
	sum := sha256.Sum256([]byte(channel.Origin(p.ch, 0)))
	for who, prefix := range map[string]string{"reader": tg.Relay(p.batch).Prefix.Path(), "publisher": in.Path()} {
		get := func(path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "https://x/"+prefix+"/witness/"+path, nil))
			return w
		}
		if w := get(hex.EncodeToString(sum[:]) + "/checkpoint"); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), whole) {
			t.Errorf("%s: %d %s", who, w.Code, w.Body)
		}
		for _, path := range []string{hex.EncodeToString(sum[1:]) + "/checkpoint", "/checkpoint", "../checkpoint", "", "add-checkpoint"} {
			if w := get(path); w.Code != 404 && w.Code != 405 {
				t.Errorf("%s gets %s: %d", who, path, w.Code)
			}
		}
	}
}

// Only publishers may ask, and only of a witness: to everybody else it is as if
// there were none, and to whoever has no prefix a website.
func TestWitnessIsHidden(t *testing.T) {
	p := newPress(t, "witness")
	first := p.edition(t, 0)
	body := channel.Submission{Checkpoint: first.head.Checkpoint()}.Marshal()
	answers := map[bool]map[string]string{}
	for _, is := range []bool{false, true} {
		r := start(t, Config{Witness: is})
		push(t, r, first)
		tg := target(t, r, p.ch)
		answers[is] = map[string]string{}
		for who, prefix := range map[string]channel.Prefix{
			"reader": tg.Relay(p.batch).Prefix, "nobody": {1, 2, 3}, "another's publisher": target(t, r, newPress(t, "other").ch).Intake.Mint([8]byte{}),
		} {
			w := submit(r, prefix, body)
			answers[is][who] = fmt.Sprint(w.Code, w.Header(), w.Body)
			if w.Code == 200 && bytes.Contains(w.Body.Bytes(), []byte("— ")) {
				t.Errorf("%s has it cosigned", who)
			}
		}
		w := submit(r, tg.Intake.Mint([8]byte{}), body)
		if want := map[bool]int{true: 200, false: 404}[is]; w.Code != want {
			t.Errorf("the publisher, witness %t: %d", is, w.Code)
		}
	}
	for _, who := range []string{"reader", "nobody"} {
		if a, b := answers[false][who], answers[true][who]; a != b {
			t.Errorf("%s can tell:\n%s\n%s", who, a, b)
		}
	}
}

// Over the wire, as a publisher does it.
func TestCosignOverTheWire(t *testing.T) {
	p := newPress(t, "witness")
	r := start(t, Config{Witness: true})
	all := []*sheet{p.edition(t, 0), p.edition(t, 0)}
	push(t, r, all[0])
	c := pusher(t, &netreal.Network{}, target(t, r, p.ch))
	var size *transport.SizeError
	if _, err := c.Cosign(t.Context(), p.submission(t, all, 1, 2)); !errors.As(err, &size) || size.Size != 0 {
		t.Errorf("an old size: %v", err)
	}
	line, err := c.Cosign(t.Context(), p.submission(t, all, 0, 2))
	if err != nil || !bytes.HasPrefix(line, []byte("— ")) {
		t.Errorf("%q, %v", line, err)
	}
	none := start(t, Config{})
	push(t, none, all[0])
	if _, err := pusher(t, &netreal.Network{}, target(t, none, p.ch)).Cosign(t.Context(), p.submission(t, all, 0, 2)); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("a relay that is no witness: %v", err)
	}
	wrong := target(t, r, p.ch)
	wrong.Intake = channel.MintKey{}
	if _, err := pusher(t, &netreal.Network{}, wrong).Cosign(t.Context(), p.submission(t, all, 0, 2)); err == nil {
		t.Error("cosigned without a key")
	}
}

// What was answered is on disk, and a witness that has lost its memory does not go on.
func TestWitnessRemembers(t *testing.T) {
	p := newPress(t, "witness")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir, Witness: true})
	all := []*sheet{p.edition(t, 0), p.edition(t, 0), p.edition(t, 0)}
	push(t, r, all[0])
	in := target(t, r, p.ch).Intake.Mint([8]byte{})
	self, _ := r.Witness(p.ch)
	if w := submit(r, in, p.submission(t, all, 0, 2).Marshal()); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	files, err := filepath.Glob(filepath.Join(dir, witnessDir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	again := func() *httptest.ResponseRecorder {
		t.Helper()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = start(t, Config{Dir: dir, Witness: true})
		return submit(r, in, p.submission(t, all, 0, 3).Marshal())
	}
	if w := again(); w.Code != 409 || w.Body.String() != "2\n" {
		t.Errorf("after a restart: %d %s", w.Code, w.Body)
	}
	if now, _ := r.Witness(p.ch); now.VKey() != self.VKey() {
		t.Error("its key is another one after a restart")
	}
	kept, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"cut": kept[:len(kept)/2], "empty": nil, "of another size": bytes.Replace(kept, []byte("\n2\n"), []byte("\n1\n"), 1)} {
		if err := os.WriteFile(files[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		if w := again(); w.Code != 500 {
			t.Errorf("its memory is %s: %d %s", what, w.Code, w.Body)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	refuses := func(what, want string, cfg Config) {
		t.Helper()
		cfg.Network = &netreal.Network{}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Rename(filepath.Join(dir, witnessSecretFile), filepath.Join(dir, "aside")); err != nil {
		t.Fatal(err)
	}
	refuses("the key is gone", "witness.secret is gone", Config{Dir: dir, Witness: true})
	if err := os.Rename(filepath.Join(dir, "aside"), filepath.Join(dir, witnessSecretFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, witnessDir)); err != nil {
		t.Fatal(err)
	}
	refuses("the memory is gone", "what this witness has seen", Config{Dir: dir, Witness: true})
	refuses("a fleet", "not in a fleet", Config{Dir: t.TempDir(), Witness: true, S3: &bucket.Config{URL: "https://s3.example/b"}})
}

// Of many who ask at once, those are answered that come after one another, and what
// is remembered is the last.
func TestWitnessOneAtATime(t *testing.T) {
	const most = 12
	p := newPress(t, "witness")
	r := start(t, Config{Witness: true, Throttle: Throttle{PerIntake: -1}})
	var all []*sheet
	for range most {
		all = append(all, p.edition(t, 0))
	}
	push(t, r, all[0])
	in := target(t, r, p.ch).Intake.Mint([8]byte{})
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() {
			old := 0
			for size := who + 1; size <= most; {
				w := submit(r, in, p.submission(t, all, old, size).Marshal())
				switch w.Code {
				case http.StatusOK:
					old, size = size, size+1+who
				case http.StatusConflict:
					if _, err := fmt.Sscan(w.Body.String(), &old); err != nil {
						t.Error(err)
						return
					}
					size = max(size, old)
				default:
					t.Errorf("from %d to %d: %d %s", old, size, w.Code, w.Body)
					return
				}
			}
		})
	}
	wg.Wait()
	if w := submit(r, in, p.submission(t, all, 0, most).Marshal()); w.Code != 409 || w.Body.String() != fmt.Sprintf("%d\n", most) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A head that more witnesses have seen takes the place of the same one, and not the
// other way round, so that relays that follow each other come to rest.
func TestStoreTakesTheHeadThatMoreHaveSeen(t *testing.T) {
	p := newPress(t, "seen")
	keys := map[string]string{"w0": "witness 0", "w1": "witness 1"}
	n := &channel.RootNote{Version: 1, Threshold: 1, RootKeys: p.roots.Last().RootKeys, Log: p.roots.Last().Log, IPNS: p.roots.Last().IPNS, Quorum: 1}
	for _, name := range []string{"w0", "w1"} {
		n.Witnesses = append(n.Witnesses, channel.Witness{Name: name, Key: public(keyFrom(keys[name]))})
	}
	note, err := n.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	p.notes, p.ch = [][]byte{note}, channel.IDOf(n.Text())
	if p.roots, err = channel.ParseRoots(p.ch, p.notes); err != nil {
		t.Fatal(err)
	}
	bare := p.edition(t, 0)
	by := func(s *sheet, names ...string) *sheet {
		t.Helper()
		with := *s
		for _, name := range names {
			cp, err := p.roots.Checkpoint(s.head.Checkpoint())
			if err != nil {
				t.Fatal(err)
			}
			line, _ := cp.Cosign(name, keyFrom(keys[name]), time.Unix(1_700_000_900, 0))
			with.head = p.roots.Cosigned(with.head, line)
		}
		with.car = with.marshal(t, s.packed.Blocks)
		return &with
	}
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	tg := target(t, r, p.ch)
	seen := func(want int) {
		t.Helper()
		h, roots := r.store.Head(p.ch)
		if h == nil || roots.Witnessed(h).Seen != want {
			t.Errorf("the head that is held was seen by %d, not %d", roots.Witnessed(h).Seen, want)
		}
		for c, b := range bare.packed.Blocks {
			if _, err := r.store.Block(p.ch, b.CID); err != nil {
				t.Errorf("block %d: %v", c, err)
			}
		}
	}
	publish := func(s *sheet) error { return pusher(t, &netreal.Network{}, tg).Publish(t.Context(), s.source(), nil) }
	for _, s := range []struct {
		s      *sheet
		seen   int
		refuse bool
	}{
		{bare, 0, false},
		{by(bare, "w0"), 1, false},
		{by(bare, "w1"), 1, true},
		{bare, 1, true},
		{by(bare, "w0", "w1"), 2, false},
		{by(bare, "w0"), 2, true},
	} {
		if err := publish(s.s); errors.Is(err, transport.ErrRefused) != s.refuse || err != nil && !s.refuse {
			t.Errorf("refused %t instead of %t: %v", err != nil, s.refuse, err)
		}
		seen(s.seen)
		raw := s.s.head.Text()
		if s.refuse && r.store.wants(p.ch, bundle.RawCID(raw), raw) {
			t.Error("it would be fetched from another relay")
		}
	}
	// Over DNS and IPNS, too: compact.
	h, roots := r.store.Head(p.ch)
	if got, err := roots.Head(h.Compact()); err != nil || roots.Witnessed(got).Seen != 2 {
		t.Errorf("compact: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// As after a crash between storing one and dropping the other: the better stays.
	old := by(bare, "w0")
	if err := os.WriteFile(filepath.Join(dir, "editions", p.ch.String(), fmt.Sprintf("%012d-%d-1.car", 0, old.head.Time.Unix())), old.car, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	seen(2)
}
