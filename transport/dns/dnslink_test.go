package dns

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/namesys"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p/core/crypto"
	libp2p "github.com/libp2p/go-libp2p/core/peer"
	mdns "github.com/miekg/dns"
)

// TestDNSLink: what Kubo resolves names with finds the channel's IPNS name in the
// zone, and that is the one of its key.
func TestDNSLink(t *testing.T) {
	w := newWorld(t).serve()
	key, err := crypto.UnmarshalEd25519PublicKey(w.roots().IPNSKey())
	if err != nil {
		t.Fatal(err)
	}
	id, err := libp2p.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	want := "/ipns/" + ipns.NameFromPeer(id).String()
	system := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, w.addr)
	}}
	resolve := func(name string) (string, error) {
		p, err := path.NewPath("/ipns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := namesys.NewDNSResolver(system.LookupTXT).Resolve(t.Context(), p, namesys.ResolveWithDepth(1))
		if got.Path == nil {
			return "", err
		}
		return got.Path.String(), err
	}
	name := w.ch.Label() + "." + testZone
	if got, err := resolve(name); got != want {
		t.Errorf("%s is %s, want %s (%v)", name, got, want, err)
	}
	for _, other := range []string{testZone, w.ch.RootLabel(1) + "." + testZone, "nothing." + testZone} {
		if got, err := resolve(other); err == nil || got != "" {
			t.Errorf("%s is %s", other, got)
		}
	}
	// It stands before the wildcard, which goes on with all other labels; below it
	// there is one of its own.
	txt := func(name string) []byte {
		resp := exchange(t, w.addr, "udp", ask(name, mdns.TypeTXT, true))
		if len(resp.Answer) != 1 || resp.Answer[0].Header().Ttl != ttlNamed {
			t.Fatalf("%s: %v", name, resp)
		}
		return txtBytes(t, resp.Answer[0])
	}
	for _, label := range []string{"_dnslink.", "_DNSlink.", "x._dnslink."} {
		if got := txt(label + name + "."); string(got) != "dnslink="+want {
			t.Errorf("%s: %q", label, got)
		}
	}
	for _, label := range []string{"", "x.", "dnslink.", "_dnslink.x."} {
		if got := txt(label + name + "."); !bytes.Equal(got, w.head.Compact()) {
			t.Errorf("%s: %q is not the head", label, got)
		}
	}
	if got := txt("_dnslink." + w.ch.RootLabel(1) + "." + testZone + "."); !bytes.Contains(got, []byte("root")) {
		t.Errorf("a root note has no DNSLink, and its wildcard goes on: %q", got)
	}
}
