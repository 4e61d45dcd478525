package relay

import (
	"bytes"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// Where connections freeze after 16 KB, blocks come over small ones: whole, none of
// which carries too much, and not over the large one.
func TestSmallConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, air := certificate(t), newAir(t)
		rnd := rand.NewChaCha8([32]byte{1})
		blocks := map[string][]byte{}
		var wants []transport.Want
		for _, size := range []int{1, smallPiece, smallPiece + 1, 3*smallPiece - 1, bundle.MaxBlock} {
			data := make([]byte, size)
			_, _ = rnd.Read(data)
			id := bundle.RawCID(data)
			blocks[id.String()] = data
			wants = append(wants, transport.Want{CID: id, Size: size})
		}
		head := []byte("a head")
		s, err := Listen(t.Context(), air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, name, ok := strings.Cut(r.URL.Path, "/ipfs/"); ok {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blocks[name]))
				return
			}
			_, _ = w.Write(opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head))
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		freeze, ok := censor.Lookup("tcp-freeze-16k+udp-drop")
		if !ok {
			t.Fatal("no such scenario")
		}
		client, err := New(Config{
			Network: censor.New(air.at("198.51.100.1"), censor.Map{}, freeze, 1, nil),
			Relay:   channel.Relay{Host: relayAt, Port: 443, Pin: channel.PinOf(cert.Leaf)},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		p := client.Paths()[2]
		if got, err := p.Heads.Head(t.Context(), channel.ID{}, 0); err != nil || !bytes.Equal(got, head) {
			t.Errorf("head %q, %v", got, err)
		}
		var got atomic.Int64
		start, here := time.Now(), 0
		for b, err := range p.Blocks.Fetch(t.Context(), transport.Request{Wants: wants, Got: func(_, n int) { got.Add(int64(n)) }}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
				t.Error(err)
			}
			here++
		}
		if here != len(wants) || got.Load() < bundle.MaxBlock {
			t.Errorf("%d of %d blocks, %d bytes came", here, len(wants), got.Load())
		}
		if took := time.Since(start); took > smallTime {
			t.Errorf("it took %v: something froze", took)
		}
	})
}

// A server that knows no ranges sends the whole; one that lies about them is found
// out, and what it goes on with is not read.
func TestSmallHostile(t *testing.T) {
	data := bytes.Repeat([]byte("block"), 4000)
	id := bundle.RawCID(data)
	for name, c := range map[string]struct {
		write func(w http.ResponseWriter, r *http.Request)
		ok    bool
	}{
		"honest": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}, true},
		"no ranges": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }, true},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-5119/99999999")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:smallPiece])
		}, false},
		"another size": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "bytes=0-5119" {
				w.Header().Set("Content-Range", "bytes 0-5119/6000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(data[:smallPiece])
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}, false},
		"more than asked for": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-5119/20000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:2*smallPiece])
		}, false},
		"nothing": {func(http.ResponseWriter, *http.Request) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, certificate(t), "127.0.0.1:0", c.write)
			client, err := New(Config{Network: &netreal.Network{}, Relay: r})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			came := false
			for b, err := range client.Paths()[2].Blocks.Fetch(t.Context(), transport.Request{Wants: []transport.Want{{CID: id}}}) {
				came = came || err == nil && bundle.CheckBlock(b.CID, b.Data) == nil
			}
			if came != c.ok {
				t.Errorf("the block came: %v", came)
			}
		})
	}
}
