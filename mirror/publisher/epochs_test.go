package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// oneEpoch keeps the epoch that there is from ending by itself for two months of what
// is packed in tests.
func oneEpoch(p *Publisher) { p.keys.Renew = time.Unix(1_700_100_000, 0).Add(longestEpoch) }

// Epochs end by themselves, after a day at least; a process that begins anew does
// not draw again.
func TestEpochsEnd(t *testing.T) {
	p, err := withTargets(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	at, i := time.Unix(1_700_100_000, 0), 0
	pack := func(after time.Duration) uint64 {
		t.Helper()
		at, i = at.Add(after), i+1
		if _, err := p.Pack([]bundle.Article{story(i)}, at); err != nil {
			t.Fatal(err)
		}
		return p.editions[len(p.editions)-1].leaf.Epoch
	}
	if got := pack(0); got != 0 {
		t.Fatalf("the first edition is of epoch %d", got)
	}
	if got := pack(leastEpoch - time.Second); got != 0 {
		t.Errorf("epoch %d within a day", got)
	}
	ends := p.keys.Renew
	dir := p.dir
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, dir)
	if !p.keys.Renew.Equal(ends) {
		t.Errorf("it ended %v, now %v", ends, p.keys.Renew)
	}
	if got := pack(ends.Sub(at) - time.Second); got != 0 {
		t.Errorf("epoch %d before its end", got)
	}
	if got := pack(time.Second); got != 1 {
		t.Errorf("epoch %d after its end", got)
	}
	if got := p.keys.Renew.Sub(at); got < leastEpoch {
		t.Errorf("the next one lasts %v", got)
	}
	// Lengths are drawn: not all alike.
	lengths := map[time.Duration]bool{}
	for range 20 {
		p.keys.Renew = at
		if err := p.renew(at); err != nil {
			t.Fatal(err)
		}
		lengths[p.keys.Renew.Sub(at)] = true
	}
	if len(lengths) < 15 {
		t.Errorf("%d different lengths of 20", len(lengths))
	}
}

// A clock that was ten years ahead once ends neither the window nor the changing of
// epochs; the next packing with it, and the one after it, says that it looks wrong.
func TestClockWasAhead(t *testing.T) {
	p, err := withTargets(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_100_000, 0)
	for i, c := range []struct {
		at      time.Time
		strange bool
	}{{at, false}, {at.Add(time.Hour), false}, {at.AddDate(10, 0, 0), true}, {at.Add(2 * time.Hour), true}} {
		if _, strange := p.Pause(c.at); strange != c.strange {
			t.Errorf("edition %d: strange %v", i, strange)
		}
		if _, err := p.Pack([]bundle.Article{story(i)}, c.at); err != nil {
			t.Fatal(err)
		}
		if f := p.Front(); len(f.Past) != i || len(f.Articles) != i+1 {
			t.Errorf("edition %d leads to %d others, and has %d headlines", i, len(f.Past), len(f.Articles))
		}
		if p.keys.Renew.Sub(c.at) > longestEpoch {
			t.Errorf("edition %d: its epoch ends on %v", i, p.keys.Renew)
		}
	}
}

// outside is what anybody sees of an edition: what is in its file, how large, and
// which grants are others than in the edition before.
type outside struct {
	Epoch   uint64
	Files   map[string]int64
	Grants  []int    // sizes
	Headers []string // of the grants, the same for each
	Changed int
}

// lookAt reads edition n's file without any key, as a relay would. grants are those
// of the edition before, by name.
func lookAt(t *testing.T, p *Publisher, n uint64, grants map[string][]byte) (outside, map[string][]byte) {
	t.Helper()
	f, _, err := p.Source(n)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.Intro()
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[cid.Cid][]byte{}
	for {
		b, err := r.Next()
		if err != nil {
			break
		}
		blocks[b.CID] = bytes.Clone(b.Data)
	}
	h, err := p.roots.Head(in.Head)
	if err != nil {
		t.Fatal(err)
	}
	o := outside{Epoch: h.Epoch, Files: map[string]int64{}}
	d, err := bundle.ParseDirectory(h.Root, blocks[h.Root])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range d.Layers {
		if name != bundle.LayerText { // as long as its words; nothing else is in it
			o.Files[name] = int64(len(blocks[c]))
		}
	}
	links, err := bundle.ParseFolder(d.Grants, blocks[d.Grants])
	if err != nil {
		t.Fatal(err)
	}
	o.Files["blocks"], o.Files["folder of grants"] = int64(len(blocks)), int64(len(blocks[d.Grants]))
	now := map[string][]byte{}
	for _, l := range links {
		g := blocks[l.CID]
		now[l.Name] = g
		o.Grants = append(o.Grants, len(g))
		o.Headers = append(o.Headers, string(g[:len("age-encryption.org/v1\n-> mlkem768x25519 ")]))
		if !bytes.Equal(grants[l.Name], g) {
			o.Changed++
		}
	}
	return o, now
}

