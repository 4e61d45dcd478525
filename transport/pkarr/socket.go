package pkarr

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// patience is how long a node has for an answer. Many have gone.
	patience = 2 * time.Second
	// maxFailures is how many reads in a row may fail of a socket that is not closed.
	maxFailures = 100
)

var (
	errSilent  = errors.New("no answer from the node")
	errRefused = errors.New("the node refused")
)

// socket asks nodes. Nobody else is answered who asks it.
type socket struct {
	pc net.PacketConn
	id nodeID // this node's, another one each time

	mu      sync.Mutex
	waiting map[exchange]chan answer
	done    chan struct{}
}

// exchange is what an answer is known by.
type exchange struct {
	with netip.AddrPort
	t    string
}

func newSocket(pc net.PacketConn) *socket {
	s := &socket{pc: pc, waiting: map[exchange]chan answer{}, done: make(chan struct{})}
	rand.Read(s.id[:]) // never fails
	go s.read()
	return s
}

// close ends the socket; who waits on it does so until his time is over.
func (s *socket) close() {
	_ = s.pc.Close()
	<-s.done
}

func (s *socket) read() {
	defer close(s.done)
	buf := make([]byte, maxMessage+1)
	for failures := 0; failures < maxFailures; {
		n, from, err := s.pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			failures++
			continue
		}
		failures = 0
		if n > maxMessage {
			continue
		}
		a, err := parse(buf[:n])
		if err != nil {
			continue
		}
		s.mu.Lock()
		if who, ok := s.waiting[exchange{addrOf(from), a.t}]; ok {
			select {
			case who <- a:
			default: // one came already
			}
		}
		s.mu.Unlock()
	}
}

// addrOf is an address as it is compared.
func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// query asks a node once.
func (s *socket) query(ctx context.Context, to netip.AddrPort, q string, args map[string]any) (answer, error) {
	args["id"] = string(s.id[:])
	var t [4]byte
	rand.Read(t[:])
	x := exchange{to, string(t[:])}
	who := make(chan answer, 1)
	s.mu.Lock()
	s.waiting[x] = who
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, x)
	}()
	if _, err := s.pc.WriteTo(question(x.t, q, args), net.UDPAddrFromAddrPort(to)); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case a := <-who:
		if a.refused {
			return answer{}, errRefused
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, errSilent
	}
}
