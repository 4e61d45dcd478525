package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// honest answers like the server behind an ideal resolver.
func (w *world) honest() func(req []byte, tcp bool) [][]byte {
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone, Serial: 1}}, Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	return func(req []byte, tcp bool) [][]byte {
		limit := 0
		if tcp {
			limit = 0xffff
		}
		return [][]byte{srv.respond(context.Background(), req, nil, peer{stream: tcp, limit: limit})}
	}
}

func (w *world) fakeClient(n *fakeNet, hurry bool) *Client {
	w.t.Helper()
	c, err := NewClient(ClientConfig{Network: n, Zone: testZone, Resolvers: []string{"192.0.2.1:53"}, Hurry: hurry})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// questionEnd is where the question section of a message with one ends.
func questionEnd(msg []byte) int { return bytes.IndexByte(msg[headerLen:], 0) + headerLen + 5 }

// withTXT is a response to req that answers with one TXT record of any bytes.
func withTXT(req, data []byte) []byte {
	end := questionEnd(req)
	w := reply{buf: bytes.Clone(req[:end]), q: &question{raw: req[headerLen:end], size: 0xffff}}
	w.buf[2], w.buf[3], w.buf[11] = 0x84, 0, 0
	w.rrHead(headerLen, 16, 60)
	w.buf = appendTXT(w.buf, data)
	w.buf[7] = 1
	return w.buf
}

// withCode is an empty response to req.
func withCode(req []byte, rcode byte) []byte {
	b := bytes.Clone(req[:questionEnd(req)])
	b[2], b[3], b[11] = 0x84, rcode, 0
	return b
}

func withA(req []byte) []byte {
	end := questionEnd(req)
	w := reply{buf: bytes.Clone(req[:end])}
	w.buf[2], w.buf[3], w.buf[7], w.buf[11] = 0x84, 0, 1, 0
	w.rr(headerLen, 1, 300, []byte{192, 0, 2, 66})
	return w.buf
}

// Each of these does what some resolver or injector on the way does; everything
// must come nevertheless, and be what was published.
func TestHostile(t *testing.T) {
	type answerer = func(req []byte, tcp bool) [][]byte
	udpOnly := func(truth answerer, spoil func(req, resp []byte) [][]byte) answerer {
		return func(req []byte, tcp bool) [][]byte {
			out := truth(req, tcp)
			if tcp {
				return out
			}
			return spoil(req, out[0])
		}
	}
	before := func(forge func(req []byte) []byte) func(req, resp []byte) [][]byte {
		return func(req, resp []byte) [][]byte { return [][]byte{forge(req), resp} }
	}
	truncated := func(req, resp []byte) [][]byte {
		if len(resp) <= plainSize {
			return [][]byte{resp}
		}
		cut := withCode(req, 0)
		cut[2] |= 2
		return [][]byte{cut}
	}
	cases := []struct {
		name  string
		noTCP bool
		spoil func(req, resp []byte) [][]byte
	}{
		{"forged record first", false, before(func(req []byte) []byte { return withTXT(req, []byte("\x00forged")) })},
		{"forged list first", false, before(func(req []byte) []byte {
			return withTXT(req, record.NewTree(record.Large, random("x", 3000)).Top())
		})},
		{"forged address first", false, before(withA)},
		{"forged NXDOMAIN first", false, before(func(req []byte) []byte { return withCode(req, 3) })},
		{"forged empty answer first", false, before(func(req []byte) []byte { return withCode(req, 0) })},
		{"forged refusal first", false, before(func(req []byte) []byte { return withCode(req, 5) })},
		{"forged truncation first", true, before(func(req []byte) []byte { b := withCode(req, 0); b[2] |= 2; return b })},
		{"wrong id first", false, before(func(req []byte) []byte { b := withTXT(req, []byte("x")); b[0] ^= 1; return b })},
		{"wrong question first", false, before(func(req []byte) []byte { b := withTXT(req, []byte("x")); b[headerLen+3] ^= 1; return b })},
		{"query echoed first", false, before(func(req []byte) []byte { return req })},
		{"garbage first", false, before(func(req []byte) []byte { return append(bytes.Clone(req[:2]), random("junk", 300)...) })},
		{"empty datagram first", false, before(func([]byte) []byte { return nil })},
		{"too large first", false, before(func(req []byte) []byte { return withTXT(req, make([]byte, 8000)) })},
		{"cut off first", false, before(func(req []byte) []byte { b := withTXT(req, make([]byte, 500)); return b[:len(b)-100] })},
		{"a thousand forged first", false, func(req, resp []byte) [][]byte {
			var out [][]byte
			for i := range 1000 {
				out = append(out, withTXT(req, random(string(rune(i)), 50)))
			}
			return append(out, resp)
		}},
		{"every answer twice", false, func(_, resp []byte) [][]byte { return [][]byte{resp, resp} }},
		{"letter case changed", false, func(_, resp []byte) [][]byte {
			end := questionEnd(resp)
			copy(resp[headerLen:end-5], bytes.ToUpper(resp[headerLen:end-5]))
			return [][]byte{resp}
		}},
		{"truncates over 512", false, truncated},
		{"truncates over 512, no tcp", true, truncated},
		{"drops over 512", false, func(_, resp []byte) [][]byte {
			if len(resp) > plainSize {
				return nil
			}
			return [][]byte{resp}
		}},
		{"cuts over 512 without a word", false, func(_, resp []byte) [][]byte { return [][]byte{resp[:min(len(resp), plainSize)]} }},
		{"spoils bytes over 127", false, func(_, resp []byte) [][]byte {
			txt := questionEnd(resp) + 10
			if resp[7] == 0 {
				return [][]byte{resp}
			}
			end := txt + 2 + int(binary.BigEndian.Uint16(resp[txt:]))
			for i := txt + 2; i < end; i++ {
				for n := int(resp[i]); n > 0; n-- {
					if i++; resp[i] > 127 {
						resp[i] = '?'
					}
				}
			}
			return [][]byte{resp}
		}},
		{"drops queries with edns", false, func(req, resp []byte) [][]byte {
			if req[11] != 0 {
				return nil
			}
			return [][]byte{resp}
		}},
		{"fails on edns", false, func(req, resp []byte) [][]byte {
			if req[11] != 0 {
				return [][]byte{withCode(req, 1)}
			}
			return [][]byte{resp}
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, noTCP: tc.noTCP, answer: udpOnly(w.honest(), tc.spoil)}, true)
				w.heads(t.Context(), c)
				w.fetchAll(t.Context(), c)
				n := 0
				for _, err := range w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, noTCP: tc.noTCP, answer: udpOnly(w.honest(), tc.spoil)}, true).
					Open(t.Context(), transport.Ask{Channel: w.ch, Grant: w.grant}) {
					if err != nil {
						t.Fatal(err)
					}
					n++
				}
				if n != 5 {
					t.Errorf("opening had %d pieces", n)
				}
			})
		})
	}
}

