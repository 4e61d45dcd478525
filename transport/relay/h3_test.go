package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
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
