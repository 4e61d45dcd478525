package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/simnet"
	"tamizdat/transport"
)

// moving is a reader, and a relay's blocks that take him thirteen seconds.
type moving struct {
	net    *simnet.Net
	reader *simnet.Host
	client *Client
	wants  []transport.Want
	size   int // of all
	asked  atomic.Int64
}

func newMoving(t *testing.T) *moving {
	t.Helper()
	m := &moving{net: simnet.New(1)}
	t.Cleanup(func() { m.net.Close() })
	cert, at := certificate(t), netip.MustParseAddr(relayAt)
	blocks, rnd := map[string][]byte{}, rand.NewChaCha8([32]byte{1})
	for range 4 {
		data := make([]byte, bundle.MaxBlock)
		_, _ = rnd.Read(data)
		id := bundle.RawCID(data)
		blocks[id.String()] = data
		m.wants = append(m.wants, transport.Want{CID: id, Size: len(data)})
		m.size += len(data)
	}
	s, err := Listen(t.Context(), m.net.Host("relay", simnet.Link{}, at), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(r.URL.Path, "/ipfs/")
		if blocks[name] == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		m.asked.Add(1)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blocks[name]))
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	m.reader = m.net.Host("reader", simnet.Link{Delay: roundTrip / 2, Down: 20_000}, netip.MustParseAddr("198.51.100.1"))
	if m.client, err = New(Config{Network: m.reader, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.client.Close() })
	return m
}

// fetch gets the blocks over one connection, and returns how many bytes came later than
// so long after the beginning.
func (m *moving) fetch(t *testing.T, than time.Duration) (got, later int, err error) {
	t.Helper()
	start := time.Now()
	var mu sync.Mutex
	for b, e := range m.client.Paths()[0].Blocks.Fetch(t.Context(), transport.Request{Once: true, Wants: m.wants, Got: func(_, n int) {
		mu.Lock()
		defer mu.Unlock()
		if got += n; time.Since(start) > than {
			later += n
		}
	}}) {
		if e == nil {
			e = bundle.CheckBlock(b.CID, b.Data)
		}
		err = errors.Join(err, e)
	}
	return got, later, err
}

// A device that changes its network in the middle of a fetch goes on with it: QUIC's
// connections have names of their own (RFC 9000, section 9), and the socket is bound
// to no address. Meanwhile it may have no network at all, and sending fails.
func TestDeviceMoves(t *testing.T) {
	for _, gap := range []time.Duration{0, 400 * time.Millisecond, 4 * time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMoving(t)
				q := m.client.conns[0].(*quicConn)
				time.AfterFunc(1500*time.Millisecond, func() {
					m.net.Move(m.reader)
					time.AfterFunc(gap, func() { m.net.Move(m.reader, netip.MustParseAddr("203.0.113.77")) })
				})
				start := time.Now()
				got, later, err := m.fetch(t, 1600*time.Millisecond+gap)
				if err != nil {
					t.Fatal(err)
				}
				if later < 10_000 || later == got {
					t.Errorf("%d of %d bytes came afterwards: this tests nothing", later, got)
				}
				if n := m.asked.Load(); got != m.size || n != int64(len(m.wants)) {
					t.Errorf("%d bytes of %d, asked for %d times: it began anew", got, m.size, n)
				}
				if took := time.Since(start); took > 18*time.Second+max(gap, keepAlive) {
					t.Errorf("it took %v", took)
				}
				if l := q.cur; l == nil || l.over() {
					t.Error("the connection is gone")
				}
			})
		})
	}
}

// A device that has no network any more hears it, not only when the relay has been
// silent for as long as a connection may be; and one that has none from the beginning
// at once.
func TestDeviceWithoutNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMoving(t)
		time.AfterFunc(1500*time.Millisecond, func() { m.net.Move(m.reader) })
		start := time.Now()
		if _, _, err := m.fetch(t, 0); err == nil || !strings.Contains(err.Error(), syscall.ENETUNREACH.Error()) {
			t.Errorf("in the middle: %v", err)
		}
		if took := time.Since(start); took < gapTime || took >= idleTimeout/2 {
			t.Errorf("in the middle: after %v", took)
		}
		start = time.Now()
		if _, _, err := m.fetch(t, 0); err == nil || !strings.Contains(err.Error(), syscall.ENETUNREACH.Error()) {
			t.Errorf("from the beginning: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("from the beginning: after %v", took)
		}
	})
}

// The system's socket keeps what quic-go finds it by, and says what else is wrong.
func TestGapSocket(t *testing.T) {
	pc, err := (&netreal.Network{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g gap
	s, ok := g.over(pc).(systemSocket)
	if !ok {
		t.Fatalf("%T: quic-go loses its fast paths", g.over(pc))
	}
	if _, _, err := s.WriteMsgUDP(make([]byte, 70_000), nil, pc.LocalAddr().(*net.UDPAddr)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too large: %v", err)
	}
	pc.Close()
	if _, err := s.WriteTo([]byte("x"), pc.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