// Whoever says at once that there is no such name keeps nobody from hearing what takes
// its time, of whom nothing was ever heard.
func TestForgedNo(t *testing.T) {
	for _, rtt := range []time.Duration{50, 150, 300, 600} {
		for _, rcode := range []byte{0, 3} {
			for _, resolvers := range [][]string{{addr1}, {addr1, addr2, addr3}} {
				t.Run(fmt.Sprintf("%d ms, code %d, %d resolvers", rtt, rcode, len(resolvers)), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						n := &fakeNet{
							rtt: rtt * time.Millisecond, answer: w.honest(),
							early: func(req []byte) [][]byte { return [][]byte{withCode(req, rcode)} },
						}
						c, err := NewClient(ClientConfig{Network: n, Zone: testZone, Resolvers: resolvers, Hurry: true})
						if err != nil {
							t.Fatal(err)
						}
						w.heads(t.Context(), c)
						w.fetchAll(t.Context(), c)
						for _, r := range c.resolvers {
							if len(resolvers) == 1 && !r.known() {
								t.Error("answers, and is a stranger still")
							}
						}
						c.probes.Wait()
					})
				})
			}
		}
	}
}

// What is not there costs the patience for one answer, of one resolver that says so and
// of several; of one that is known that is little more than a round trip.
func TestTrueNo(t *testing.T) {
	for n, resolvers := range [][]string{{addr1}, {addr1, addr2, addr3}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			rtt := 50 * time.Millisecond
			c, err := NewClient(ClientConfig{Network: &fakeNet{rtt: rtt, answer: w.honest()}, Zone: testZone, Resolvers: resolvers, Hurry: true})
			if err != nil {
				t.Fatal(err)
			}
			absent := func() time.Duration {
				began := time.Now()
				if _, err := c.Grant(t.Context(), w.ch, record.NameOf([]byte("no grant")).Label()); !errors.Is(err, transport.ErrNotFound) {
					t.Error(err)
				}
				return time.Since(began)
			}
			if d := absent(); d < firstTimeout || d > firstTimeout+time.Duration(2*n)*(rtt+minGrace) {
				t.Errorf("of %d strangers: %v", len(resolvers), d)
			}
			w.heads(t.Context(), c)
			w.fetchAll(t.Context(), c)
			c.probes.Wait()
			if d := absent(); n == 0 && d > minTimeout || n > 0 && d > firstTimeout+10*rtt {
				t.Errorf("of %d, one known: %v", len(resolvers), d)
			}
		})
	}
}

