package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/internal/simnet"
	"tamizdat/transport/gateway"
)

// A connection that its user keeps ends with what it was dialled within, and the
// other end hears of it.
func TestConnectionsEndWithLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		defer n.Close()
		there := netip.MustParseAddr("192.0.2.1")
		reader := n.Host("reader", simnet.Link{Delay: 10 * time.Millisecond}, netip.MustParseAddr("10.0.0.1"))
		ln, err := n.Host("server", simnet.Link{}, there).Listen(t.Context(), "tcp", "192.0.2.1:443")
		if err != nil {
			t.Fatal(err)
		}
		life, end := context.WithCancel(t.Context())
		dial := gateway.DialWithin(life, reader)
		pair := func() (here, there net.Conn) {
			t.Helper()
			here, err := dial(t.Context(), "tcp", "192.0.2.1:443")
			if err != nil {
				t.Fatal(err)
			}
			if there, err = ln.Accept(); err != nil {
				t.Fatal(err)
			}
			return here, there
		}
		kept, far := pair()
		closed, _ := pair()
		if err := closed.Close(); err != nil {
			t.Error(err)
		}
		end()
		if _, err := kept.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading goes on: %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the server reads on: %v", err)
		}
		if _, err := dial(t.Context(), "tcp", "192.0.2.1:443"); err == nil {
			t.Error("dialled after the end")
		}
	})
}
