package relay

import (
	"strings"
	"testing"

	"tamizdat/bundle/channel"
)

// FuzzLines: a line between volunteer and publisher, or between two volunteers, that
// is taken is spelt as we spell it, and what is refused is not quoted.
func FuzzLines(f *testing.F) {
	t := Target{Host: "192.0.2.7", Port: 443, Also: []uint16{61443}, Pin: channel.Pin{1}, Mint: channel.MintKey{2}, Intake: channel.MintKey{3}, ECH: []byte("list")}
	p := Pull{Host: "relay.example", Port: 443, Pin: channel.Pin{1}, Prefix: channel.Prefix{2}, Channel: channel.ID{3}}
	for _, s := range []string{t.String(), p.String(), strings.Replace(t.String(), "192.0.2.7", "[2001:db8::7]", 1), "relay1:", "pull1://///", "relay1:a:1,2,3,4,5,6/a/b/c"} {
		f.Add(s)
	}
	if _, err := ParseTarget(t.String()); err != nil {
		f.Fatal(err)
	}
	if _, err := ParsePull(p.String()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		trimmed := strings.TrimSpace(s)
		target, err := ParseTarget(s)
		if err == nil && (target.String() != trimmed || target.Port == 0 || target.Pin.WebPKI()) {
			t.Fatalf("%q is taken as %q", s, target)
		}
		pull, err2 := ParsePull(s)
		if err2 == nil && (pull.String() != trimmed || pull.Port == 0 || pull.Pin.WebPKI()) {
			t.Fatalf("%q is taken as %q", s, pull)
		}
		for _, err := range []error{err, err2} {
			if err != nil && len(trimmed) > 60 && strings.Contains(err.Error(), trimmed) {
				t.Fatalf("the error repeats the line: %v", err)
			}
		}
	})
}

// FuzzAnswers: what a server says of ranges, and what lay on a disk, gives numbers
// within their bounds or nothing.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes */100", "bytes 5-/x", "bytes 9223372036854775808-9/1", "", "\x01\x01\xbb\x01\x00\x07\x00\x00", "\x03\x00\x00\x00\xff\xff\xff\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, total := parseContentRange(s)
		if first >= 0 && total < 0 && !strings.Contains(s, "-") {
			t.Fatalf("%q: %d of %d", s, first, total)
		}
		r := parseRemembered([]byte(s))
		if r != (remembered{}) && string(r.bytes()) != s && s[3] <= 1 {
			t.Fatalf("%x is read as %x", s, r.bytes())
		}
	})
}