// Where all that comes of one class is spoiled, the other one is turned to after a
// second, and not after one for each question that is spoiled again.
func TestSpoiledSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth, rtt := w.honest(), 50*time.Millisecond
		began := time.Now()
		w.heads(t.Context(), w.fakeClient(&fakeNet{rtt: rtt, noTCP: true, answer: func(req []byte, tcp bool) [][]byte {
			if req[11] != 0 {
				return [][]byte{withTXT(req, []byte("\x00spoiled"))}
			}
			return truth(req, tcp)
		}}, true))
		if d := time.Since(began); d > 3*firstTimeout {
			t.Errorf("after %v", d)
		}
	})
}

// Of every ten answers three are lost, each way alike.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		var n atomic.Uint64
		c := w.fakeClient(&fakeNet{rtt: 80 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
			if k := n.Add(1); (k*2654435761)>>7%10 < 3 {
				return nil
			}
			return truth(req, tcp)
		}}, true)
		w.heads(t.Context(), c)
		w.fetchAll(t.Context(), c)
	})
}

// A resolver that nobody answers at ends in an error, in bounded time.
func TestSilence(t *testing.T) {
	for name, answer := range map[string]func(req []byte, tcp bool) [][]byte{
		"nothing": func([]byte, bool) [][]byte { return nil },
		"refused": func(req []byte, _ bool) [][]byte { return [][]byte{withCode(req, 5)} },
		"forged":  func(req []byte, _ bool) [][]byte { return [][]byte{withTXT(req, random("f", 400))} },
		"always truncated": func(req []byte, _ bool) [][]byte {
			b := withCode(req, 0)
			b[2] |= 2
			return [][]byte{b}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: answer}, true)
				start := time.Now()
				if _, err := c.Grant(t.Context(), w.ch, w.grant); err == nil || errors.Is(err, transport.ErrNotFound) {
					t.Errorf("grant: %v", err)
				}
				if _, err := c.RootNote(t.Context(), w.ch, 1); err == nil || errors.Is(err, transport.ErrNotFound) {
					t.Errorf("root note: %v", err)
				}
				// A head can't be told from forged bytes without root notes: the engine
				// will refuse it. Here it only must end.
				_, _ = c.Head(t.Context(), w.ch, 0)
				wants, _ := w.allWants()
				n := 0
				for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: wants}) {
					if n++; err == nil || errors.As(err, new(*transport.WantError)) || n > 1 {
						t.Errorf("fetch yields %v", err)
					}
				}
				if d := time.Since(start); d > 10*time.Minute {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

// A forger who knows the channel but not its keys can't put a head of his in
// front of the true one.
func TestForgedHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		forged := w.head.Compact()
		forged[len(forged)-1] ^= 1
		headLabel := append([]byte{13}, w.ch.Label()...)
		c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
			out := truth(req, tcp)
			if bytes.Contains(req, headLabel) {
				out = append([][]byte{withTXT(req, forged)}, out...)
			}
			return out
		}}, true)
		w.heads(t.Context(), c)
	})
}

