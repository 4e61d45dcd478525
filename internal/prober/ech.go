package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// echProbes hide the name that they ask for (RFC 9849), with keys that no server
// has: a stale configuration, which looks like the GREASE of browsers (section
// 6.2), and an extension that is no good.
func echProbes(p Paths) []Probe {
	var out []Probe
	for i, list := range p.Stale {
		for _, proto := range []string{"h3", "h2", "http/1.1"} {
			out = append(out, Probe{Name: label("ech", "stale configuration %d over %s", i, proto), ask: func(ctx context.Context, s Server) string { return hidden(ctx, s, list, proto) }})
		}
	}
	if len(p.Stale) == 0 {
		return nil
	}
	for _, c := range []struct {
		name   string
		change func(ext []byte) []byte
	}{
		{"as it is", func(ext []byte) []byte { return ext }},
		{"of the inner kind", func(ext []byte) []byte { ext[0] = 1; return ext }},
		{"of an unknown kind", func(ext []byte) []byte { ext[0] = 7; return ext }},
		{"of an unknown cipher", func(ext []byte) []byte { ext[2], ext[4] = 0xfa, 0xfa; return ext }},
		{"of another configuration", func(ext []byte) []byte { ext[5] ^= 0xff; return ext }},
		{"with a key that is none", func(ext []byte) []byte { return zero(ext, 8, 32) }},
		{"with a longer key", func(ext []byte) []byte { ext[7]++; return ext }},
		{"with zeros encrypted", func(ext []byte) []byte { return zero(ext, len(ext)-16, 16) }},
		{"all zeros", func(ext []byte) []byte { return zero(ext, 0, len(ext)) }},
		{"all ones", func(ext []byte) []byte { return bytes.Repeat([]byte{0xff}, len(ext)) }},
	} {
		out = append(out, Probe{Name: label("ech", "an extension %s", c.name), ask: func(ctx context.Context, s Server) string { return mangled(ctx, s, p.Stale[0], c.change) }})
	}
	return out
}

// hidden shakes hands with a configuration that the server does not know, and tells
// what it then shows of itself, and with which configuration it would have agreed.
func hidden(ctx context.Context, s Server, list []byte, proto string) string {
	shown := ""
	cfg := clientTLS(proto)
	cfg.MinVersion, cfg.EncryptedClientHelloConfigList = tls.VersionTLS13, list
	cfg.EncryptedClientHelloRejectionVerify = func(cs tls.ConnectionState) error {
		shown = fmt.Sprintf("group %v protocol %q", cs.CurveID, cs.NegotiatedProtocol) // it keeps the certificate back
		return nil
	}
	var err error
	if proto == "h3" {
		var c *h3Conn
		if c, err = dialH3(ctx, s, cfg, nil); err == nil {
			<-c.HandshakeComplete()
			c.close()
		}
	} else {
		var c *tls.Conn
		if c, err = dialTLS(ctx, s, cfg); err == nil {
			_ = c.Close()
		}
	}
	if rejected := new(tls.ECHRejectionError); errors.As(err, &rejected) {
		return fmt.Sprintf("rejected, try %x\n%s", rejected.RetryConfigList, shown)
	}
	return "not rejected: " + quicEnding(err)
}

// mangled sends a ClientHello over TCP with the extension changed, and tells the
// kind of what comes back first: a record of the handshake, or an alert.
func mangled(ctx context.Context, s Server, list []byte, change func(ext []byte) []byte) string {
	cfg := clientTLS("h2")
	cfg.MinVersion, cfg.EncryptedClientHelloConfigList = tls.VersionTLS13, list
	hello, err := helloOf(ctx, cfg)
	if err != nil {
		return err.Error()
	}
	ext := extension(hello, 0xfe0d)
	if len(ext) < 60 {
		return "no extension to change"
	}
	copy(ext, change(bytes.Clone(ext)))
	c, err := s.Network.Dial(ctx, "tcp", s.Addr)
	if err != nil {
		return ending(err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := c.Write(hello); err != nil {
		return ending(err)
	}
	head := make([]byte, 7)
	if _, err := io.ReadFull(c, head); err != nil {
		return ending(err)
	}
	if head[0] == 21 { // an alert, not encrypted yet
		return fmt.Sprintf("alert %d", head[6])
	}
	return fmt.Sprintf("record of type %d, message %d", head[0], head[5])
}

// helloOf is the record that a client sends first.
func helloOf(ctx context.Context, cfg *tls.Config) ([]byte, error) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, cfg).HandshakeContext(ctx) // ends with the pipe
		a.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err := io.ReadFull(b, body)
	return append(head, body...), err
}

// extension finds an extension's data in a record with a whole ClientHello (RFC
// 8446, section 4.1.2), nil if there is none.
func extension(record []byte, kind uint16) []byte {
	if len(record) < 5+4+2+32+1 {
		return nil
	}
	b := record[5+4+2+32:]
	for _, width := range []int{1, 2, 1} { // session, cipher suites, compression
		n := 0
		for _, c := range b[:min(width, len(b))] {
			n = n<<8 | int(c)
		}
		if len(b) < width+n {
			return nil
		}
		b = b[width+n:]
	}
	if len(b) < 2 {
		return nil
	}
	for b = b[2:]; len(b) >= 4; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return nil
		}
		if binary.BigEndian.Uint16(b) == kind {
			return b[4 : 4+n : 4+n]
		}
		b = b[4+n:]
	}
	return nil
}

func zero(b []byte, from, n int) []byte {
	clear(b[from : from+n])
	return b
}
