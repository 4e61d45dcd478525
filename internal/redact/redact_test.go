package redact

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"served 3 blocks at 12:30:05":                            "served 3 blocks at 12:30:05",
		"read udp 10.0.0.1:443->192.0.2.9:5123: i/o":             "read udp [redacted]->[redacted]: i/o",
		"from [2001:db8::7]:443 now":                             "from [redacted] now",
		"from 2001:db8::7 now":                                   "from [redacted] now",
		"from fe80::1%eth0 now":                                  "from [redacted] now",
		"from ::ffff:192.0.2.1 now":                              "from [redacted] now",
		"from [fe80::1%eth0]:53":                                 "from [redacted]",
		"GET /AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/ipfs/x":           "GET /[redacted]/ipfs/x",
		"edition 17 of the channel, version 1.2.3":               "edition 17 of the channel, version 1.2.3",
		"http: TLS handshake error from 198.51.100.9:40112: EOF": "http: TLS handshake error from [redacted]: EOF",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q)\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestNothingPassesTheHandler(t *testing.T) {
	var out bytes.Buffer
	reader := "203.0.113.77"
	ap := netip.MustParseAddrPort(reader + ":4711")
	udp := net.UDPAddrFromAddrPort(ap)
	log := slog.New(Handler(slog.NewJSONHandler(&out, nil))).With("peer", udp).WithGroup("g")
	log.Info("hello 203.0.113.77", "s", reader+":1", "any", ap, "err", &net.OpError{Op: "read", Net: "udp", Source: udp, Err: errors.New("gone")},
		slog.Group("deep", "x", udp, "list", []string{reader}), "n", 7, "valuer", valuer{reader})
	if strings.Contains(out.String(), reader) || strings.Contains(out.String(), "113.77") {
		t.Fatalf("an address got through: %s", out.String())
	}
	if !strings.Contains(out.String(), `"n":7`) || !strings.Contains(out.String(), "gone") {
		t.Fatalf("too much was taken out: %s", out.String())
	}
}

type valuer struct{ s string }

func (v valuer) LogValue() slog.Value { return slog.StringValue("at " + v.s) }