// Whoever replays what the zone said before, ahead of the true answer, keeps
// nobody from hearing it.
func TestReplayedHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth, old := w.honest(), w.head.Compact()
		time.Sleep(3 * 365 * 24 * time.Hour) // the first head is not of these days any more
		w.publish(1, random("dir 2", 100), random("front 2", 4096))
		headLabel := append([]byte{13}, w.ch.Label()...)
		for name, answers := range map[string]func(req, out []byte) [][]byte{
			"first": func(req, out []byte) [][]byte { return [][]byte{withTXT(req, old), out} },
			"twice": func(req, out []byte) [][]byte { return [][]byte{withTXT(req, old), withTXT(req, old), out} },
			"late":  func(req, out []byte) [][]byte { return [][]byte{out, withTXT(req, old)} },
		} {
			c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
				out := truth(req, tcp)
				if bytes.Contains(req, headLabel) {
					return answers(req, out[0])
				}
				return out
			}}, true)
			for have := range uint64(2) {
				if raw, err := c.Head(t.Context(), w.ch, have); err != nil || !bytes.Equal(raw, w.head.Compact()) {
					t.Errorf("replayed %s, %d editions held: %v", name, have, err)
				}
			}
			if _, err := c.Head(t.Context(), w.ch, 2); !errors.Is(err, transport.ErrNoNewer) {
				t.Errorf("replayed %s, all held: %v", name, err)
			}
		}
	})
}

// The same after a rotation of keys, when only a newer root note tells which head is the
// true one; a head that claims a root note which isn't there helps nobody.
func TestReplayedHeadAfterRotation(t *testing.T) {
	for _, before := range []bool{true, false} { // the client has asked before the rotation
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			old := w.head.Compact()
			time.Sleep(3 * 365 * 24 * time.Hour)
			headLabel := append([]byte{13}, w.ch.Label()...)
			truth := w.honest()
			var forged [][]byte
			client := func() *Client {
				return w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: func(req []byte, tcp bool) (out [][]byte) {
					if bytes.Contains(req, headLabel) {
						for _, f := range forged {
							out = append(out, withTXT(req, f))
						}
					}
					return append(out, truth(req, tcp)...)
				}}, true)
			}
			c := client()
			if before {
				w.heads(t.Context(), c)
			}
			w.rotate()
			w.publish(1, random("dir 2", 100), random("front 2", 4096))
			claim := w.head.Compact()
			claim[3] = 99 // after version, edition and epoch
			for i := range byte(20) {
				claim[len(claim)-1] = i
				forged = append(forged, bytes.Clone(claim))
			}
			forged = append(forged, old)
			for have := range uint64(2) {
				if !before {
					c = client()
				}
				if raw, err := c.Head(t.Context(), w.ch, have); err != nil || !bytes.Equal(raw, w.head.Compact()) {
					t.Errorf("asked before: %v, %d editions held: %v", before, have, err)
				}
			}
			if _, err := c.Head(t.Context(), w.ch, 2); !errors.Is(err, transport.ErrNoNewer) {
				t.Errorf("asked before: %v, all held: %v", before, err)
			}
			var kinds []transport.PieceKind
			for p, err := range client().Open(t.Context(), transport.Ask{Channel: w.ch, Have: 1, Root: 1}) {
				if err != nil {
					t.Error(err)
				}
				if kinds = append(kinds, p.Kind); p.Kind == transport.PieceHead && !bytes.Equal(p.Data, w.head.Compact()) {
					t.Error("opened another head")
				}
			}
			if len(kinds) < 2 || kinds[0] != transport.PieceRootNote || kinds[1] != transport.PieceHead {
				t.Errorf("opening had %v", kinds)
			}
		})
	}
}

