package prober

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// tlsProbes shake hands over TCP in good and in bad ways.
func tlsProbes() []Probe {
	var out []Probe
	hello := func(name string, change func(c *tls.Config)) {
		out = append(out, Probe{Name: label("tls", "%s", name), ask: func(ctx context.Context, s Server) string {
			cfg := clientTLS()
			change(cfg)
			c, err := dialTLS(ctx, s, cfg)
			if err != nil {
				return ending(err)
			}
			defer func() { _ = c.Close() }()
			cs := c.ConnectionState()
			text := fmt.Sprintf("version %x suite %x group %x protocol %q resumed %t", cs.Version, cs.CipherSuite, cs.CurveID, cs.NegotiatedProtocol, cs.DidResume)
			for _, cert := range cs.PeerCertificates {
				text += fmt.Sprintf("\n%x", sha256.Sum256(cert.Raw))
			}
			if cs.NegotiatedProtocol == "h2" {
				return text
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+Host+"\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(io.LimitReader(c, maxAnswer))
			return fmt.Sprintf("%s\n%s\n[%s]", text, b, ending(err))
		}})
	}
	for _, protos := range []string{"", "h2", "http/1.1", "h2,http/1.1", "http/1.1,h2", "http/1.0", "h3", "acme-tls/1", "spdy/3", "h2c", "dot", "h2,acme-tls/1", "relay", "\x00"} {
		hello("ALPN "+protos, func(c *tls.Config) {
			if protos != "" {
				c.NextProtos = strings.Split(protos, ",")
			}
		})
	}
	for _, name := range []string{"", "localhost", "other.example", "127.0.0.1", "xn--e1afmkfd.example", strings.Repeat("a.", 120) + "example"} {
		hello("SNI "+name, func(c *tls.Config) { c.ServerName = name })
		hello("acme-tls/1 for "+name, func(c *tls.Config) { c.ServerName, c.NextProtos = name, []string{"acme-tls/1"} })
	}
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		hello(tls.VersionName(v), func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v })
	}
	for _, suite := range tls.CipherSuites() {
		if suite.SupportedVersions[0] < tls.VersionTLS13 {
			hello(suite.Name, func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite.ID} })
		}
	}
	for _, suite := range tls.InsecureCipherSuites() {
		hello(suite.Name, func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite.ID} })
	}
	for _, group := range []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519, tls.X25519MLKEM768} {
		hello("group "+group.String(), func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{group} })
	}

	raw := func(name string, b []byte, half bool) {
		out = append(out, Probe{Name: label("tcp", "%s", name), ask: func(ctx context.Context, s Server) string {
			c, err := s.Network.Dial(ctx, "tcp", s.Addr)
			if err != nil {
				return ending(err)
			}
			defer c.Close()
			deadline, _ := ctx.Deadline()
			_ = c.SetDeadline(deadline)
			_, _ = c.Write(b)
			if cw, ok := c.(interface{ CloseWrite() error }); ok && half {
				_ = cw.CloseWrite()
			}
			answer, err := io.ReadAll(io.LimitReader(c, maxAnswer))
			return fmt.Sprintf("%x [%s]", answer, ending(err))
		}})
	}
	record := func(kind byte, version uint16, n int, payload string) []byte {
		b := []byte{kind}
		b = binary.BigEndian.AppendUint16(b, version)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		return append(b, payload...)
	}
	raw("nothing", nil, true)
	raw("HTTP without TLS", []byte("GET / HTTP/1.1\r\nHost: "+Host+"\r\n\r\n"), false)
	raw("HTTP/2 without TLS", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), false)
	raw("SSH", []byte("SSH-2.0-OpenSSH_9.9\r\n"), false)
	raw("SMTP", []byte("EHLO x\r\n"), false)
	raw("one byte", []byte{0x16}, true)
	raw("half a record header", []byte{0x16, 3, 1}, true)
	raw("half a ClientHello", record(22, 0x301, 200, "\x01\x00\x00\xc4\x03\x03"+strings.Repeat("x", 40)), true)
	raw("an empty record", record(22, 0x301, 0, ""), true)
	raw("a ClientHello of noise", record(22, 0x301, 44, "\x01\x00\x00\x28\x03\x03"+strings.Repeat("\xa5", 38)), true)
	raw("a handshake too large", record(22, 0x301, 4, "\x01\xff\xff\xff"), true)
	raw("a record too large", record(22, 0x301, 0xffff, strings.Repeat("x", 100)), true)
	raw("a record of version 9", record(22, 0x909, 4, "\x01\x00\x00\x00"), true)
	raw("an alert", record(21, 0x303, 2, "\x02\x28"), true)
	raw("a farewell", record(21, 0x303, 2, "\x01\x00"), true)
	raw("application data", record(23, 0x303, 5, "hello"), true)
	raw("a ChangeCipherSpec", record(20, 0x303, 1, "\x01"), true)
	raw("a Finished", record(22, 0x303, 16, "\x14\x00\x00\x0c"+strings.Repeat("x", 12)), true)
	raw("a ServerHello", record(22, 0x303, 6, "\x02\x00\x00\x02\x03\x03"), true)
	raw("an SSLv2 hello", []byte("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"+strings.Repeat("\x01", 37)), true)
	raw("noise", []byte(strings.Repeat("\xc7\x91\x3b\xe0", 64)), true)
	raw("SOCKS", []byte{5, 1, 0}, true)
	return dedupe(out)
}
