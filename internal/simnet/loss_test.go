package simnet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// dropper loses the packets of b's direction that have these numbers, counted
// from 0 (which is the SYN-ACK), whatever the link says.
func dropper(n *Net, h *Host, numbers ...uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.lose = func(f *flow, number uint64) bool { return slices.Contains(numbers, number) }
}

// What single losses cost.
func TestLossCosts(t *testing.T) {
	const first = 1 // of b's packets: 0 is the SYN-ACK, 1 acknowledges the request
	for _, c := range []struct {
		name string
		size int
		lost []uint64
		want time.Duration // after the request
	}{
		{"nothing", 10 * mss, nil, rtt},
		{"the acknowledgement of the request", 10 * mss, []uint64{first}, rtt},
		{"a segment of many", 10 * mss, []uint64{first + 2}, 2 * rtt},
		{"two segments of many", 10 * mss, []uint64{first + 2, first + 5}, 2 * rtt},
		{"the first four of ten", 10 * mss, []uint64{first + 1, first + 2, first + 3, first + 4}, 2 * rtt},
		// No later segment tells of the gap: 200 ms after the last acknowledgement, or after it was sent.
		{"the last segment", 10 * mss, []uint64{first + 10}, rtt + 200*time.Millisecond + rtt},
		{"a segment of three", 3 * mss, []uint64{first + 1}, 200*time.Millisecond + rtt},
		{"three of four", 4 * mss, []uint64{first + 1, first + 2, first + 3}, 200*time.Millisecond + 2*rtt},
		{"the only segment, thrice", 100, []uint64{first + 1, first + 2, first + 3}, (200+400+800)*time.Millisecond + rtt},
		{"all of the second flight", 11 * mss, []uint64{first + 11}, rtt + 200*time.Millisecond + rtt},
		// The same 200 ms after the retransmission.
		{"a segment and its retransmission", 10 * mss, []uint64{first + 2, first + 11}, rtt + 200*time.Millisecond + rtt},
		{"first and last of a flight", 10 * mss, []uint64{first + 1, first + 10}, 2*rtt + 200*time.Millisecond + rtt},
		// Later flights.
		{"a segment of the second flight", 30 * mss, []uint64{first + 11}, 3 * rtt},
		{"a segment of the fourth flight", 150 * mss, []uint64{first + 100}, 5 * rtt},
		// One second for the SYN-ACK, before the request; later numbers are one higher.
		{"the SYN-ACK", 10 * mss, []uint64{0}, rtt},
		{"the SYN-ACK and a segment", 10 * mss, []uint64{0, first + 3}, 2 * rtt},
	} {
		t.Run(c.name, func(t *testing.T) {
			two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
				serve(t, b, answer(c.size))
				dropper(n, b, c.lost...)
				start := time.Now()
				conn := dial(t, a, "tcp", "198.51.100.1:80")
				want := rtt
				if slices.Contains(c.lost, 0) {
					want += time.Second
				}
				took(t, "dialling", start, want)
				start = time.Now()
				ask(t, conn, c.size)
				took(t, "the answer", start, c.want)
			})
		})
	}
}

// After a loss half as much is sent in a flight.
func TestLossHalvesWindow(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(75*mss))
		c := dial(t, a, "tcp", "198.51.100.1:80")
		ask(t, c, 75*mss) // flights of 10, 20, 40 and 5: the window is 80 or so
		n.mu.Lock()
		var s *tcpConn
		for s = range b.conns {
			break
		}
		before := s.cwnd
		n.mu.Unlock()
		dropper(n, b, s.out.count+3)
		ask(t, c, 75*mss)
		n.mu.Lock()
		defer n.mu.Unlock()
		if s.cwnd < before/2 || s.cwnd > before/2+2*mss || s.ssthresh > before/2+3*mss {
			t.Errorf("the window was %d and is %d after a loss", before, s.cwnd)
		}
	})
}

func TestSYNIsRetried(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, answer(1))
		trace := record(n)
		n.mu.Lock()
		a.lose = func(_ *flow, number uint64) bool { return number < 3 }
		n.mu.Unlock()
		start := time.Now()
		dial(t, a, "tcp", "198.51.100.1:80")
		took(t, "dialling with three lost SYNs", start, (1+2+4)*time.Second+rtt)
		if k := count(*trace, " syn "); k != 4 {
			t.Errorf("%d SYNs", k)
		}
	})
}

