package dns

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// A resolver that refuses whatever it is asked, or can't, is left alone for longer
// and longer, and forgiven when it answers.
func TestCoolingOfRefusers(t *testing.T) {
	for name, code := range map[string]byte{"SERVFAIL": 2, "REFUSED": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				truth := w.honest()
				var works atomic.Bool
				nw := &fakeNet{rtt: 50 * time.Millisecond, answer: func(req []byte, tcp bool) [][]byte {
					if !works.Load() {
						return [][]byte{withCode(req, code)}
					}
					return truth(req, tcp)
				}}
				c := w.fakeClient(nw, true)
				ask := func(d time.Duration) int64 {
					before := nw.queries.Load()
					for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(time.Second) {
						if _, err := c.Head(t.Context(), w.ch, 0); !errors.Is(err, errSilent) {
							t.Fatal(err)
						}
					}
					return nw.queries.Load() - before
				}
				if n := ask(time.Hour); n < 16 || n > 60 {
					t.Errorf("a stranger was asked %d questions in an hour", n)
				}
				if !c.resolvers[0].isCool() {
					t.Error("it is not left alone")
				}
				works.Store(true)
				time.Sleep(maxCooling)
				w.heads(t.Context(), c)
				w.fetchAll(t.Context(), c)
				works.Store(false)
				ask(lately + time.Minute) // it may only be tired of this zone
				if n := ask(time.Hour); n < 12 || n > 60 {
					t.Errorf("one that had worked was asked %d questions in an hour", n)
				}
			})
		})
	}
}

// forging is a network on which somebody nearer than the resolver refuses each
// question first.
type forging struct{ *fakeNet }

func (n forging) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.fakeNet.Dial(ctx, network, addr)
	if udp, ok := c.(*fakeUDP); ok {
		return forgedUDP{udp}, nil
	}
	return c, err
}

type forgedUDP struct{ *fakeUDP }

func (c forgedUDP) Write(b []byte) (int, error) {
	refusal := withCode(b, 5)
	time.AfterFunc(5*time.Millisecond, func() {
		select {
		case c.in <- refusal:
		case <-c.closed:
		}
	})
	return c.fakeUDP.Write(b)
}

// Forged refusals keep nothing away, not even a true "no", cost no question, cool nobody,
// and make nobody slow.
func TestForgedRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &counted{asked: map[string]int{}, truth: w.honest()}
		c, err := NewClient(ClientConfig{
			Network: forging{&fakeNet{rtt: 300 * time.Millisecond, answer: n.answer}}, Zone: testZone, Resolvers: []string{addr1}, Hurry: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.heads(t.Context(), c)
		w.fetchAll(t.Context(), c)
		if all, names := n.total(); all != names || c.resolvers[0].isCool() || c.pool.Facts()[0].Limit != 0 {
			t.Errorf("%d questions for %d names, %+v", all, names, c.pool.Facts())
		}
		if _, err := c.Grant(t.Context(), w.ch, record.NameOf([]byte("none")).Label()); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("no such grant: %v", err)
		}
	})
}

// An honest "no" is asked for once, however regular the answers are.
func TestNoIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &counted{asked: map[string]int{}, truth: w.honest()}
		c := w.fakeClient(&fakeNet{rtt: 300 * time.Millisecond, answer: n.answer}, true)
		w.heads(t.Context(), c)
		w.fetchAll(t.Context(), c)
		before, _ := n.total()
		if _, err := c.Grant(t.Context(), w.ch, record.NameOf([]byte("none")).Label()); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("no such grant: %v", err)
		}
		if after, _ := n.total(); after != before+1 {
			t.Errorf("asked %d times", after-before)
		}
	})
}

// strict answers so many questions a second, and refuses the others.
type strict struct {
	truth func(req []byte, tcp bool) [][]byte
	rate  int

	mu                   sync.Mutex
	second               int64
	inIt, good, refusals int
}

