package censor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestInitialKeys holds the client's keys to RFC 9001, appendix A.1, and the
// header protection mask to appendix A.2.
func TestInitialKeys(t *testing.T) {
	dcid := unhex(t, "8394c8f03e515708")
	k, err := clientKeys(dcid)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k.iv); got != "fa044b2f42a3fd3b46fb255c" {
		t.Errorf("iv %s", got)
	}
	mask := make([]byte, 16)
	k.hp.Encrypt(mask, unhex(t, "d1b1c98dd7689fb8ec11d242b123dc9b"))
	if got := hex.EncodeToString(mask[:5]); got != "437b9aec36" {
		t.Errorf("mask %s", got)
	}
	// The packet of appendix A.2, protected here with those keys.
	hello := unhex(t, "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c"+
		"00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007"+
		"000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43"+
		"e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ff"+
		"ffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff")
	packet := protect(t, k, unhex(t, "c300000001088394c8f03e5157080000449e00000002"), 4, append(hello, make([]byte, 1162-len(hello))...))
	if len(packet) != 1200 || hex.EncodeToString(packet[:38]) != "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b" {
		t.Fatalf("packet of %d bytes starts %x", len(packet), packet[:38])
	}
	s := initials{limit: 1}
	if h, ok := s.add(packet); !ok || h.name != "example.com" || !h.whole || h.ech {
		t.Errorf("read %+v, %v", h, ok)
	}
	if _, ok := s.add(packet); ok {
		t.Error("looked at a second datagram")
	}
}

// protect is what a client does (RFC 9001, section 5.4).
func protect(t *testing.T, k *initialKeys, header []byte, width int, plain []byte) []byte {
	t.Helper()
	at := len(header) - width
	nonce := bytes.Clone(k.iv)
	for i := range width {
		nonce[len(nonce)-width+i] ^= header[at+i]
	}
	p := append(bytes.Clone(header), k.aead.Seal(nil, nonce, plain, header)...)
	mask := make([]byte, 16)
	k.hp.Encrypt(mask, p[at+4:at+20])
	p[0] ^= mask[0] & 0xf
	for i := range width {
		p[at+i] ^= mask[1+i]
	}
	return p
}