// The server hears of the handshake's end even if the packet that says so is
// lost, and even if it speaks first.
func TestLostHandshakeEnd(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		serve(t, b, func(c net.Conn) { _, _ = c.Write([]byte("220 hello")) })
		dropper(n, a, 1)
		start := time.Now()
		c := dial(t, a, "tcp", "198.51.100.1:80")
		must[int](t)(c.Read(make([]byte, 10)))
		took(t, "a greeting", start, time.Second+2*rtt) // the SYN-ACK goes again a second after it went first
	})
}

func TestLossStatistics(t *testing.T) {
	const packets, share = 4000, 0.05
	udp := func(seed uint64) (lost int, lines string) {
		two(t, seed, Link{LossUp: share}, Link{LossDown: share}, func(t *testing.T, n *Net, a, b *Host) {
			listenUDP(t, b, ":53")
			c := dial(t, a, "udp", "198.51.100.1:53")
			trace := record(n)
			for range packets {
				must[int](t)(c.Write([]byte("x")))
			}
			time.Sleep(time.Second)
			lost, lines = count(*trace, KindDropLoss), strings.Join(*trace, "\n")
		})
		return lost, lines
	}
	tcp := func(seed uint64) (lines string) {
		two(t, seed, Link{LossUp: share, LossDown: share}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			serve(t, b, answer(500_000))
			trace := record(n)
			fetch(t, a, 500_000)
			lines = strings.Join(*trace, "\n")
		})
		return lines
	}
	seen := map[string]bool{}
	for seed := range uint64(5) {
		lost, lines := udp(seed)
		const want, sigma = packets * (1 - (1-share)*(1-share)), 19 // √(n·p·(1−p))
		if float64(lost) < want-4*sigma || float64(lost) > want+4*sigma {
			t.Errorf("seed %d: %d of %d lost, want about %v", seed, lost, packets, want)
		}
		if _, again := udp(seed); again != lines {
			t.Errorf("seed %d: another trace of the same datagrams", seed)
		}
		if again := tcp(seed); again != tcp(seed) {
			t.Errorf("seed %d: another trace of the same connection", seed)
		}
		if seen[lines] {
			t.Errorf("seed %d has the luck of another", seed)
		}
		seen[lines] = true
	}
}

// One flow's luck does not depend on another's.
func TestLossIsAFlows(t *testing.T) {
	drops := func(others int) (got []string) {
		two(t, 7, Link{LossUp: 0.3}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			listenUDP(t, b, ":53")
			listenUDP(t, b, ":54")
			for range others {
				c := dial(t, a, "udp", "198.51.100.1:54")
				must[int](t)(c.Write([]byte("x")))
			}
			c := dial(t, a, "udp", "198.51.100.1:53")
			for i := range 200 {
				n.Trace(func(e Event) {
					if e.Kind == KindDropLoss {
						got = append(got, fmt.Sprint(i))
					}
				})
				must[int](t)(c.Write([]byte("x")))
			}
		})
		return got
	}
	if alone, busy := drops(0), drops(17); !slices.Equal(alone, busy) || len(alone) == 0 {
		t.Errorf("alone %v\nwith others %v", alone, busy)
	}
}

// Whatever is lost, TCP brings all bytes, in order, both ways.
func TestTCPBringsAll(t *testing.T) {
	for seed := range uint64(12) {
		loss := []float64{0.02, 0.1, 0.3, 0.6}[seed%4]
		link := Link{LossUp: loss, LossDown: loss / 2, Down: 300_000, Queue: 20_000}
		two(t, seed, link, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			size := 200_000
			if loss > 0.5 {
				size = 20_000
			}
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(i*31 + i>>8)
			}
			serve(t, b, func(c net.Conn) {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
			c := dial(t, a, "tcp", "198.51.100.1:80")
			go func() {
				for part := range slices.Chunk(want, 3777) {
					if _, err := c.Write(part); err != nil {
						t.Error(err)
						return
					}
					if len(part)%2 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Error(err)
				}
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("seed %d, %v loss: %d bytes came back, %v", seed, loss, len(got), err)
			}
			check(t, c.Close())
			time.Sleep(time.Hour)
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, h := range []*Host{a, b} {
				for c := range h.conns {
					t.Errorf("seed %d: an end of %s is kept: %d bytes in flight", seed, h.name, c.inFlight)
				}
			}
		})
	}
}
