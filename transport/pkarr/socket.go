package pkarr

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

const (
	// patience is how long a node has for an answer. Many have gone.
	patience = 2 * time.Second
	// maxFailures is how many reads in a row may fail of a socket that is not closed.
	maxFailures = 100
)

var errSilent = errors.New("no answer from the node")

// socket asks nodes. Nobody else is answered who asks it.
type socket struct {
	pc net.PacketConn
	id krpc.ID // this node's, another one each time

	mu      sync.Mutex
	waiting map[exchange]chan krpc.Msg
	done    chan struct{}
}

// exchange is what an answer is known by.
type exchange struct {
	with netip.AddrPort
	t    string
}

func newSocket(pc net.PacketConn) *socket {
	s := &socket{pc: pc, id: krpc.RandomNodeID(), waiting: map[exchange]chan krpc.Msg{}, done: make(chan struct{})}
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
		m, err := parse(buf[:n])
		if err != nil {
			continue
		}
		s.mu.Lock()
		if answer, ok := s.waiting[exchange{addrOf(from), m.T}]; ok {
			select {
			case answer <- m:
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
func (s *socket) query(ctx context.Context, to netip.AddrPort, q string, args krpc.MsgArgs) (*krpc.Return, error) {
	args.ID = s.id
	var t [4]byte
	for i := range t {
		t[i] = byte(rand.Uint32())
	}
	x := exchange{to, string(t[:])}
	msg, err := bencode.Marshal(krpc.Msg{T: x.t, Y: krpc.YQuery, Q: q, A: &args, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	answer := make(chan krpc.Msg, 1)
	s.mu.Lock()
	s.waiting[x] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, x)
	}()
	if _, err := s.pc.WriteTo(msg, net.UDPAddrFromAddrPort(to)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case m := <-answer:
		if m.Y == krpc.YError {
			return nil, errRefused
		}
		return m.R, nil
	case <-ctx.Done():
		return nil, errSilent
	}
}

var errRefused = errors.New("the node refused")
