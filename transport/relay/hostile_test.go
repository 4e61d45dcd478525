package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

func certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serve runs a relay that does what h says.
func serve(t *testing.T, cert tls.Certificate, addr string, h http.HandlerFunc) (*Server, channel.Relay) {
	t.Helper()
	s, err := Listen(t.Context(), &netreal.Network{}, addr, &tls.Config{Certificates: []tls.Certificate{cert}}, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	host, port, _ := net.SplitHostPort(s.Addr().String())
	n, _ := strconv.Atoi(port)
	return s, channel.Relay{Host: host, Port: uint16(n), Pin: channel.PinOf(cert.Leaf)}
}

// each runs f for every path to the relay.
func each(t *testing.T, r channel.Relay, f func(t *testing.T, p transport.Path)) {
	t.Helper()
	c, err := New(Config{Network: &netreal.Network{}, Relay: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, p := range c.Paths() {
		t.Run(p.Name, func(t *testing.T) { f(t, p) })
	}
}

// flood writes until the client goes away, and counts.
func flood(w http.ResponseWriter, start []byte, sent *atomic.Int64) {
	_, _ = w.Write(start)
	chunk := make([]byte, 32<<10)
	for {
		n, err := w.Write(chunk)
		sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func opening(t *testing.T, roots []cid.Cid, blocks ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := car.NewWriter(&out, roots)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := w.Put(bundle.RawCID(b), b); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestHostileOpenings(t *testing.T) {
	head := []byte("a head")
	root := bundle.RawCID([]byte("stands for a directory"))
	roots := []cid.Cid{bundle.RawCID(head), root}
	huge := bytes.Repeat([]byte("h"), channel.MaxHead+1)
	good := opening(t, roots, head)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	var sent atomic.Int64
	for name, write := range map[string]func(http.ResponseWriter){
		"not a CAR":     func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>welcome</html>") },
		"empty":         func(http.ResponseWriter) {},
		"no roots":      func(w http.ResponseWriter) { _, _ = w.Write(opening(t, nil, head)) },
		"cut off":       func(w http.ResponseWriter) { _, _ = w.Write(good[:len(good)-1]) },
		"flipped bit":   func(w http.ResponseWriter) { _, _ = w.Write(flipped) },
		"head too long": func(w http.ResponseWriter) { _, _ = w.Write(opening(t, []cid.Cid{bundle.RawCID(huge), root}, huge)) },
		"endless":       func(w http.ResponseWriter) { flood(w, nil, &sent) },
		"broken off": func(w http.ResponseWriter) {
			_, _ = w.Write(good[:10])
			panic(http.ErrAbortHandler)
		},
		"server error": func(w http.ResponseWriter) { w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, certificate(t), "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) { write(w) })
			each(t, r, func(t *testing.T, p transport.Path) {
				if h, err := p.Heads.Head(t.Context(), channel.ID{}, 0); err == nil {
					t.Errorf("got a head of %d bytes", len(h))
				}
				o, ok := p.Heads.(transport.Opener)
				if !ok {
					return
				}
				var last error
				for _, last = range o.Open(t.Context(), transport.Ask{}) {
				}
				if last == nil {
					t.Error("an opening without an error")
				}
			})
		})
	}
}

func TestEndlessTailIsBounded(t *testing.T) {
	head := []byte("a head")
	start := opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head)
	// A valid CAR that goes on for ever with one valid block.
	again := opening(t, []cid.Cid{bundle.RawCID(head)}, head)
	section := again[len(opening(t, []cid.Cid{bundle.RawCID(head)})):]
	_, r := serve(t, certificate(t), "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(start); err != nil {
			return
		}
		chunk := bytes.Repeat(section, 500)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	each(t, r, func(t *testing.T, p transport.Path) {
		o, ok := p.Heads.(transport.Opener)
		if !ok {
			return // small connections bring no openings
		}
		var bytes int
		var last error
		for piece, err := range o.Open(t.Context(), transport.Ask{}) {
			bytes, last = bytes+len(piece.Data), err
		}
		if last == nil || bytes > gateway.MaxOpening {
			t.Errorf("took %d bytes, ended with %v", bytes, last)
		}
	})
}

func TestHostileBlocks(t *testing.T) {
	var sent atomic.Int64
	data := bytes.Repeat([]byte("block"), 1000)
	id := bundle.RawCID(data)
	for name, write := range map[string]func(http.ResponseWriter){
		"wrong bytes": func(w http.ResponseWriter) { _, _ = w.Write(data[1:]) },
		"cut off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:10])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"endless": func(w http.ResponseWriter) { flood(w, data, &sent) },
		"nothing": func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, certificate(t), "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) { write(w) })
			each(t, r, func(t *testing.T, p transport.Path) {
				failed := false
				for b, err := range p.Blocks.Fetch(t.Context(), transport.Request{Wants: []transport.Want{{CID: id}}}) {
					var we *transport.WantError
					if err == nil {
						t.Errorf("yielded %d bytes", len(b.Data))
					} else if failed = true; !errors.As(err, &we) && name != "cut off" { // a reset may come before any answer
						t.Errorf("%v is not about the one want", err)
					}
				}
				if !failed {
					t.Error("no error")
				}
			})
		})
	}
}

func TestRedialsAfterRestart(t *testing.T) {
	cert := certificate(t)
	head := []byte("a head")
	h := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head))
	}
	s, r := serve(t, cert, "127.0.0.1:0", h)
	c, err := New(Config{Network: &netreal.Network{}, Relay: r})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(p transport.Path) error {
		_, err := p.Heads.Head(t.Context(), channel.ID{}, 0)
		return err
	}
	for _, p := range c.Paths() {
		if err := ask(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, cert, fmt.Sprintf("127.0.0.1:%d", r.Port), h)
	for _, p := range c.Paths() {
		var err error
		for range 3 { // the first request may still meet the dead connection
			if err = ask(p); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("%s after a restart: %v", p.Kind, err)
		}
	}
}