// A forged grant whose leaves don't exist costs a round, not the grant.
func TestForgedTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		truth := w.honest()
		forged := record.NewTree(record.Large, random("forged", 4096)).Top()
		c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
			out := truth(req, tcp)
			if bytes.Contains(req, []byte(w.grant)) {
				out = append([][]byte{withTXT(req, forged)}, out...)
			}
			return out
		}}, true)
		if got, err := c.Grant(t.Context(), w.ch, w.grant); err != nil || !bytes.Equal(got, w.e.Grants[w.grant].Data) {
			t.Errorf("grant of %d bytes, %v", len(got), err)
		}
	})
}

// A forger who knows the format says something else each time, sooner than the truth
// comes or just before it, and as often as he likes.
func TestFreshForgeries(t *testing.T) {
	for _, rtt := range []time.Duration{50, 300} {
		for _, class := range record.Classes {
			for _, each := range []int{1, 8} {
				t.Run(fmt.Sprintf("%d ms, %v, %d each", rtt, class, each), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						var n atomic.Int64
						forge := func(req []byte) (out [][]byte) {
							low, class := bytes.ToLower(req), record.Large
							if req[11] == 0 {
								class = record.Small
							}
							for range each {
								junk := random(fmt.Sprint("f", n.Add(1)), channel.GrantSmall)
								var forged []byte
								switch {
								case bytes.Contains(low, []byte(w.grant)):
									forged = record.NewTree(class, junk).Top()
								case bytes.Contains(low, []byte(w.ch.RootLabel(1))) && n.Load()%2 == 0:
									forged = record.NewTree(class, junk[:3000]).Top()
								case bytes.Contains(low, []byte(w.ch.RootLabel(1))):
									forged = record.NewTree(class, junk[:200]).Top()
								case bytes.Contains(low, []byte(w.ch.Label())) && class == record.Small:
									parts, err := record.Parts(junk[:len(w.head.Compact())])
									if err != nil {
										t.Error(err)
									}
									for i, p := range parts {
										if bytes.Contains(low, []byte(partLabel(w.ch.Label(), i))) {
											forged = p
										}
									}
								case bytes.Contains(low, []byte(w.ch.Label())):
									forged = bytes.Clone(w.head.Compact())
									copy(forged[len(forged)-8:], junk)
								}
								if forged != nil {
									out = append(out, withTXT(req, txtData(class, forged)))
								}
							}
							return out
						}
						truth := w.honest()
						answer := truth
						if class == record.Small {
							answer = func(req []byte, tcp bool) [][]byte {
								if req[11] != 0 {
									return nil // drops EDNS
								}
								return truth(req, tcp)
							}
						}
						fake := &fakeNet{rtt: rtt * time.Millisecond, noTCP: true, early: forge, answer: answer}
						if rtt == 50 {
							fake.early = nil
							fake.answer = func(req []byte, tcp bool) [][]byte { return append(forge(req), answer(req, tcp)...) }
						}
						w.heads(t.Context(), w.fakeClient(fake, true))
						pieces := 0
						for _, err := range w.fakeClient(fake, true).Open(t.Context(), transport.Ask{Channel: w.ch, Grant: w.grant}) {
							if err != nil {
								t.Fatal(err)
							}
							pieces++
						}
						if pieces != 5 || n.Load() == 0 {
							t.Errorf("opening had %d pieces, after %d forgeries", pieces, n.Load())
						}
					})
				})
			}
		}
	}
}

