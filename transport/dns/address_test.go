package dns

import (
	"encoding/base64"
	"strings"
	"testing"

	"tamizdat/transport/gateway"
)

func TestParseResolver(t *testing.T) {
	for in, want := range map[string]struct{ text, dial string }{
		"192.0.2.1":               {"192.0.2.1:53", "192.0.2.1:53"},
		" 192.0.2.1 ":             {"192.0.2.1:53", "192.0.2.1:53"},
		"192.0.2.1:5353":          {"192.0.2.1:5353", "192.0.2.1:5353"},
		"udp://192.0.2.1":         {"192.0.2.1:53", "192.0.2.1:53"},
		"2001:db8::1":             {"[2001:db8::1]:53", "[2001:db8::1]:53"},
		"[2001:DB8::1]":           {"[2001:db8::1]:53", "[2001:db8::1]:53"},
		"[2001:db8::1]:53":        {"[2001:db8::1]:53", "[2001:db8::1]:53"},
		"fe80::1%eth0":            {"[fe80::1%eth0]:53", "[fe80::1%eth0]:53"},
		"::ffff:192.0.2.1":        {"192.0.2.1:53", "192.0.2.1:53"},
		"tcp://192.0.2.1":         {"tcp://192.0.2.1", "192.0.2.1:53"},
		"TCP://[2001:db8::1]:530": {"tcp://[2001:db8::1]:530", "[2001:db8::1]:530"},

		"tls://192.0.2.1":                         {"tls://192.0.2.1", "192.0.2.1:853"},
		"tls://DNS.example.":                      {"tls://dns.example", "dns.example:853"},
		"tls://dns.example:8853":                  {"tls://dns.example:8853", "dns.example:8853"},
		"tls://dns.example:8853@192.0.2.1":        {"tls://dns.example:8853@192.0.2.1", "192.0.2.1:8853"},
		"tls://dns.example@2001:db8::1":           {"tls://dns.example@2001:db8::1", "[2001:db8::1]:853"},
		"tls://dns.example@[2001:db8::1]":         {"tls://dns.example@2001:db8::1", "[2001:db8::1]:853"},
		"tls://192.0.2.1#dns.example":             {"tls://dns.example@192.0.2.1", "192.0.2.1:853"},
		"tls://[2001:db8::1]:443#dns.example":     {"tls://dns.example:443@2001:db8::1", "[2001:db8::1]:443"},
		"https://dns.example":                     {"https://dns.example/dns-query", "dns.example:443"},
		"https://dns.example/":                    {"https://dns.example/dns-query", "dns.example:443"},
		"https://dns.example/x/y{?dns}":           {"https://dns.example/x/y", "dns.example:443"},
		"https://dns.example:8443/q@192.0.2.1":    {"https://dns.example:8443/q@192.0.2.1", "192.0.2.1:8443"},
		"https://[2001:db8::1]/dns-query":         {"https://[2001:db8::1]/dns-query", "[2001:db8::1]:443"},
		"https://192.0.2.1/dns-query":             {"https://192.0.2.1/dns-query", "192.0.2.1:443"},
		"https://dns.example/%D0%BD@2001:db8::1":  {"https://dns.example/%D0%BD@2001:db8::1", "[2001:db8::1]:443"},
		"sdns://AAcAAAAAAAAACTEyNy4wLjAuMQ":       {"127.0.0.1:53", "127.0.0.1:53"},
		stampOf(2, ":8443", "d.example", "/q"):    {"https://d.example:8443/q", "d.example:8443"},
		stampOf(2, "192.0.2.1", "d.example", "/"): {"https://d.example/@192.0.2.1", "192.0.2.1:443"},
		stampOf(3, "[2001:db8::1]", "d.example"):  {"tls://d.example@2001:db8::1", "[2001:db8::1]:853"},
		stampOf(3, "192.0.2.1", "192.0.2.1:8853"): {"tls://192.0.2.1:8853", "192.0.2.1:8853"},
	} {
		a, err := ParseResolver(in)
		if err != nil || a.String() != want.text || a.dial() != want.dial {
			t.Errorf("%s: %s, dial %s, %v", in, a, a.dial(), err)
		}
	}
}

