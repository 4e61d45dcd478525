package simnet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
)

// website makes a certificate; inside a bubble, whose clock has it valid.
func website(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"b.example"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// quicServe answers the first stream of each connection with body.
func quicServe(t testing.TB, pc net.PacketConn, body []byte) (stop func()) {
	t.Helper()
	cfg := website(t)
	cfg.NextProtos = []string{"test"}
	tr := &quic.Transport{Conn: pc}
	ln, err := tr.Listen(cfg, &quic.Config{InitialPacketSize: 1200})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				s, err := c.AcceptStream(t.Context())
				if err != nil {
					return
				}
				_, _ = s.Write(body)
				_ = s.Close()
			}()
		}
	}()
	return func() {
		_ = ln.Close()
		_ = tr.Close()
		_ = pc.Close()
	}
}

// quicFetch returns what b sends and how long the handshake took.
func quicFetch(t testing.TB, pc net.PacketConn) ([]byte, time.Duration) {
	t.Helper()
	tr := &quic.Transport{Conn: pc}
	defer func() {
		_ = tr.Close()
		_ = pc.Close()
	}()
	start := time.Now()
	c, err := tr.Dial(t.Context(), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrB, 443)),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"test"}}, &quic.Config{InitialPacketSize: 1200})
	if err != nil {
		t.Fatal(err)
	}
	shook := time.Since(start)
	s, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWithError(0, "")
	return got, shook
}

func TestQUIC(t *testing.T) {
	body := bytes.Repeat([]byte("news "), 60_000)
	for i, link := range []Link{{}, {LossUp: 0.05, LossDown: 0.05}, {MTU: 1280, Down: 200_000, Queue: 20_000}} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			two(t, 3, link, Link{}, func(t *testing.T, n *Net, a, b *Host) {
				stop := quicServe(t, listenUDP(t, b, ":443"), body)
				defer stop()
				start := time.Now()
				got, shook := quicFetch(t, listenUDP(t, a, ":0"))
				if !bytes.Equal(got, body) {
					t.Errorf("%d bytes of %d came", len(got), len(body))
				}
				if d := time.Since(start); link.Down > 0 && d < 1500*time.Millisecond {
					t.Errorf("300 kB at 200 kB/s took %v", d)
				}
				if link == (Link{}) && (shook < rtt || shook > rtt+5*time.Millisecond) { // quic-go rounds its timers
					t.Errorf("a handshake took %v", shook)
				}
			})
		})
	}
}

func TestHTTP2(t *testing.T) {
	body := bytes.Repeat([]byte("news "), 60_000)
	for _, loss := range []float64{0, 0.05} {
		two(t, 3, Link{LossUp: loss, LossDown: loss}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
			n.Name("b.example", addrB)
			ln := must[net.Listener](t)(b.Listen(t.Context(), "tcp", ":443"))
			srv := &http.Server{TLSConfig: website(t), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Proto)
				_, _ = w.Write(body)
			})}
			go func() { _ = srv.ServeTLS(ln, "", "") }()
			rt := &http.Transport{DialContext: a.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
			start := time.Now()
			resp := must[*http.Response](t)((&http.Client{Transport: rt}).Get("https://b.example/"))
			if loss == 0 {
				took(t, "TCP, TLS 1.3 and a request", start, 3*rtt)
			}
			if got := must[[]byte](t)(io.ReadAll(resp.Body)); string(got) != "HTTP/2.0"+string(body) {
				t.Errorf("%d bytes came: %.20q", len(got), got)
			}
			check(t, resp.Body.Close())
			rt.CloseIdleConnections()
			check(t, srv.Close())
		})
	}
}

func TestDNS(t *testing.T) {
	two(t, 1, Link{}, Link{}, func(t *testing.T, n *Net, a, b *Host) {
		h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			rr, _ := dns.NewRR("b.example. 60 IN TXT \"news\"")
			m.Answer = append(m.Answer, rr)
			_ = w.WriteMsg(m)
		})
		pc, ln := listenUDP(t, b, ":53"), must[net.Listener](t)(b.Listen(t.Context(), "tcp", ":53"))
		for _, srv := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: ln, Handler: h}} {
			up := make(chan struct{})
			srv.NotifyStartedFunc = func() { close(up) }
			go func() { _ = srv.ActivateAndServe() }()
			<-up
			defer func() { _ = srv.Shutdown() }()
		}
		for network, trips := range map[string]time.Duration{"udp": 1, "tcp": 2} {
			start := time.Now()
			c := &dns.Conn{Conn: dial(t, a, network, "198.51.100.1:53")}
			check(t, c.WriteMsg(new(dns.Msg).SetQuestion("b.example.", dns.TypeTXT)))
			m, err := c.ReadMsg()
			check(t, err)
			if len(m.Answer) != 1 {
				t.Errorf("%s: %v", network, m)
			}
			took(t, network, start, trips*rtt)
			check(t, c.Close())
		}
	})
}

// bench runs f in a bubble of its own for each of b.N.
func bench(b *testing.B, size int, link Link, f func(t *testing.T, x, y *Host)) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		// A bubble needs a *testing.T, which only a test has.
		ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "bench", F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(1)
				defer n.Close()
				link.Delay = rtt / 4
				f(t, n.Host("a", link, addrA), n.Host("b", Link{Delay: rtt / 4}, addrB))
			})
		}}})
		if !ok {
			b.FailNow()
		}
	}
}

func BenchmarkTCP10MB(b *testing.B) {
	for name, link := range map[string]Link{"unlimited": {}, "1MBps": {Down: 1 << 20}, "loss1%": {LossDown: 0.01}} {
		b.Run(name, func(b *testing.B) {
			bench(b, 10<<20, link, func(t *testing.T, x, y *Host) {
				serve(t, y, answer(10<<20))
				fetch(t, x, 10<<20)
			})
		})
	}
}

func BenchmarkTCPShort(b *testing.B) {
	bench(b, 3000*1000, Link{}, func(t *testing.T, x, y *Host) {
		serve(t, y, answer(3000))
		for range 1000 {
			fetch(t, x, 3000)
		}
	})
}

func BenchmarkQUIC10MB(b *testing.B) {
	for name, link := range map[string]Link{"unlimited": {}, "1MBps": {Down: 1 << 20}} {
		b.Run(name, func(b *testing.B) {
			bench(b, 10<<20, link, func(t *testing.T, x, y *Host) {
				defer quicServe(t, listenUDP(t, y, ":443"), make([]byte, 10<<20))()
				quicFetch(t, listenUDP(t, x, ":0"))
			})
		})
	}
}
