package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
	"tamizdat/transport/transporttest"
)

// records stands in for IPNS: a record is the head itself.
type records struct{}

func (records) Name(ch channel.ID) (string, bool)                { return ch.String(), true }
func (records) Head(_ channel.ID, record []byte) ([]byte, error) { return record, nil }

// gatewayOf is a plain web server with the channel's blocks and record.
func gatewayOf(w *transporttest.World) http.Handler {
	blocks := map[cid.Cid][]byte{}
	for _, e := range w.Channel.Editions() {
		for c, b := range e.Blocks() {
			blocks[c] = b
		}
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ipns/"+w.Channel.ID().String() {
			_, _ = rw.Write(w.Newest.Head.Text())
			return
		}
		c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
		if b, ok := blocks[c]; err == nil && ok {
			_, _ = rw.Write(b)
			return
		}
		http.NotFound(rw, r)
	})
}

func TestConformance(t *testing.T) {
	real := &netreal.Network{}
	transporttest.Run(t, real, func(t *testing.T, w *transporttest.World) transporttest.Subject {
		ln, err := real.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: gatewayOf(w)}
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		rt := gateway.NewTransport(t.Context(), w.Network, gateway.Trust{})
		t.Cleanup(rt.CloseIdleConnections)
		c, err := gateway.New("http://"+ln.Addr().String(), rt, gateway.Options{Records: records{}})
		if err != nil {
			t.Fatal(err)
		}
		return transporttest.Subject{
			Paths: []transport.Path{c.Path()}, Old: true, NoRootNotes: true, NoGrants: true,
			PlainHeads: true,
		}
	})
}
