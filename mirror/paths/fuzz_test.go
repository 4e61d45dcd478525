package paths

import (
	"bytes"
	"testing"
)

// FuzzSystem: whatever the system's files and tools say, resolvers are addresses.
func FuzzSystem(f *testing.F) {
	for _, s := range []string{
		"# x\nnameserver 192.0.2.1\nnameserver 2001:db8::1%eth0\nnameserver\n",
		"resolver #1\n  nameserver[0] : 192.0.2.1\nresolver #2\n  domain : x\n  nameserver[0] : 192.0.2.2\nDNS configuration (for scoped queries)\n",
		"192.0.2.1\n\nfe80::1%wlan0\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, got := range map[string]int{
			"resolv.conf": len(parseResolvConf(bytes.NewReader(text))), "scutil": len(parseScutil(text)), "getprop": len(parseProps(text)),
		} {
			if got > len(text) {
				t.Fatalf("%s: %d resolvers in %d bytes", name, got, len(text))
			}
		}
		for _, a := range append(parseResolvConf(bytes.NewReader(text)), append(parseScutil(text), parseProps(text)...)...) {
			if !a.IsValid() {
				t.Fatal("an address that is none")
			}
		}
	})
}
