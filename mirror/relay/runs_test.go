package relay

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// A reader near a relay has an edition's pictures in a few CARs, over QUIC and TCP
// alike. Where one breaks off at a block that has rotted, the others come all the same.
func TestPicturesInRuns(t *testing.T) {
	for name, rotten := range map[string]bool{"sound": false, "a block has rotted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { picturesInRuns(t, rotten) })
		})
	}
}

func picturesInRuns(t *testing.T, rotten bool) {
	var cars atomic.Int64
	w := newWorld(t) // on a real net a busy machine makes the line a slow one
	p := newPress(t, "runs")
	r := w.relay(1, Config{Hooks: Hooks{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Query().Get("format") == "car" {
				cars.Add(1)
			}
			next.ServeHTTP(w, req)
		})
	}}})
	s := p.edition(t, 1_900_000)
	tg := target(t, r.Relay, p.ch)
	if err := pusher(t, w.desk, tg).Publish(t.Context(), s.source(), nil); err != nil {
		t.Fatal(err)
	}
	bad := cid.Undef
	if leaves, _ := leavesOf(s); rotten {
		bad = leaves[25]
		e := r.store.snapshot(p.ch)[0]
		flip(t, e.path, e.index[bad.KeyString()].off+7)
	}
	blocks := map[cid.Cid][]byte{}
	for _, b := range s.packed.Blocks {
		blocks[b.CID] = b.Data
	}
	v := &bundle.Volume{Channel: p.ch, Edition: s.head.Edition, Root: s.head.Root, Get: func(c cid.Cid) ([]byte, error) { return blocks[c], nil }}
	wants, ok, err := v.Layer(bundle.LayerMedia)
	if err != nil || !ok || len(wants) < 28 {
		t.Fatal(len(wants), err)
	}
	for _, path := range paths(t, w.desk, tg.Relay(p.batch))[:2] {
		cars.Store(0)
		for range 2 { // what the line brings is known only afterwards
			got := 0
			for b, err := range path.Blocks.Fetch(t.Context(), transport.Request{Wants: wants}) {
				var we *transport.WantError
				switch {
				case errors.As(err, &we) && we.CID == bad:
				case err != nil || bundle.CheckBlock(b.CID, b.Data) != nil || b.CID == bad:
					t.Errorf("%s: %v", path.Kind, err)
				default:
					got++
				}
			}
			if all := len(wants) - map[bool]int{true: 1}[rotten]; got != all {
				t.Errorf("%s: %d blocks of %d", path.Kind, got, all)
			}
		}
		if cars.Load() == 0 {
			t.Errorf("%s: no CAR is asked for", path.Kind)
		}
	}
}
