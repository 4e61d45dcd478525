package dns

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// A list of all kinds of resolvers: what is found is what works, the best first,
// with what it carries, and what is dead costs little time and few questions.
func TestScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		truncating := func(req []byte, tcp bool) [][]byte {
			out := truth(req, tcp)
			if len(out[0]) > plainSize && !tcp {
				cut := withCode(req, 0)
				cut[2] |= 2
				return [][]byte{cut}
			}
			return out
		}
		upper := func(req []byte, tcp bool) [][]byte {
			resp := truth(req, tcp)[0]
			end := questionEnd(resp) - 5
			copy(resp[headerLen:end], bytes.ToUpper(resp[headerLen:end]))
			return [][]byte{resp}
		}
		short := func(most int) func(req []byte, tcp bool) [][]byte {
			return func(req []byte, tcp bool) [][]byte {
				if questionEnd(req)-headerLen-6 > most {
					return nil
				}
				return truth(req, tcp)
			}
		}
		plain := len(w.ch.RootLabel(1)) + 1 + len(testZone)
		kinds := []struct {
			name  string
			n     *fakeNet
			works bool
			check func(f Facts) bool
		}{
			{"good", &fakeNet{rtt: 30 * time.Millisecond, answer: truth}, true, func(f Facts) bool {
				return f.Size > 1000 && f.Small.IsZero() && !f.Recases && f.Drops == 0 && f.Limit == 0 && f.Rate >= scanLeaves
			}},
			{"slow", &fakeNet{rtt: 600 * time.Millisecond, answer: truth}, true, func(f Facts) bool { return f.Size > 1000 && f.RTT > 500*time.Millisecond }},
			{"over TCP", &fakeNet{rtt: 30 * time.Millisecond, answer: truncating}, true, func(f Facts) bool { return f.Stream > 1000 && f.Size <= plainSize && f.Small.IsZero() }},
			{"small", &fakeNet{rtt: 30 * time.Millisecond, answer: truncating, noTCP: true}, true, func(f Facts) bool { return !f.Small.IsZero() && f.Size <= plainSize }},
			{"in capitals", &fakeNet{rtt: 30 * time.Millisecond, answer: upper}, true, func(f Facts) bool { return f.Recases && f.Size > 1000 }},
			{"drops long names", &fakeNet{rtt: 30 * time.Millisecond, answer: short(plain + 2)}, true, func(f Facts) bool {
				return f.Size > 1000 && f.Small.IsZero() && f.Name == plain && f.Drops == inFront+plain
			}},
			{"dead", &fakeNet{rtt: 30 * time.Millisecond, answer: func([]byte, bool) [][]byte { return nil }}, false, nil},
			{"refuses", &fakeNet{rtt: 30 * time.Millisecond, answer: func(req []byte, _ bool) [][]byte { return [][]byte{withCode(req, 5)} }}, false, nil},
			{"denies", &fakeNet{rtt: 30 * time.Millisecond, answer: func(req []byte, _ bool) [][]byte { return [][]byte{withCode(req, 3)} }}, false, nil},
			{"lies", &fakeNet{rtt: 30 * time.Millisecond, answer: func(req []byte, _ bool) [][]byte { return [][]byte{withTXT(req, random("lie", 300))} }}, false, nil},
			{"lies in our format", &fakeNet{rtt: 30 * time.Millisecond, answer: liar(false)}, false, nil},
			{"lies to the last leaf", &fakeNet{rtt: 30 * time.Millisecond, answer: liar(true)}, false, nil},
			{"redirects", &fakeNet{rtt: 30 * time.Millisecond, answer: func(req []byte, _ bool) [][]byte { return [][]byte{withA(req)} }}, false, nil},
			{"drops all names", &fakeNet{rtt: 30 * time.Millisecond, answer: short(plain - 1)}, false, nil},
		}
		nw := &manyNet{many: many{}}
		var addrs []Address
		for i, k := range kinds {
			a, err := ParseResolver(fmt.Sprintf("192.0.2.%d", i+1))
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, a)
			nw.many[a.dial()] = k.n
		}
		found := make([]Facts, len(kinds))
		began := time.Now()
		err := Scan(t.Context(), ScanConfig{Network: nw, Zones: []string{testZone}, Channel: w.ch}, slices.Values(addrs), func(i int, f Facts) { found[i] = f })
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("took %v", d)
		}
		for i, k := range kinds {
			f, n := found[i], k.n.queries.Load()
			if (f.Score() > 0) != k.works || k.works && !k.check(f) || f.Resolver != addrs[i].String() || !f.Found {
				t.Errorf("%s: %+v", k.name, f)
			}
			most := map[bool]int64{true: 40, false: 5}[k.works]
			if strings.HasPrefix(k.name, "lies ") { // it has to be asked for what it says there is
				most = 40
			}
			if n > most || n == 0 {
				t.Errorf("%s was asked %d questions", k.name, n)
			}
		}

		// Later runs ask those that work.
		kept := &keeper{}
		all := Merge(kept, "here", found)
		if len(all) != 6 || all[0].Resolver == addrs[1].String() || !all[5].Found {
			t.Errorf("%+v", all)
		}
		again := Merge(kept, "here", found[:1])
		if len(again) != 6 {
			t.Errorf("a second scan leaves %d", len(again))
		}
		pool := NewPool(PoolConfig{Network: nw, Keeper: kept, Key: "here"})
		if got := pool.Found(2); len(got) != 2 || got[0] != all[0].Resolver {
			t.Errorf("%v", got)
		}
		c, err := NewClient(ClientConfig{Pool: pool, Zone: testZone, Resolvers: pool.Found(16)})
		if err != nil {
			t.Fatal(err)
		}
		w.heads(t.Context(), c)
		w.fetchAll(t.Context(), c)
		c.probes.Wait()
		time.Sleep(time.Minute)
	})
}

