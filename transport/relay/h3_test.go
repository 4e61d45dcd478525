package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"tamizdat/bundle/channel"
)

// Who resets requests has no more of them worked on than who does not (the twin of
// CVE-2023-44487): a stream makes room for another only when its handler has
// noticed.
func TestResetStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		release := make(chan struct{})
		air := newAir(t)
		s, err := Listen(t.Context(), air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{certificate(t)}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release // as a slow disk, which hears of no reset
			running.Add(-1)
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		pc, err := air.at("198.51.100.9").ListenPacket(t.Context(), "udp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		tr := &quic.Transport{Conn: pc}
		t.Cleanup(func() { tr.Close(); pc.Close() })
		c, err := tr.Dial(t.Context(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(relayAt+":443")),
			&tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}}, &quic.Config{KeepAlivePeriod: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var fields bytes.Buffer
		e := qpack.NewEncoder(&fields)
		for _, f := range []qpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"}} {
			if err := e.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		request := append(quicvarint.Append([]byte{1}, uint64(fields.Len())), fields.Bytes()...)
		opened := 0
		for range maxStreams + 20 {
			str, err := c.OpenStream()
			if err != nil { // no room now
				time.Sleep(time.Second)
				continue
			}
			opened++
			if _, err := str.Write(request); err != nil {
				t.Fatal(err)
			}
			_ = str.Close()
			str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		}
		if opened < maxStreams || most.Load() > maxStreams {
			t.Errorf("%d were opened, %d worked on at once", opened, most.Load())
		}
		close(release)
		time.Sleep(time.Second)
		if _, err := c.OpenStream(); err != nil {
			t.Errorf("when all have ended: %v", err)
		}
	})
}

// While the last answers are under way nobody else is let in, over QUIC as little as
// over TCP.
func TestShutdownLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, asked, answer := newOpened(t, 8<<10), make(chan struct{}), make(chan struct{})
		o.server.Close()
		var once sync.Once
		s, err := Listen(t.Context(), o.air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{o.cert}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { close(asked); <-answer })
			o.ServeHTTP(w, r)
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		first := o.client("198.51.100.1", nil)
		done := make(chan error, 1)
		go func() {
			_, err := first.Paths()[0].Heads.Head(t.Context(), channel.ID{}, 0)
			done <- err
		}()
		<-asked
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(t.Context()) }()
		synctest.Wait()
		pc, err := o.air.at("198.51.100.2").ListenPacket(t.Context(), "udp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}
		if c, err := quic.Dial(t.Context(), pc, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(relayAt+":443")), cfg, nil); err == nil {
			t.Error("a handshake with nobody behind it")
			_ = c.CloseWithError(0, "")
		}
		close(answer)
		if err := <-done; err != nil {
			t.Errorf("the last answer: %v", err)
		}
		first.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// A server that ends waits for answers that are under way, and not for the rest of
// requests and handshakes that were half sent.
func TestShutdownWaitsForNoHalves(t *testing.T) {
	for name, running := range map[string]bool{"halves alone": false, "beside an answer": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				air, answer, asked := newAir(t), make(chan struct{}), make(chan struct{})
				s, err := Listen(t.Context(), air.at(relayAt), relayAt+":443", &tls.Config{Certificates: []tls.Certificate{certificate(t)}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					close(asked)
					<-answer
					_, _ = io.WriteString(w, "whole")
				}), nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				host := air.at("198.51.100.9")
				plain := func() net.Conn {
					c, err := host.Dial(t.Context(), "tcp", relayAt+":443")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					return c
				}
				secure := func(request string) *tls.Conn {
					c := tls.Client(plain(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
					if _, err := io.WriteString(c, request); err != nil {
						t.Fatal(err)
					}
					return c
				}
				if _, err := plain().Write([]byte{0x16, 3, 1, 2, 0, 1, 0}); err != nil { // of a ClientHello
					t.Fatal(err)
				}
				secure("GET / HTTP/1.1\r\nHost: w")
				pc, err := host.ListenPacket(t.Context(), "udp", "0.0.0.0:0")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { pc.Close() })
				c, err := quic.Dial(t.Context(), pc, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(relayAt+":443")), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				str, err := c.OpenStream()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := str.Write([]byte{1, 40, 0}); err != nil { // of a HEADERS frame
					t.Fatal(err)
				}
				heard := make(chan string, 1)
				if running {
					whole := secure("GET / HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n")
					go func() {
						b, _ := io.ReadAll(whole)
						heard <- string(b)
					}()
					<-asked
				}
				time.Sleep(time.Second)
				began := time.Now()
				ended := make(chan error, 1)
				go func() { ended <- s.Shutdown(t.Context()) }()
				if running {
					time.Sleep(20 * time.Second)
					close(answer)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
				took := time.Since(began)
				if running {
					took -= 20 * time.Second
					if got := <-heard; !strings.HasSuffix(got, "whole") {
						t.Errorf("the answer that was under way: %q", got)
					}
				}
				if took > 2*drainTime {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