// After so many revocations an edition looks as after so many epochs that ended by
// themselves: nobody can count the batches that were revoked, or handed out, and when
// something changes for the others the grants of those don't stay as they were. Nor
// does it show on editions without news.
func TestNobodyCountsRevocations(t *testing.T) {
	for _, revoked := range []int{1, 12} {
		var seen [2][]outside
		for i, quiet := range []bool{true, false} {
			p, err := withTargets(t, 2)
			if err != nil {
				t.Fatal(err)
			}
			var grants map[string][]byte
			at := time.Unix(1_700_100_000, 0)
			pack := func(what string, news ...bundle.Article) {
				t.Helper()
				at = at.Add(time.Minute)
				if _, err := p.Pack(news, at); err != nil {
					t.Fatalf("%d revoked, quiet %v, %s: %v", revoked, quiet, what, err)
				}
				var o outside
				o, grants = lookAt(t, p, p.Size()-1, grants)
				seen[i] = append(seen[i], o)
				if all := len(p.keys.Batches); o.Changed != 0 && o.Changed != all || len(o.Grants) != all {
					t.Errorf("%d revoked, %s: %d of %d grants changed", revoked, what, o.Changed, all)
				}
			}
			next := func(n int) {
				t.Helper()
				if quiet {
					p.keys.Renew = at
					return
				}
				name := fmt.Sprint("batch ", n)
				invited(t, p, name)
				if err := p.Revoke(name); err != nil {
					t.Fatal(err)
				}
			}
			pack("first", story(1))
			for n := range revoked {
				next(n)
				pack("without news")
			}
			pack("with nothing else new", story(2))
			cfg := p.Config()
			cfg.Gateways = []string{"https://gateway.example"}
			if err := p.Configure(cfg); err != nil {
				t.Fatal(err)
			}
			pack("with another way in", story(3))
			next(revoked)
			pack("in another epoch", story(4))
		}
		for _, n := range []int{1, revoked + 2, revoked + 3} {
			if seen[1][n].Changed == 0 {
				t.Errorf("edition %d: no grant changed: this test tells nothing", n)
			}
		}
		if seen[1][revoked+1].Changed != 0 {
			t.Error("grants changed though nothing did")
		}
		if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
			t.Errorf("%d revoked (-none, +revoked):\n%s", revoked, diff)
		}
	}
}

// A revoked batch opens what it could, and nothing that was packed since, whatever
// happens to the others later.
func TestRevokedOpensWhatItCould(t *testing.T) {
	p, err := withTargets(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	leaked, kept := invited(t, p, "leaked"), invited(t, p, "kept")
	oneEpoch(p)
	opens := func(seed channel.Seed) (out []uint64) {
		t.Helper()
		for n := range p.Size() {
			g, _ := grantFor(t, p, seed)
			leaf := p.editions[n].leaf
			if slices.ContainsFunc(g.Epochs, func(e channel.Epoch) bool { return e.Number == leaf.Epoch && e.Key == p.keys.Epochs[leaf.Epoch] }) {
				out = append(out, n)
			}
		}
		return out
	}
	packStory(t, p, 1)
	p.keys.newEpoch()
	packStory(t, p, 2)
	if err := p.Revoke("leaked"); err != nil {
		t.Fatal(err)
	}
	packStory(t, p, 3)
	p.keys.newEpoch()
	packStory(t, p, 4)
	if got := opens(leaked); !slices.Equal(got, []uint64{0, 1}) {
		t.Errorf("the revoked batch opens the editions %v", got)
	}
	if got := opens(kept); !slices.Equal(got, []uint64{0, 1, 2, 3}) {
		t.Errorf("the other one opens the editions %v", got)
	}
}

// More batches are made when publisher.toml asks for them, and those that there are
// stay; every edition has a grant for each.
func TestMoreBatches(t *testing.T) {
	p, err := withTargets(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	first := invited(t, p, "first")
	for n := 1; n < leastBatches; n++ {
		invited(t, p, fmt.Sprint(n))
	}
	if _, err := p.Invite("one more"); err == nil || !strings.Contains(err.Error(), "all 16 batches are handed out or revoked") {
		t.Errorf("the seventeenth: %v", err)
	}
	packStory(t, p, 1)
	for _, c := range []struct{ want, have int }{{32, 32}, {16, 32}, {128, 128}} {
		cfg := p.Config()
		cfg.Batches = c.want
		if err := p.Configure(cfg); err != nil {
			t.Fatal(err)
		}
		dir := p.dir
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p = reopen(t, dir)
		grown := c.want == c.have
		if _, err := p.Pack(nil, time.Unix(1_700_101_000, 0)); grown != (err == nil) || !grown && !errors.Is(err, ErrNothingNew) {
			t.Errorf("%d batches asked for, without news: %v", c.want, err)
		}
		o, _ := lookAt(t, p, p.Size()-1, nil)
		if len(o.Grants) != c.have || slices.Min(o.Grants) != slices.Max(o.Grants) || invited(t, p, "first") != first {
			t.Errorf("%d batches asked for: %d grants of %d to %d bytes", c.want, len(o.Grants), slices.Min(o.Grants), slices.Max(o.Grants))
		}
	}
	cfg := p.Config()
	cfg.Batches = 17
	if err := p.Configure(cfg); err == nil || !strings.Contains(err.Error(), "16, 32, 64 or 128") {
		t.Errorf("seventeen: %v", err)
	}
}
