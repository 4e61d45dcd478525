package relay

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// With an ECH configuration a watcher sees the outer name. A relay that lost its
// key, and a censor who drops what hides a name, cost time and no more; what worked
// is remembered.
func TestECH(t *testing.T) {
	const inner, outer = "garden.example", "www.example"
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	echKey, list, err := NewECH(outer, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, again, _ := NewECH(outer, key); !bytes.Equal(list, again) {
		t.Error("the same key makes another configuration")
	}
	for name, c := range map[string]struct {
		keys   []tls.EncryptedClientHelloKey
		censor string
		hidden [2]bool // over QUIC, over TCP
	}{
		"open":       {keys: []tls.EncryptedClientHelloKey{echKey}, hidden: [2]bool{true, true}},
		"key lost":   {},
		"names read": {keys: []tls.EncryptedClientHelloKey{echKey}, hidden: [2]bool{true, true}, censor: "tls-sni-rst+quic-sni-reassembly"},
		// Over QUIC there is version 2, which this one does not read.
		"ech drop": {keys: []tls.EncryptedClientHelloKey{echKey}, hidden: [2]bool{true, false}, censor: "ech-drop"},
	} {
		for _, way := range []int{0, 1} {
			t.Run(name+" "+[]string{transport.KindQUIC, transport.KindTCP}[way], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cert, air := certificate(t), newAir(t)
					air.Name(inner, netip.MustParseAddr(relayAt))
					var mu sync.Mutex
					hidden, asked := 0, 0
					head := []byte("a head")
					s, err := Listen(t.Context(), air.at(relayAt), relayAt+":443", &tls.Config{
						Certificates: []tls.Certificate{cert}, EncryptedClientHelloKeys: c.keys,
					}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						if asked++; r.TLS.ECHAccepted && r.TLS.ServerName == inner {
							hidden++
						}
						mu.Unlock()
						_, _ = w.Write(opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head))
					}), nil)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { s.Close() })
					var network transport.Network = air.at("198.51.100.1")
					if c.censor != "" {
						names := []string{inner}
						if c.censor == "ech-drop" {
							names = []string{outer} // it has a list of outer names
						}
						scenario, ok := censor.Lookup(c.censor)
						if !ok {
							t.Fatal("no such scenario")
						}
						network = censor.New(network, censor.Map{Names: names}, scenario, 1, nil)
					}
					wire := &wiretap{Network: network}
					store := &kept{}
					for run, most := range []time.Duration{3 * time.Second, 400 * time.Millisecond} {
						client, err := New(Config{Network: wire, Sessions: store, Relay: channel.Relay{
							Host: inner, Port: 443, Pin: channel.PinOf(cert.Leaf), ECH: list,
						}})
						if err != nil {
							t.Fatal(err)
						}
						start := time.Now()
						if _, err := client.Paths()[way].Heads.Head(t.Context(), channel.ID{}, 0); err != nil {
							t.Fatal(err)
						}
						if took := time.Since(start); took > most {
							t.Errorf("run %d took %v", run, took)
						}
						time.Sleep(time.Second)
						client.Close()
						time.Sleep(time.Second)
					}
					if asked != 2 || (hidden == 2) != c.hidden[way] {
						t.Errorf("the name was hidden in %d of %d requests", hidden, asked)
					}
					if way == 1 && c.hidden[way] && (wire.saw(inner) || !wire.saw(outer)) {
						t.Error("the wrong name was on the wire")
					}
				})
			})
		}
	}
}

// wiretap keeps what a reader sends over TCP.
type wiretap struct {
	transport.Network
	mu   sync.Mutex
	sent []byte
}

func (w *wiretap) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := w.Network.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &tapped{c, w}, nil
}

func (w *wiretap) saw(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.sent, []byte(name))
}

type tapped struct {
	net.Conn
	w *wiretap
}

func (c *tapped) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	c.w.sent = append(c.w.sent, b...)
	c.w.mu.Unlock()
	return c.Conn.Write(b)
}