func (l *strict) answer(req []byte, tcp bool) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now().Unix(); now != l.second {
		l.second, l.inIt = now, 0
	}
	if l.inIt++; l.inIt > l.rate {
		l.refusals++
		return [][]byte{withCode(req, 5)}
	}
	l.good++
	return l.truth(req, tcp)
}

// counts are what it answered and refused since the last time.
func (l *strict) counts() (good, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	good, refused = l.good, l.refusals
	l.good, l.refusals = 0, 0
	return good, refused
}

// One that refuses over a rate brings everything all the same, to who is in a hurry as
// well, and not much more slowly than that: it is asked no faster, and the next run knows
// that from the beginning.
func TestRefusedOverRate(t *testing.T) {
	for name, tc := range map[string]struct {
		hurry bool
		rate  int
	}{"as many as is polite": {false, quietRate}, "less than that": {false, 4}, "in a hurry": {true, quietRate}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := &strict{truth: w.honest(), rate: tc.rate}
				nw := &fakeNet{rtt: 50 * time.Millisecond, answer: l.answer}
				kept := &keeper{}
				for run := range 2 {
					c := poolClient(t, nw, PoolConfig{Hurry: tc.hurry, Keeper: kept, Key: "k"}, addr1)
					began := time.Now()
					w.heads(t.Context(), c)
					w.fetchAll(t.Context(), c)
					took := time.Since(began)
					good, refused := l.counts()
					least := time.Duration(good) * time.Second / time.Duration(tc.rate)
					t.Logf("%d answers, %d refusals in %v, least is %v", good, refused, took, least)
					if took > 3*least/2 {
						t.Errorf("run %d: %v for %d answers, least is %v", run, took, good, least)
					}
					if run > 0 && refused > good/3 {
						t.Errorf("run %d: %d answers, %d refusals", run, good, refused)
					}
					if f := c.pool.Facts()[0]; (tc.hurry || tc.rate < quietRate) && (f.Limit < tc.rate/2 || f.Limit > 2*tc.rate) {
						t.Errorf("run %d: %+v", run, f)
					}
					if err := c.pool.Close(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// One that fails now and then, for whatever reason, is not slowed for it; nor is one that
// refuses all, which says nothing about a rate. What was slowed gets faster again.
func TestResolverRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(PoolConfig{Network: &fakeNet{}, Hurry: true})
		s := p.standing(Address{Host: "192.0.2.1", Port: 53})
		seconds := func(n, good, refused int) {
			for range n {
				for range good {
					s.answered(event{rec: []byte{1}}, 0)
				}
				for range refused {
					s.refuses()
				}
				time.Sleep(time.Second)
			}
		}
		limit := func(what string, want int) {
			t.Helper()
			seconds(1, 0, 0)
			s.answered(event{rec: []byte{1}}, 0)
			if got := s.remembered().Limit; got != want {
				t.Errorf("%s: %d a second, want %d", what, got, want)
			}
			if ok := s.lim.AllowN(time.Now(), 1000); ok != (want == 0) {
				t.Errorf("%s: a thousand at once: %v", what, ok)
			}
			time.Sleep(time.Second)
		}
		seconds(60, 80, 20)
		limit("one in five fails", 0)
		seconds(60, 0, 40)
		limit("all refused", 0)
		seconds(1, 5, 40)
		seconds(60, 0, 40)
		limit("tired of a zone", 0)
		seconds(2, 40, 40)
		limit("over a rate", 40)
		seconds(2, 5, 40)
		limit("over a much lower one", 20)
		seconds(10, 0, 40)
		limit("all refused again", 20)
		seconds(eachStep+1, 20, 0)
		limit("none refused", 22)
		seconds(20*eachStep, 3, 0)
		limit("hardly asked", 22)
		for range 60 {
			n := s.remembered().Limit
			if n == 0 {
				break
			}
			seconds(eachStep+1, n, 0)
		}
		limit("none refused for long", 0)
	})
}
