package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/transport"
)

// counted answers truthfully and counts what was asked for, by name.
type counted struct {
	mu    sync.Mutex
	asked map[string]int
	truth func(req []byte, tcp bool) [][]byte
}

func (c *counted) answer(req []byte, tcp bool) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[strings.ToLower(string(req[headerLen:questionEnd(req)]))]++
	return c.truth(req, tcp)
}

// total is how many questions there were, and for how many names.
func (c *counted) total() (all, names int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.asked {
		all += n
	}
	return all, len(c.asked)
}

// Whoever has a few seconds of DNS at a time, and is restarted each time, gets a
// block all the same, and asks for next to nothing twice: the records above a block,
// and what was on its way.
func TestResumesAcrossRuns(t *testing.T) {
	for _, small := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			truth, patience := w.honest(), 1500*time.Millisecond
			if small {
				patience = 8 * time.Second
				truth = func(req []byte, tcp bool) [][]byte {
					out := w.honest()(req, tcp)
					if len(out[0]) > plainSize {
						cut := withCode(req, 0)
						cut[2] |= 2
						return [][]byte{cut}
					}
					return out
				}
			}
			n := &counted{asked: map[string]int{}, truth: truth}
			nw := &fakeNet{rtt: 20 * time.Millisecond, answer: n.answer, noTCP: small}
			kept := &keeper{}
			want := wantOf("text", w.e.Text[1].Data, false, 0)
			runs, came := 0, false
			for !came && runs < 50 {
				runs++
				c := poolClient(t, nw, PoolConfig{Keeper: kept, Key: "here"}, addr1)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				for b, err := range c.Fetch(ctx, transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
					came = err == nil && len(b.Data) == want.Size
				}
				cancel()
				time.Sleep(time.Hour)
			}
			all, names := n.total()
			again := all - names
			if small {
				again -= 16 * runs // Large ones that don't come
			}
			if !came || runs < 2 || again > 8*runs {
				t.Errorf("small %v: it came: %v, after %d runs; %d questions for %d names", small, came, runs, all, names)
			}
			t.Logf("small %v: %d runs; %d questions for %d names", small, runs, all, names)
			for key := range kept.m {
				if strings.HasPrefix(key, "dns/half/") {
					t.Error("what is whole is still kept")
				}
			}
		})
	}
}

// What was kept is checked like what comes: spoiled, it is as if it were not there.
func TestHalfSpoiled(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"nothing":       func([]byte) []byte { return nil },
		"junk":          func([]byte) []byte { return random("junk", 60000) },
		"a bit flipped": func(b []byte) []byte { b[700] ^= 1; return b },
		"cut off":       func(b []byte) []byte { return b[:len(b)-3] },
		"too long":      func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, 0xffff), b...) },
		"far too long": func(b []byte) []byte {
			for len(b) < 1<<20 {
				b = append(b, b...)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				nw := &fakeNet{rtt: 20 * time.Millisecond, answer: w.honest()}
				kept := &keeper{}
				c := poolClient(t, nw, PoolConfig{Keeper: kept}, addr1)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				want := wantOf("text", w.e.Text[1].Data, false, 0)
				for range c.Fetch(ctx, transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
				}
				found := false
				for key, b := range kept.m {
					if strings.HasPrefix(key, "dns/half/") {
						found = true
						kept.m[key] = spoil(b)
					}
				}
				if !found {
					t.Fatal("nothing was kept")
				}
				again := poolClient(t, nw, PoolConfig{Keeper: kept}, addr1)
				for b, err := range again.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
					if err != nil || !bytes.Equal(b.Data, w.e.Text[1].Data) {
						t.Errorf("%d bytes, %v", len(b.Data), err)
					}
				}
			})
		})
	}
}