// stampOf makes a stamp without hashes.
func stampOf(kind byte, at string, rest ...string) string {
	b := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(at))}, at...)
	b = append(b, 0)
	for _, s := range rest {
		b = append(append(b, byte(len(s))), s...)
	}
	return "sdns://" + base64.RawURLEncoding.EncodeToString(b)
}

// What is wrong is said in one line, in lower case, with what would be right.
func TestParseResolverErrors(t *testing.T) {
	for in, hint := range map[string]string{
		"":                                    "192.0.2.1",
		"dns.example":                         "tls://",
		"dns.example:53":                      "tls://",
		"192.0.2.300":                         "192.0.2.1",
		"192.0.2.1:0":                         "65535",
		"192.0.2.1:99999":                     "65535",
		"192.0.2.1:053":                       "65535",
		"2001:db8::1:53:x":                    "brackets",
		"tcp://dns.example":                   "tls://",
		"http://dns.example/dns-query":        "https://",
		"h3://dns.example/dns-query":          "https://",
		"gopher://192.0.2.1":                  "tls://",
		"tls://":                              "host name",
		"tls://a b":                           "host name",
		"tls://1.2.3":                         "neither",
		"tls://192.0.2.1@192.0.2.2":           "two addresses",
		"tls://dns.example@192.0.2.1:853":     "without a port",
		"tls://dns.example@other.example":     "behind @",
		"tls://dns.example#other.example":     "#NAME",
		"tls://192.0.2.1#192.0.2.2":           "name",
		"tls://192.0.2.1#":                    "host name",
		"https://":                            "host name",
		"https://u@dns.example/dns-query":     "stands last",
		"https://dns.example/q?x=1":           "plain URL",
		"https://dns.example/q#x":             "plain URL",
		"https://dns.example/{dns}":           "plain URL",
		"https://dns.exa\nmple/":              "plain URL",
		"sdns://":                             "copy all",
		"sdns://AAcAAAAAAAAACTEyNy4wLjAu":     "copy all",
		"sdns://AQcAAAAAAAAACTEyNy4wLjAuMQ":   "another kind",
		stampOf(2, "", "d.example"):           "copy all",
		stampOf(2, "", "d.example", "/a?b"):   "copy all",
		"sdns://" + strings.Repeat("A", 2000): "too long",
	} {
		a, err := ParseResolver(in)
		if err == nil {
			t.Errorf("%q: %s", in, a)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, hint) || strings.Contains(msg, "\n") {
			t.Errorf("%q: %s", in, msg)
		}
	}
}

func FuzzParseResolver(f *testing.F) {
	for _, s := range []string{
		"192.0.2.1:53", "tls://d.example:1@2001:db8::1", "https://d.example/a%20b@192.0.2.1", "tls://192.0.2.1#d.example",
		stampOf(2, "192.0.2.1:8443", "d.example", "/q"), stampOf(3, "", "d.example"), "https://a/@b@", "fe80::1%x@y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ParseResolver(in)
		if err != nil {
			return
		}
		b, err := ParseResolver(a.String())
		if err != nil || b.String() != a.String() || b.dial() != a.dial() || b.Way != a.Way || b.Path != a.Path {
			t.Errorf("%q: %s, then %s: %v", in, a, b, err)
		}
		_ = a.tls(gateway.Trust{})
	})
}

func TestPublic(t *testing.T) {
	for word, ways := range map[string][]Way{PublicWord: {HTTPS, TLS}, PlainWord: {Plain}} {
		list, err := ParseResolvers([]string{word, word})
		if err != nil || len(list) < 5 {
			t.Fatalf("%s: %d, %v", word, len(list), err)
		}
		for _, a := range list {
			if a.Way != ways[0] && a.Way != ways[len(ways)-1] {
				t.Errorf("%s has %s", word, a)
			}
			if a.Secret() && !a.At.IsValid() {
				t.Errorf("%s: somebody would be asked where it is", a)
			}
		}
	}
	if _, err := ParseResolvers([]string{"public", "publik"}); err == nil {
		t.Error("took a word that is none")
	}
}