func TestQUICNames(t *testing.T) {
	t.Run("reassembly", func(t *testing.T) {
		scene(t, "quic-sni-reassembly", func(w *world) {
			w.serveQUIC(relayTo)
			w.serveQUIC(otherTo)
			if err := w.shakeQUIC(relayTo, 0, quic.Version1, freeName); err != nil {
				t.Errorf("another name: %v", err)
			}
			if err := w.shakeQUIC(relayTo, 300, quic.Version1, listedName); err != nil {
				t.Errorf("source port under the destination's: %v", err)
			}
			if err := w.shakeQUIC(relayTo, 0, quic.Version2, listedName); err != nil {
				t.Errorf("version 2: %v", err)
			}
			if err := w.shakeQUIC(relayTo, 0, quic.Version1, listedName); err == nil || w.did(Drop) == 0 {
				t.Error("the listed name passed")
			}
			if err := w.shakeQUIC(relayTo, 0, quic.Version1, freeName); err == nil {
				t.Error("the same host is open right after")
			}
			if err := w.shakeQUIC(otherTo, 0, quic.Version1, freeName); err != nil {
				t.Errorf("another host: %v", err)
			}
			time.Sleep(180 * time.Second)
			if err := w.shakeQUIC(relayTo, 0, quic.Version1, freeName); err != nil {
				t.Errorf("after 180 s: %v", err)
			}
		})
	})
	t.Run("first datagram", func(t *testing.T) {
		scene(t, "quic-sni", func(w *world) {
			w.serveQUIC(relayTo)
			// quic-go's ClientHello is too long for one datagram, and it sends the
			// name's halves in two of them.
			if err := w.shakeQUIC(relayTo, 0, quic.Version1, listedName); err != nil {
				t.Errorf("split ClientHello: %v", err)
			}
			// One that fits into the first does not pass.
			small := clientTLS(listedName)
			small.CurvePreferences = []tls.CurveID{tls.X25519}
			in := helloOf(t, small)
			s := initials{limit: 1}
			k, _ := clientKeys(make([]byte, 8))
			frame := append([]byte{frameCrypto, 0, 0x40 | byte(len(in)>>8), byte(len(in))}, in...)
			frame = append(frame, make([]byte, 1162-len(frame))...)
			p := protect(t, k, unhex(t, "c0000000010800000000000000000000449b00"), 1, frame[:1162])
			if h, _ := s.add(p); h.name != listedName {
				t.Errorf("read %+v", h)
			}
			c, err := w.c.Dial(w.soon(), "udp", relayTo.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(p); err != nil || w.did(Drop) != 1 {
				t.Errorf("%d drops, %v", w.did(Drop), err)
			}
		})
	})
}

func TestDropQUICv1(t *testing.T) {
	scene(t, "quic-v1-drop", func(w *world) {
		w.serveQUIC(relayTo)
		if err := w.shakeQUIC(relayTo, 0, quic.Version1, freeName); err == nil || w.did(Drop) == 0 {
			t.Error("version 1 passed")
		}
		if err := w.shakeQUIC(relayTo, 0, quic.Version2, freeName); err != nil {
			t.Errorf("version 2: %v", err)
		}
	})
}

// helloOf returns the ClientHello message that a configuration leads to.
func helloOf(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	return handshake(recordsOf(t, cfg))
}

func recordsOf(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	var c capture
	_ = tls.Client(&c, cfg).HandshakeContext(context.Background())
	if len(c.b) == 0 {
		t.Fatal("no ClientHello")
	}
	return c.b
}

// capture is a connection that keeps what is written, and then ends.
type capture struct {
	net.Conn
	b []byte
}

func (c *capture) Write(p []byte) (int, error)      { c.b = append(c.b, p...); return len(p), nil }
func (c *capture) Read([]byte) (int, error)         { return 0, io.EOF }
func (c *capture) Close() error                     { return nil }
func (c *capture) SetDeadline(time.Time) error      { return nil }
func (c *capture) SetWriteDeadline(time.Time) error { return nil }

func (w *world) serveTLS(at netip.AddrPort) {
	cfg := serverTLS(w.t)
	w.serveTCP(at, func(c net.Conn) {
		s := tls.Server(c, cfg)
		if s.HandshakeContext(context.Background()) == nil {
			_, _ = io.Copy(s, s)
		}
	})
}

func (w *world) shakeTLS(to netip.AddrPort, name string, wrap func(net.Conn) net.Conn) error {
	c, err := w.c.Dial(w.soon(), "tcp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if wrap != nil {
		c = wrap(c)
	}
	return tls.Client(c, clientTLS(name)).HandshakeContext(w.soon())
}

// splitter cuts the first record into two in the midst of the name, which TLS
// allows.
type splitter struct {
	net.Conn
	done bool
}

func (s *splitter) Write(p []byte) (int, error) {
	if s.done {
		return s.Conn.Write(p)
	}
	s.done = true
	rec, ok := firstRecord(p)
	at := bytes.Index(rec, []byte(listedName)) + 4
	if !ok || at < 4 {
		return 0, errors.New("no name to split")
	}
	record := func(b []byte) []byte {
		return append([]byte{recordHandshake, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	_, err := s.Conn.Write(append(record(rec[:at]), record(rec[at:])...))
	return len(p), err
}

func TestResetNames(t *testing.T) {
	scene(t, "tls-sni-rst", func(w *world) {
		w.serveTLS(relayTo)
		if err := w.shakeTLS(relayTo, listedName, nil); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("listed name: %v", err)
		}
		if err := w.shakeTLS(relayTo, "below."+listedName, nil); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a name below: %v", err)
		}
		if err := w.shakeTLS(relayTo, freeName, nil); err != nil {
			t.Errorf("another name: %v", err)
		}
		if err := w.shakeTLS(relayTo, "198.51.100.1", nil); err != nil { // an address is not sent
			t.Errorf("no name: %v", err)
		}
		if err := w.shakeTLS(relayTo, listedName, func(c net.Conn) net.Conn { return &splitter{Conn: c} }); err != nil {
			t.Errorf("a record cut in the name: %v", err)
		}
	})
}

// echHello is a ClientHello with the extensions that ech-drop looks at.
func echHello(name string, ech bool) []byte {
	vec := func(width int, b []byte) []byte {
		n := []byte{byte(len(b) >> 8), byte(len(b))}
		return append(n[2-width:], b...)
	}
	ext := append([]byte{0, 0}, vec(2, vec(2, append([]byte{0}, vec(2, []byte(name))...)))...)
	ext = append(ext, 0x12, 0x34, 0, 1, 9)
	if ech {
		ext = append(append(ext, 0xfe, 0x0d), vec(2, make([]byte, 200))...)
	}
	b := append(make([]byte, 34), 0, 0, 2, 0x13, 1, 1, 0)
	b = append(b, vec(2, ext)...)
	return append([]byte{typeClientHello, 0}, vec(2, b)...)
}

func TestECHNames(t *testing.T) {
	record := func(b []byte) []byte {
		return append([]byte{recordHandshake, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	for _, c := range []struct {
		name string
		ech  bool
		drop bool
	}{{listedName, true, true}, {listedName, false, false}, {freeName, true, false}, {freeName, false, false}} {
		scene(t, "ech-drop", func(w *world) {
			w.serveTCP(relayTo, echo)
			w.echoUDP(relayTo)
			msg := echHello(c.name, c.ech)
			if _, err := w.say(relayTo, record(msg)); isTimeout(err) != c.drop || !c.drop && err != nil {
				t.Errorf("tcp, %+v: %v", c, err)
			}
			k, _ := clientKeys(make([]byte, 8))
			// Two datagrams, the halves the wrong way round.
			half := len(msg) / 2
			var err error
			conn, dialErr := w.c.Dial(w.soon(), "udp", relayTo.String())
			if dialErr != nil {
				t.Fatal(dialErr)
			}
			defer conn.Close()
			for i, at := range []int{half, 0} {
				part := msg[at:]
				if at == 0 {
					part = msg[:half]
				}
				frame := []byte{frameCrypto, 0x40 | byte(at>>8), byte(at), 0x40 | byte(len(part)>>8), byte(len(part))}
				frame = append(frame, part...)
				frame = append(frame, make([]byte, 1162-len(frame))...)
				header := unhex(t, "c0000000010800000000000000000000449b00")
				header[len(header)-1] = byte(i)
				_, err = exchange(conn, protect(t, k, header, 1, frame))
			}
			if isTimeout(err) != c.drop || !c.drop && err != nil {
				t.Errorf("quic, %+v: %v", c, err)
			}
		})
	}
}

// TestECHReal sees that what crypto/tls sends with ECH is seen as such.
func TestECHReal(t *testing.T) {
	cfg := clientTLS("inner.example")
	cfg.EncryptedClientHelloConfigList = echConfigList(t, listedName)
	if h, ok := readHello(helloOf(t, cfg)); !ok || !h.ech || h.name != listedName {
		t.Errorf("read %+v, %v", h, ok)
	}
	if h, ok := readHello(helloOf(t, clientTLS(listedName))); !ok || h.ech || h.name != listedName || !h.whole {
		t.Errorf("read %+v, %v", h, ok)
	}
}

// echConfigList is one ECHConfig (RFC 9849, section 4) with an X25519 key.
func echConfigList(t *testing.T, public string) []byte {
	t.Helper()
	key := unhex(t, "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
	body := append([]byte{7, 0, 0x20, 0, 32}, key...)
	body = append(body, 0, 4, 0, 1, 0, 1, 0, byte(len(public)))
	body = append(body, public...)
	body = append(body, 0, 0)
	cfg := append([]byte{0xfe, 0x0d, 0, byte(len(body))}, body...)
	return append([]byte{0, byte(len(cfg))}, cfg...)
}
