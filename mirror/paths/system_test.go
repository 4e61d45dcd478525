package paths

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestResolvConf(t *testing.T) {
	got := parseResolvConf(strings.NewReader(`# made by something
search home.arpa
nameserver 192.0.2.1
 nameserver	2001:db8::1 # behind it
nameserver fe80::1%eth0
nameserver
nameserver dns.example
options edns0
nameservers 192.0.2.9
;nameserver 192.0.2.8
`))
	if s := fmt.Sprint(got); s != "[192.0.2.1 2001:db8::1 fe80::1%eth0]" {
		t.Error(s)
	}
	if got := parseResolvConf(strings.NewReader(strings.Repeat("x", 1<<20))); len(got) > 0 {
		t.Error(got)
	}
}

const scutil = `DNS configuration

resolver #1
  search domain[0] : home.arpa
  nameserver[0] : 192.0.2.1
  nameserver[1] : fe80::1%en0
  if_index : 6 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records
  reach    : 0x00000000 (Not Reachable)
  order    : 300000

resolver #3
  domain   : corp.example
  nameserver[0] : 198.51.100.7

resolver #4
  nameserver[0] : 192.0.2.4

DNS configuration (for scoped queries)

resolver #1
  nameserver[0] : 203.0.113.1
  if_index : 6 (en0)
`

func TestScutil(t *testing.T) {
	for text, want := range map[string]string{
		scutil:                             "[192.0.2.1 fe80::1%en0 192.0.2.4]",
		"":                                 "[]",
		"No DNS configuration available\n": "[]",
		"resolver #1\n nameserver[0] : x\n nameserver[1]\n nameserver[2] : ::1": "[::1]",
		"nameserver[0] : 192.0.2.1": "[192.0.2.1]",
	} {
		if s := fmt.Sprint(parseScutil([]byte(text))); s != want {
			t.Errorf("%q: %s", text, s)
		}
	}
}

func TestProps(t *testing.T) {
	for text, want := range map[string]string{"192.0.2.1\n": "[192.0.2.1]", "\n": "[]", "192.0.2.1\nnone\n2001:db8::1\n": "[192.0.2.1 2001:db8::1]"} {
		if s := fmt.Sprint(parseProps([]byte(text))); s != want {
			t.Errorf("%q: %s", text, s)
		}
	}
}

func TestAdapters(t *testing.T) {
	at := netip.MustParseAddr
	got := ofAdapters([]adapter{
		{up: true, metric: 50, resolvers: []netip.Addr{at("192.0.2.50"), at("192.0.2.51")}},
		{up: true, metric: 1 << 31, resolvers: []netip.Addr{at("192.0.2.99")}},
		{up: false, metric: 1, resolvers: []netip.Addr{at("192.0.2.1")}},
		{up: true, loopback: true, metric: 2, resolvers: []netip.Addr{at("192.0.2.2")}},
		{up: true, metric: 5, resolvers: []netip.Addr{at("2001:db8::5"), {}}},
	})
	if s := fmt.Sprint(got); s != "[2001:db8::5 invalid IP 192.0.2.50 192.0.2.51 192.0.2.99]" {
		t.Error(s)
	}
}

// What the system says is bounded, without doubles and without what can't be asked.
func TestAskable(t *testing.T) {
	at := netip.MustParseAddr
	got := askable([]netip.Addr{
		{}, at("0.0.0.0"), at("fec0:0:0:ffff::1"), at("ff02::fb"), at("::ffff:192.0.2.1"), at("192.0.2.1"), at("fe80::1%en0"), at("127.0.0.53"), at("192.0.2.2"),
	})
	if s := fmt.Sprint(got); s != "[192.0.2.1:53 [fe80::1%en0]:53 127.0.0.53:53]" {
		t.Error(s)
	}
	for _, r := range SystemResolvers() { // of this machine, if it has any
		if a, err := netip.ParseAddrPort(r); err != nil || a.Port() != 53 {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// The system is asked again on another network, after a while, and while it says
// nothing.
func TestAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, times := "home", 0
		var said []string
		a := &asked{where: func() string { return here }, ask: func() []string { times++; return said }}
		check := func(what string, want int, list string) {
			t.Helper()
			if got := a.resolvers(); times != want || strings.Join(got, " ") != list {
				t.Errorf("%s: asked %d times, not %d: %v", what, times, want, got)
			}
		}
		check("nothing yet", 1, "")
		said = []string{"192.0.2.1:53"}
		check("something", 2, "192.0.2.1:53")
		said = []string{"192.0.2.2:53"}
		check("again", 2, "192.0.2.1:53")
		here = "away"
		check("elsewhere", 3, "192.0.2.2:53")
		time.Sleep(askAgain)
		check("later", 4, "192.0.2.2:53")
	})
}