// A closed connection tells its streams before its context ends; taken for a
// reset of one request, it would stay in use for that moment.
func TestIsReset(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"reset", &quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(http3.ErrCodeInternalError)}, true},
		{"rejected", &quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(http3.ErrCodeRequestRejected)}, false},
		{"closed", &quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(http3.ErrCodeNoError)}, false},
		{"idle", &quic.IdleTimeoutError{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := isReset(fmt.Errorf("wrapped: %w", tt.err)); got != tt.want {
				t.Errorf("isReset = %v", got)
			}
		})
	}
}

// Where a request's packets are lost for long, relays stop waiting for its header. It
// is sent again, on the same connection, and not for ever.
func TestUnheardRequestIsSentAgain(t *testing.T) {
	var asked, deaf atomic.Int64
	cert := certificate(t)
	ln, err := quic.ListenAddr("127.0.0.1:0", http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}}), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{Handler: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept(context.Background()) // there is one
		if err != nil {
			return
		}
		h, err := server.NewRawServerConn(conn)
		if err != nil {
			return
		}
		for {
			str, err := conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			asked.Add(1)
			if deaf.Add(-1) < 0 {
				go h.HandleRequestStream(str)
				continue
			}
			str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestIncomplete))
			str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestIncomplete))
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	at := ln.Addr().(*net.UDPAddr)
	c, err := New(Config{Network: &netreal.Network{}, Relay: channel.Relay{Host: "127.0.0.1", Port: uint16(at.Port), Pin: channel.PinOf(cert.Leaf)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // before the listener, whose one connection that ends
	p := c.Paths()[0]
	deaf.Store(maxUnheard)
	if _, err := p.Heads.Head(t.Context(), channel.ID{}, 0); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("unheard %d times: %v", maxUnheard, err)
	}
	one := c.bulk.main.cur
	asked.Store(0)
	deaf.Store(1 << 20)
	if _, err := p.Heads.Head(t.Context(), channel.ID{}, 0); err == nil || errors.Is(err, transport.ErrNotFound) {
		t.Errorf("never heard: %v", err)
	}
	if n := asked.Load(); n != maxUnheard+1 {
		t.Errorf("never heard: asked %d times", n)
	}
	if one == nil || c.bulk.main.cur != one {
		t.Error("the connection was given up")
	}
}

func TestCancelledRequestDoesNotSpoilTheConnection(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 8)
	_, r := serve(t, certificate(t), "127.0.0.1:0", func(w http.ResponseWriter, req *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-req.Context().Done():
			// net/http takes an answer that comes while it closes the connection.
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNotFound)
	})
	each(t, r, func(t *testing.T, p transport.Path) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := p.Heads.Head(ctx, channel.ID{}, 0); done <- err }()
		<-asked
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	close(release)
	each(t, r, func(t *testing.T, p transport.Path) {
		if _, err := p.Heads.Head(t.Context(), channel.ID{}, 0); !errors.Is(err, transport.ErrNotFound) {
			t.Error(err)
		}
	})
}

