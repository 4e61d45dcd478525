package prober

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quic-go/quic-go/quicvarint"
)

// quicProbes send datagrams that are no request, and handshakes that go wrong.
func quicProbes() []Probe {
	var out []Probe
	for _, c := range []struct{ name, sni, protos string }{
		{"no ALPN", Host, ""},
		{"ALPN h2", Host, "h2"},
		{"ALPN h3-29", Host, "h3-29"},
		{"ALPN hq-interop", Host, "hq-interop"},
		{"ALPN h3,h2", Host, "h3,h2"},
		{"ALPN acme-tls/1", Host, "acme-tls/1"},
		{"no SNI", "", "h3"},
		{"another SNI", "other.example", "h3"},
		{"an address as SNI", "127.0.0.1", "h3"},
	} {
		out = append(out, Probe{Name: label("quic", "%s", c.name), ask: func(ctx context.Context, s Server) string {
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: c.sni, NextProtos: strings.Split(c.protos, ",")}
			if c.protos == "" {
				cfg.NextProtos = nil
			}
			h, err := dialH3(ctx, s, cfg, nil)
			if err != nil {
				return quicEnding(err)
			}
			defer h.close()
			select {
			case <-h.HandshakeComplete():
			case <-h.Context().Done():
				return quicEnding(context.Cause(h.Context()))
			}
			cs := h.ConnectionState().TLS
			text := fmt.Sprintf("group %x protocol %q", cs.CurveID, cs.NegotiatedProtocol)
			for _, cert := range cs.PeerCertificates {
				text += fmt.Sprintf("\n%x", sha256.Sum256(cert.Raw))
			}
			return text
		}})
	}
	long := func(version uint32, size int, first byte) []byte {
		b := []byte{first}
		b = binary.BigEndian.AppendUint32(b, version)
		b = append(b, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0)
		return append(b, make([]byte, max(0, size-len(b)))...)
	}
	for name, b := range map[string][]byte{
		"unknown version": long(0x1a2a3a4a, 1200, 0xc0), "unknown version, short": long(0x1a2a3a4a, 600, 0xc0), "version 0": long(0, 1200, 0xc0), "an Initial of zeros": long(1, 1200, 0xc0),
		"a short Initial": long(1, 300, 0xc0), "a Handshake packet": long(1, 1200, 0xe0), "a 0-RTT packet": long(1, 1200, 0xd0), "a Retry": long(1, 1200, 0xf0), "version 2": long(0x6b3343cf, 1200, 0xd0),
		"no fixed bit": long(1, 1200, 0x80), "a short header": append([]byte{0x40}, make([]byte, 1199)...), "noise": []byte(strings.Repeat("\x5a\xa7", 600)), "one byte": {0x40}, "a STUN request": append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...),
		"a DNS query": []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01"), "nothing": {},
	} {
		out = append(out, Probe{Name: label("udp", "%s", name), ask: func(ctx context.Context, s Server) string { return firstReply(ctx, s, [][]byte{b}) }})
	}
	return out
}

// settle is how much longer a server has for its answer to datagrams than for the
// one to a packet behind them that costs it nothing.
const settle = 300 * time.Millisecond

// firstReply sends datagrams, and behind them one that every QUIC server answers
// (RFC 9000, section 6): a server from which nothing else has come soon after that
// answer is silent.
func firstReply(ctx context.Context, s Server, datagrams [][]byte) string {
	pc, err := s.Network.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return ending(err)
	}
	defer pc.Close()
	to, err := s.udp()
	if err != nil {
		return err.Error()
	}
	for _, b := range datagrams {
		if _, err := pc.WriteTo(b, to); err != nil {
			return ending(err)
		}
	}
	marker := []byte{0xc0, 0x2a, 0x3a, 0x4a, 0x5a, 8, 'm', 'a', 'r', 'k', 'e', 'r', '!', '!', 0}
	marker = append(marker, make([]byte, 1200-len(marker))...)
	b := make([]byte, 2048)
	for silence := ""; ; {
		wait := settle
		if silence == "" {
			if _, err := pc.WriteTo(marker, to); err != nil {
				return ending(err)
			}
			wait = patience / 10 // it may be lost
		}
		_ = pc.SetReadDeadline(time.Now().Add(wait))
		n, _, err := pc.ReadFrom(b)
		switch {
		case err == nil && !bytes.Contains(b[:n], marker[6:14]):
			return kindOf(b[:n])
		case err == nil:
			silence = kindOf(b[:n])
		case silence != "":
			return silence
		case ctx.Err() != nil:
			return ending(err)
		}
	}
}

// kindOf describes a datagram by what is not chance in it.
func kindOf(b []byte) string {
	if len(b) < 7 || b[0]&0x80 == 0 {
		return fmt.Sprintf("short header, %d bytes", len(b))
	}
	if version := binary.BigEndian.Uint32(b[1:]); version == 1 && b[0]&0x30 == 0x30 {
		return "Retry" // with a token whose length depends on the address
	} else if version != 0 {
		return fmt.Sprintf("long header %x, version %x, %d bytes", b[0]>>4, b[1:5], len(b))
	}
	rest := b[6:]
	dcid := rest[:min(int(b[5]), len(rest))]
	rest = rest[len(dcid):]
	if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return "cut off"
	}
	scid := rest[1 : 1+int(rest[0])]
	rest = rest[1+len(scid):]
	var versions []string
	for ; len(rest) >= 4; rest = rest[4:] {
		v := binary.BigEndian.Uint32(rest)
		if v&0x0f0f0f0f == 0x0a0a0a0a { // drawn by lot (section 15)
			versions = append(versions, "reserved")
			continue
		}
		versions = append(versions, fmt.Sprintf("%x", v))
	}
	slices.Sort(versions)
	return fmt.Sprintf("versions %v for %q %q", versions, dcid, scid)
}

// packetLen is the length of a long-header packet with its header, 0 if there is
// none that could be read.
func packetLen(b []byte) int {
	if len(b) < 7 {
		return 0
	}
	at := 6 + int(b[5])
	if at >= len(b) {
		return 0
	}
	at += 1 + int(b[at])
	if at > len(b) {
		return 0
	}
	if b[0]>>4&3 == 0 { // an Initial has a token
		n, m, err := quicvarint.Parse(b[at:])
		if err != nil || n > uint64(len(b)-at-m) {
			return 0
		}
		at += m + int(n)
	}
	n, m, err := quicvarint.Parse(b[at:])
	if err != nil || n > uint64(len(b)-at-m) {
		return 0
	}
	return at + m + int(n)
}
