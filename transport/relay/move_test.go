package relay

import (
	"bytes"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/transport"
)

// A device that changes its network in the middle of a fetch goes on with it: QUIC's
// connections have names of their own (RFC 9000, section 9), and the socket is bound
// to no address.
func TestDeviceMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		defer net.Close()
		cert, at := certificate(t), netip.MustParseAddr(relayAt)
		data := make([]byte, bundle.MaxBlock)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
		id := bundle.RawCID(data)
		var asked, got, moved atomic.Int64
		s, err := Listen(t.Context(), net.Host("relay", simnet.Link{}, at), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/ipfs/"+id.String()) {
				asked.Add(1)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		// 20 kB/s: a block takes three seconds.
		reader := net.Host("reader", simnet.Link{Delay: roundTrip / 2, Down: 20_000}, netip.MustParseAddr("198.51.100.1"))
		c, err := New(Config{Network: reader, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		q := c.conns[0].(*quicConn)
		time.AfterFunc(1500*time.Millisecond, func() { net.Move(reader, netip.MustParseAddr("203.0.113.77")) })
		start := time.Now()
		for b, err := range c.Paths()[0].Blocks.Fetch(t.Context(), transport.Request{Wants: []transport.Want{{CID: id, Size: len(data)}}, Got: func(_, n int) {
			if got.Add(int64(n)); time.Since(start) > 1600*time.Millisecond {
				moved.Add(int64(n))
			}
		}}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
				t.Error(err)
			}
		}
		if m := moved.Load(); m < 10_000 || m == got.Load() {
			t.Errorf("%d of %d bytes came afterwards: this tests nothing", m, got.Load())
		}
		if got.Load() != int64(len(data)) || asked.Load() != 1 {
			t.Errorf("%d bytes, asked for %d times: it began anew", got.Load(), asked.Load())
		}
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		if l := q.cur; l == nil || l.over() {
			t.Error("the connection is gone")
		}
	})
}