// liar is a resolver that knows the format, and answers each question with a well-formed
// piece of its own, with all that is under it or without.
func liar(leaves bool) func(req []byte, tcp bool) [][]byte {
	tree := map[string][]byte{}
	tops := map[record.Class][]byte{}
	for _, class := range record.Classes {
		t := record.NewTree(class, random("note", 1500))
		tops[class] = txtData(class, t.Top())
		for _, rec := range t.All() {
			if leaves {
				tree[record.NameOf(rec).Label()] = txtData(class, rec)
			}
		}
	}
	return func(req []byte, _ bool) [][]byte {
		class := record.Large
		if req[11] == 0 {
			class = record.Small
		}
		if rec := tree[string(bytes.ToLower(req[headerLen+1:headerLen+1+int(req[headerLen])]))]; rec != nil {
			return [][]byte{withTXT(req, rec)}
		}
		return [][]byte{withTXT(req, tops[class])}
	}
}

// A root note of more than one record is looked at, too, in either class.
func TestScanLongNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		root := *w.roots().Last()
		root.Quorum = 1
		for i := range 16 {
			key := ed25519.NewKeyFromSeed(random(fmt.Sprint("witness", i), 32)).Public().(ed25519.PublicKey)
			root.Witnesses = append(root.Witnesses, channel.Witness{Name: fmt.Sprintf("witness-%d.example", i), Key: key})
		}
		var err error
		if w.note, err = root.Sign(w.keys[0]); err != nil {
			t.Fatal(err)
		}
		w.ch = channel.IDOf(root.Text())
		w.publish(0, random("directory", 900), random("front", 16384))
		if len(w.note) <= record.Large.Payload() {
			t.Fatalf("a note of %d bytes", len(w.note))
		}
		truth := w.honest()
		for i, answer := range []func(req []byte, tcp bool) [][]byte{truth, func(req []byte, tcp bool) [][]byte {
			if req[11] != 0 {
				return nil // drops EDNS
			}
			return truth(req, tcp)
		}} {
			addrs, err := ParseResolvers([]string{addr1})
			if err != nil {
				t.Fatal(err)
			}
			var found Facts
			cfg := ScanConfig{Network: &fakeNet{rtt: 30 * time.Millisecond, answer: answer}, Zones: []string{testZone}, Channel: w.ch}
			if err := Scan(t.Context(), cfg, slices.Values(addrs), func(_ int, f Facts) { found = f }); err != nil {
				t.Fatal(err)
			}
			if found.Score() == 0 || found.Small.IsZero() != (i == 0) {
				t.Errorf("%+v", found)
			}
		}
	})
}

// Where one zone is blocked, by a lie or by silence, the next one tells what a
// resolver is worth.
func TestScanBlockedZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		blocked := func(lie func(req []byte) [][]byte) *fakeNet {
			return &fakeNet{rtt: 30 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
				if bytes.Contains(bytes.ToLower(req), []byte("\x07blocked\x04test\x00")) {
					return lie(req)
				}
				return truth(req, tcp)
			}}
		}
		nw := &manyNet{many: many{
			addr1: blocked(func(req []byte) [][]byte { return [][]byte{withCode(req, 3)} }),
			addr2: blocked(func([]byte) [][]byte { return nil }),
			addr3: {answer: func([]byte, bool) [][]byte { return nil }},
		}}
		addrs, err := ParseResolvers([]string{addr1, addr2, addr3})
		if err != nil {
			t.Fatal(err)
		}
		found := make([]Facts, len(addrs))
		cfg := ScanConfig{Network: nw, Zones: []string{"blocked.test", testZone}, Channel: w.ch}
		if err := Scan(t.Context(), cfg, slices.Values(addrs), func(i int, f Facts) { found[i] = f }); err != nil {
			t.Fatal(err)
		}
		for i, works := range []bool{true, true, false} {
			if f := found[i]; (f.Score() > 0) != works || f.Resolver != addrs[i].String() || !f.Found {
				t.Errorf("%+v", f)
			}
		}
		if n := nw.many[addr3].queries.Load(); n > 10 {
			t.Errorf("a dead one was asked %d questions", n)
		}
	})
}

// Politeness: no more than so many new ones a second, however many are dead; and a
// scan that is stopped has told what it knew.
func TestScanPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nw := &fakeNet{rtt: 30 * time.Millisecond, answer: func([]byte, bool) [][]byte { return nil }}
		addrs := func(yield func(Address) bool) {
			for i := range 100_000 {
				a := Address{Host: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), Port: 53}
				if !yield(a) {
					return
				}
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := 0
		err := Scan(ctx, ScanConfig{Network: nw, Zones: []string{testZone}, Channel: w.ch}, addrs, func(int, Facts) { done++ })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// 64 at once, 3.3 s each: that many, and no more than 20 a second.
		if done < 800 || done > 61*scanRate {
			t.Errorf("%d in a minute", done)
		}
		if n := nw.queries.Load(); n > int64(4*(done+scanAtOnce)) {
			t.Errorf("%d questions", n)
		}
	})
	for _, cfg := range []ScanConfig{{}, {Network: &fakeNet{}}, {Zones: []string{testZone}}, {Network: &fakeNet{}, Zones: []string{testZone, "no zone"}}} {
		if err := Scan(t.Context(), cfg, slices.Values([]Address{{Host: "192.0.2.1", Port: 53}}), func(int, Facts) {}); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
	var _ transport.Network = (*manyNet)(nil)
}
