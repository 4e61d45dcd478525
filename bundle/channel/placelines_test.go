package channel

import "testing"

const (
	edID  = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp" // an Ed25519 key
	rsaID = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"       // the hash of an RSA key
)

// What places may look like is a closed list: FORMAT.md, section 9.
func TestPlaceForms(t *testing.T) {
	for _, c := range []struct {
		of   string
		ok   func(string) bool
		good []string
		bad  []string
	}{
		{"peer", validPeer, []string{
			"/ip4/192.0.2.7/tcp/4001/p2p/" + edID, "/ip4/192.0.2.7/udp/4001/quic-v1/p2p/" + rsaID, "/ip6/2001:db8::7/tcp/1/p2p/" + edID,
			"/dns/r.example/tcp/65535/p2p/" + edID, "/dns4/r.example/udp/443/quic-v1/p2p/" + edID, "/dns6/r.example/tcp/443/p2p/" + edID,
		}, []string{
			"", "/", "/p2p/" + edID, "/ip4/192.0.2.7/p2p/" + edID, "/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/udp/4001/p2p/" + edID,
			"/ip4/192.0.2.7/tcp/4001/ws/p2p/" + edID, "/ip4/192.0.2.7/udp/4001/quic/p2p/" + edID, "/ip4/192.0.2.7/tcp/0/p2p/" + edID, "/ip4/192.0.2.7/tcp/04001/p2p/" + edID,
			"/ip4/192.0.2.7/tcp/4001/p2p/" + edID + "/", "/ip4/192.0.2.7/tcp/4001/ipfs/" + edID, "/ip6/::ffff:192.0.2.7/tcp/1/p2p/" + edID, "/ip6/2001:db8::0/tcp/1/p2p/" + edID,
			"/ip6zone/eth0/ip6/fe80::1/tcp/1/p2p/" + edID, "/dns4/R.example/tcp/1/p2p/" + edID, "/dns4/r example/tcp/1/p2p/" + edID, "/dnsaddr/r.example/p2p/" + edID,
			"/dns4/r.example/tcp/443/tls/ws/p2p/" + edID, "/ip4/192.0.2.7/tcp/4001/p2p/" + rsaID + "/p2p-circuit/p2p/" + edID, "/ip4/192.0.2.7/tcp/4001/p2p/notAnID",
		}},
		{"URL", validBase, []string{
			"https://g.example", "https://g.example/", "https://g.example:8443/a/b_c/~d;e=f,g@h/%C3%A9", "https://192.0.2.7", "https://[2001:db8::7]:444/x", "https://nas/x",
			"http://localhost:8080", "http://127.0.0.1:1/x", "http://127.9.9.9", "http://[::1]:65535/",
		}, []string{
			"", "https://", "https:g.example", "HTTPS://g.example", "https://G.example", "ftp://g.example", "https://g.example:0", "https://g.example:080", "https://g.example:65536",
			"https://g.example:", "https://@g.example", "https://u@g.example", "https://g.example?x", "https://g.example/?", "https://g.example/#", "https://g.example/a|b", "https://g.example/a b",
			"https://g.example/%zz", "https://g.example/%", "https://g.example/é", "https://é.example", "https://%61.example", "https://g..example", "https://-g.example", "https://g.256", "https://127.1",
			"https://2130706433", "https://[192.0.2.7]", "https://2001:db8::7", "https://[::ffff:127.0.0.1]", "https://[2001:DB8::7]", "https://[fe80::1%25eth0]",
			"http://g.example", "http://127.1", "http://127.evil.example", "http://localhost.example", "http://[2001:db8::7]",
		}},
		{"authority", validAuthority, []string{"192.0.2.7:53", "[2001:db8::7]:53"}, []string{"192.0.2.7", "n.example:53", "192.0.2.7:0", "[fe80::1%eth0]:53", "[::ffff:192.0.2.7]:53", "[2001:db8::0]:53"}},
		{"host", validHost, []string{"192.0.2.7", "2001:db8::7", "r.example", "nas"}, []string{"", "R.example", "fe80::1%eth0", "::ffff:192.0.2.7", "::ffff:c000:207", "[2001:db8::7]", "r.example."}},
	} {
		for _, s := range c.good {
			if !c.ok(s) {
				t.Errorf("%s %q refused", c.of, s)
			}
		}
		for _, s := range c.bad {
			if c.ok(s) {
				t.Errorf("%s %q taken", c.of, s)
			}
		}
	}
}