// tcpAlone is a network without UDP.
type tcpAlone struct{ netreal.Network }

func (*tcpAlone) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, transport.ErrUnsupported
}

func TestNetworkWithoutUDP(t *testing.T) {
	cert := certificate(t)
	s, err := Listen(t.Context(), &tcpAlone{}, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}}, http.NotFoundHandler(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Addr().String())
	n, _ := strconv.Atoi(port)
	c, err := New(Config{Network: &tcpAlone{}, Relay: channel.Relay{Host: "127.0.0.1", Port: uint16(n), Pin: channel.PinOf(cert.Leaf)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for kind, want := range map[int]error{0: transport.ErrUnsupported, 1: transport.ErrNotFound} {
		if _, err := c.Paths()[kind].Heads.Head(t.Context(), channel.ID{}, 0); !errors.Is(err, want) {
			t.Errorf("%s: %v", c.Paths()[kind].Kind, err)
		}
	}
}

func TestPublisherReadsAnswers(t *testing.T) {
	head := []byte("a head")
	body := opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head)
	src := transport.Source{CAR: bytes.NewReader(body), Size: int64(len(body))}
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		says    string
	}{
		"a website":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<h1>hello") }, true, "no intake"},
		"a 404":      {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, true, "no intake"},
		"overloaded": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, false, "503"},
		"rate limit": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, false, "429"},
		"holds more": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(HeaderOffset, "999999")
			w.WriteHeader(204)
		}, true, "more"},
		"stands still": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(HeaderOffset, "0"); w.WriteHeader(204) }, false, "advance"},
		"terminal tricks": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(HeaderOffset, "0")
			if r.Method == http.MethodPatch {
				http.Error(w, "no\x1b[2J way\nsecond line", http.StatusUnprocessableEntity)
			}
		}, true, "no[2J way"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, certificate(t), "127.0.0.1:0", c.answer)
			p, err := NewPublisher(&netreal.Network{}, Target{Host: r.Host, Port: r.Port, Pin: r.Pin})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			err = p.Publish(t.Context(), src, nil)
			if err == nil || errors.Is(err, transport.ErrRefused) != c.refused || !bytes.Contains([]byte(err.Error()), []byte(c.says)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A relay that acknowledges a byte at a time has the publisher send everything for
// each, and he does not go on with that.
func TestPublisherLeavesTrickles(t *testing.T) {
	head := bytes.Repeat([]byte("h"), 3000)
	body := opening(t, []cid.Cid{bundle.RawCID(head), bundle.RawCID(nil)}, head)
	var asked, got atomic.Int64
	_, r := serve(t, certificate(t), "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got.Add(n)
		w.Header().Set(HeaderOffset, strconv.FormatInt(asked.Add(1), 10))
		w.WriteHeader(http.StatusNoContent)
	})
	p, err := NewPublisher(&netreal.Network{}, Target{Host: r.Host, Port: r.Port, Pin: r.Pin})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = p.Publish(t.Context(), transport.Source{CAR: bytes.NewReader(body), Size: int64(len(body))}, nil)
	if !errors.Is(err, errStuck) {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n < 3 || n > 20 {
		t.Errorf("%d requests, %d bytes for %d", n, got.Load(), len(body))
	}
}
