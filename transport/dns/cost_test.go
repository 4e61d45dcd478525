package dns

import (
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/transport"
)

// What an estimate says beforehand is about what it took afterwards.
func TestCost(t *testing.T) {
	for name, tc := range map[string]struct {
		small, lossy bool
	}{"large": {}, "small": {small: true}, "a fifth lost": {lossy: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				truth, k := w.honest(), 0
				n := &counted{asked: map[string]int{}, truth: func(req []byte, tcp bool) [][]byte {
					out := truth(req, tcp)
					if k++; tc.lossy && k%5 == 0 {
						return nil
					}
					if tc.small && len(out[0]) > plainSize {
						cut := withCode(req, 0)
						cut[2] |= 2
						return [][]byte{cut}
					}
					return out
				}}
				nw := &fakeNet{rtt: 50 * time.Millisecond, answer: n.answer, noTCP: true}
				c := poolClient(t, nw, PoolConfig{}, addr1)
				fetch := func(i int, off int64) {
					want := wantOf("text", w.e.Text[i].Data, false, off)
					for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				fetch(1, 0) // it learns what is carried
				before, _ := n.total()
				cost, began := c.Cost(nextBlock), time.Now()
				fetch(2, firstBlock)
				after, _ := n.total()
				took := time.Since(began)
				near := func(what string, said, was float64) {
					if said < 0.75*was || said > 1.35*was {
						t.Errorf("%s: said %.1f, was %.1f", what, said, was)
					}
				}
				near("questions", float64(cost.Queries), float64(after-before))
				near("seconds", cost.Time.Seconds(), took.Seconds())
				if cost.Down < nextBlock || cost.Up < 60*cost.Queries || cost.Up > 120*cost.Queries {
					t.Errorf("%+v", cost)
				}
				if !tc.small && float64(cost.Down) > 1.2*nextBlock {
					t.Errorf("%d bytes down for %d", cost.Down, nextBlock)
				}
			})
		})
	}
	w := newWorld(t)
	c := poolClient(t, &fakeNet{answer: w.honest()}, PoolConfig{}, addr1)
	if (c.Cost(0) != transport.Cost{} || c.Cost(-1) != transport.Cost{}) {
		t.Error("nothing costs something")
	}
	if cost := c.Cost(1 << 20); cost.Time < 90*time.Second || cost.Time > 130*time.Second { // at ten a second
		t.Errorf("%+v", cost)
	}
}
