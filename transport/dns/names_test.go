package dns

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/transport"
)

// short answers like truth, but names of more than most characters not at all; it counts
// the questions for those.
type short struct {
	truth func(req []byte, tcp bool) [][]byte

	mu    sync.Mutex
	most  int
	long  int
	mixed int // questions with capitals in the name
}

func (s *short) answer(req []byte, tcp bool) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := req[headerLen : questionEnd(req)-4]
	if !bytes.Equal(name, bytes.ToLower(name)) {
		s.mixed++
	}
	if s.most > 0 && len(name)-2 > s.most {
		s.long++
		return nil
	}
	return s.truth(req, tcp)
}

func (s *short) set(most int) (long int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	long, s.long, s.most = s.long, 0, most
	return long
}

// Where long names are dropped, news comes by short ones: after some tries at first, at once
// when it is known. After a while the long ones get another chance, since an answer to a
// short one may be old.
func TestLongNamesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		most := len(w.ch.Label()) + 1 + len(testZone) + 1
		s := &short{truth: w.honest()}
		c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: s.answer}, true)
		w.heads(t.Context(), c)
		look := func() time.Duration { // past the caches
			began := time.Now()
			if _, err := c.Head(t.Context(), w.ch, 1); !errors.Is(err, transport.ErrNoNewer) {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		c.resolvers[0].standing.Name = 0 // as if nothing had been known
		s.set(most)
		for range manyDropped {
			look()
			if n := s.set(most); n != longTries {
				t.Errorf("%d questions for a long name", n)
			}
		}
		if d := look(); d > time.Second {
			t.Errorf("took %v", d)
		}
		if n := s.set(0); n != 0 {
			t.Errorf("%d questions for a long name, which is known to be dropped", n)
		}
		if f := c.pool.Facts()[0]; f.Drops != len(w.ch.Label())+1+len(testZone)+inFront {
			t.Errorf("%+v", f)
		}
		time.Sleep(smallFor)
		look()
		if f := c.pool.Facts()[0]; f.Drops != 0 || f.Name <= most {
			t.Errorf("%+v", f)
		}
	})
}

// A long name that is refused is not too long: it is asked for until it is answered.
func TestLongNamesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := &short{truth: w.honest()}
		c := w.fakeClient(&fakeNet{rtt: 50 * time.Millisecond, answer: s.answer}, true)
		w.heads(t.Context(), c)
		c.resolvers[0].standing.Name = 0
		plain := len(w.ch.Label()) + 1 + len(testZone)
		left := longTries + 1
		s.truth = func(req []byte, tcp bool) [][]byte {
			if len(req[headerLen:questionEnd(req)-4])-2 <= plain {
				t.Error("asked for the short one")
			}
			if left--; left >= 0 {
				return [][]byte{withCode(req, 5)}
			}
			return w.honest()(req, tcp)
		}
		if _, err := c.Head(t.Context(), w.ch, 1); !errors.Is(err, transport.ErrNoNewer) {
			t.Error(err)
		}
		if f := c.pool.Facts()[0]; f.Drops != 0 || f.Name <= plain {
			t.Errorf("%+v", f)
		}
	})
}

// One that drops names as long as a zone's are is not asked for them while there is
// another; where there is none it is.
func TestZoneTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		plain := len(w.ch.RootLabel(1)) + 1 + len(testZone)
		s := &short{truth: w.honest(), most: plain - 1}
		good := &fakeNet{rtt: 50 * time.Millisecond, answer: w.honest()}
		nw := &manyNet{many: many{addr1: {rtt: 20 * time.Millisecond, answer: s.answer}, addr2: good}}
		c := poolClient(t, nw, PoolConfig{Hurry: true}, addr1, addr2)
		c.resolvers[0].standing.dropsName(plain, true)
		w.fetchAll(t.Context(), c)
		w.heads(t.Context(), c)
		if n := s.set(plain - 1); n != 0 {
			t.Errorf("%d questions that can't be carried", n)
		}
		alone := poolClient(t, nw, PoolConfig{Hurry: true}, addr1)
		if _, err := alone.Head(t.Context(), w.ch, 0); err == nil {
			t.Error("a head without a root note")
		}
		if n := s.set(0); n == 0 {
			t.Error("nobody was asked")
		}
		c.probes.Wait()
	})
}

// A spare is asked in both kinds of letters, unless it is known to change them.
func TestLetters(t *testing.T) {
	for _, recases := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := &short{truth: w.honest()}
			c := w.fakeClient(&fakeNet{rtt: 20 * time.Millisecond, answer: s.answer}, true)
			c.resolvers[0].standing.Recases = recases
			a := c.asking(query{name: strings.Repeat("a", 26), mixed: true})
			name, mixed := a.called(c.resolvers[0])
			if name != a.full || (mixed == "") != recases || mixed != "" && !strings.EqualFold(mixed, name) {
				t.Errorf("recases %v: %q, %q", recases, name, mixed)
			}
			w.heads(t.Context(), c)
			if s.mixed > 0 {
				t.Errorf("%d questions with capitals, of one that is in use", s.mixed)
			}
		})
	}
}