// From nothing to headlines in three round trips.
func TestOpenRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &fakeNet{rtt: 100 * time.Millisecond, answer: w.honest()}
		c := w.fakeClient(n, false) // within the burst of who is not in a hurry
		start := time.Now()
		blocks := 0
		for p, err := range c.Open(t.Context(), transport.Ask{Channel: w.ch, Grant: w.grant}) {
			if err != nil {
				t.Fatal(err)
			}
			if p.Kind == transport.PieceBlock {
				blocks++
			}
		}
		if d := time.Since(start); blocks != 2 || d != 3*n.rtt {
			t.Errorf("%d blocks in %v, want 2 in %v", blocks, d, 3*n.rtt)
		}
	})
}

// Who is not in a hurry asks 32 questions at once and then ten a second.
func TestQuietRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &fakeNet{rtt: 10 * time.Millisecond, answer: w.honest()}
		c := w.fakeClient(n, false)
		want := wantOf(bundle.LayerText, w.e.Text[1].Data, false, 0)
		start := time.Now()
		for _, err := range c.Fetch(t.Context(), transport.Request{Edition: w.edition(), Wants: []transport.Want{want}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		asked := float64(n.queries.Load())
		if min := time.Duration((asked - quietBurst) / quietRate * float64(time.Second)); asked < 66 || time.Since(start) < min-100*time.Millisecond {
			t.Errorf("%v queries in %v", asked, time.Since(start))
		}
	})
}

// keeping answers like a resolver that keeps the first answer for ever.
func keeping(truth func(req []byte, tcp bool) [][]byte) func(req []byte, tcp bool) [][]byte {
	var mu sync.Mutex
	old := map[string][]byte{}
	return func(req []byte, tcp bool) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		key := string(bytes.ToLower(req[headerLen:questionEnd(req)]))
		if old[key] == nil {
			old[key] = truth(req, tcp)[0]
		}
		resp := bytes.Clone(old[key])
		binary.BigEndian.PutUint16(resp, binary.BigEndian.Uint16(req))
		return [][]byte{resp}
	}
}

// The wildcard gets past a resolver that keeps the first answer for ever.
func TestStaleResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.fakeClient(&fakeNet{rtt: 10 * time.Millisecond, answer: keeping(w.honest())}, true)
		if _, err := c.Head(t.Context(), w.ch, 0); err != nil {
			t.Fatal(err)
		}
		w.publish(1, random("dir 2", 100), random("front 2", 4096))
		if raw, err := c.Head(t.Context(), w.ch, 1); err != nil || !bytes.Equal(raw, w.head.Compact()) {
			t.Errorf("the new head did not come: %v", err)
		}
	})
}

// The same in another run of the program, for the grant of a new epoch: for who has the
// head before that, and for who has the new one, but could not open it.
func TestStaleGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &fakeNet{rtt: 10 * time.Millisecond, answer: keeping(w.honest())}
		w.heads(t.Context(), w.fakeClient(n, true))
		w.publish(1, random("dir 2", 100), random("front 2", 4096))
		w.e.Grants[w.grant] = Piece{Data: random("grant of the next epoch", channel.GrantSmall)}
		if err := w.store.PutEdition(w.e); err != nil {
			t.Fatal(err)
		}
		for _, ask := range []transport.Ask{{Have: 1}, {Signed: w.head.Time}} {
			ask.Channel, ask.Grant, ask.Root = w.ch, w.grant, 1
			came := 0
			for p, err := range w.fakeClient(n, true).Open(t.Context(), ask) {
				if err != nil {
					t.Fatal(err)
				}
				if p.Kind == transport.PieceHead && bytes.Equal(p.Data, w.head.Compact()) ||
					p.Kind == transport.PieceGrant && bytes.Equal(p.Data, w.e.Grants[w.grant].Data) {
					came++
				}
			}
			if came != 2 {
				t.Errorf("%+v: the newest head and grant: %d of 2", ask, came)
			}
		}
	})
}

// One resolver of two is dead: everything comes through the other.
func TestDeadResolver(t *testing.T) {
	w := newWorld(t).serve()
	pc, err := w.nw.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c := w.client(pc.LocalAddr().String(), w.addr)
	for _, r := range c.resolvers {
		r.srtt = time.Millisecond // shortens the timeouts
	}
	w.heads(testContext(t), c)
}
