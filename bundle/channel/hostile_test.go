package channel

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestInviteThatDoesNotReadBack(t *testing.T) {
	host := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 31)
	inv := &Invite{Channel: ID{9}, Seed: Seed{8}, IPNS: pub(key("ipns")), Places: Places{Relays: []Relay{{Host: host, Port: 443}}}}
	if inv.Validate() == nil { // 256 bytes: the length byte would be 0
		t.Error("a place of 256 bytes passes")
	}
	if (&Invite{Channel: ID{9}, Seed: Seed{8}}).Validate() == nil {
		t.Error("no IPNS key passes")
	}
}

func TestPlacesForTerminals(t *testing.T) {
	const id = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
	for _, p := range []string{"/dns4/a\x1b[2Jb/tcp/1" + id, "/dns4/a\nrelay x/tcp/1" + id, "/dns4/a b/tcp/1" + id, id + "/unix/etc/x y", id + "/tcp/1"} {
		if (&Places{Peers: []string{p}}).check() == nil {
			t.Errorf("peer %q passes", p)
		}
	}
	for _, g := range []string{"https://a\u009b2Jb", "https://a/\u202ex", "https://x#", "https://:443", "HTTPS://A"} {
		if (&Places{Gateways: []string{g}}).check() == nil {
			t.Errorf("gateway %q passes", g)
		}
		if (&Places{Mirrors: []string{g}}).check() == nil {
			t.Errorf("mirror %q passes", g)
		}
	}
}

func TestGrantThatNobodyWouldOpen(t *testing.T) {
	p := newPublisher(t, "a")
	for name, g := range map[string]Grant{
		"zone":   {Places: Places{Zones: []Zone{{Name: "UPPER.example"}}}},
		"order":  {Epochs: []Epoch{{3, EpochKey{1}}, {1, EpochKey{2}}}},
		"twice":  {Epochs: []Epoch{{3, EpochKey{1}}, {3, EpochKey{2}}}},
		"epochs": {Epochs: make([]Epoch, maxEpochs+1)},
	} {
		for i := range g.Epochs {
			if name == "epochs" {
				g.Epochs[i].Number = uint64(i)
			}
		}
		g.Channel = p.id
		if _, err := SealGrant(g, Seed{1}, 0, p.log, 0); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEmptyChain(t *testing.T) {
	p := newPublisher(t, "a")
	empty := NewView(&Invite{Channel: p.id}).Roots()
	h := p.publish(t, "x")
	for _, raw := range [][]byte{h.Text(), h.Compact()} {
		if _, err := empty.Head(raw); !errors.Is(err, ErrNewerRoots) {
			t.Errorf("head: %v", err)
		}
	}
	if _, err := empty.OpenGrant(make([]byte, GrantSmall), Seed{}); !errors.Is(err, ErrNewerRoots) {
		t.Errorf("grant: %v", err)
	}
}

func TestNumbersOfHeads(t *testing.T) {
	p := newPublisher(t, "a")
	leaf := p.leaf("x")
	leaf.Edition = 1 << 58
	h, err := SignHead(leaf, []Hash{{1}}, 0, leaf.Date, p.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{h.Text(), h.Compact()} {
		if _, err := p.roots(t).Head(raw); !errors.Is(err, ErrHead) {
			t.Errorf("edition 2^58: %v", err)
		}
	}
}

func TestOneForkIsKeptOnce(t *testing.T) {
	ours, theirs := newPublisher(t, "a"), newPublisher(t, "a")
	v := view(t, ours)
	v.Consider(ours.publish(t, "ours"))
	other := theirs.publish(t, "theirs")
	for i := range 12 {
		h, err := ours.roots(t).Head(fmt.Appendf(other.Text(), "— junk%d AAAAAAA=\n", i))
		if err != nil {
			t.Fatal(err)
		}
		if v.Consider(h) != Fork {
			t.Fatal("no fork")
		}
	}
	if n := len(v.Evidence()); n != 1 {
		t.Errorf("%d pieces of evidence of one fork", n)
	}
}

func TestStoredHeadIsVerified(t *testing.T) {
	p := newPublisher(t, "a")
	v := view(t, p)
	v.Consider(p.publish(t, "x"))
	v.head.sig.sig[0] ^= 1
	b, err := v.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseView(b); err == nil {
		t.Error("a stored head with a bad signature accepted")
	}
}

func TestWitnessNames(t *testing.T) {
	p := newPublisher(t, "a")
	for _, name := range []string{"", "a\x1b[2J", "a+b"} {
		n := p.note
		n.Witnesses = []Witness{{name, pub(key("w"))}}
		if _, err := n.Sign(p.root); !errors.Is(err, ErrRootNote) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A relay without a pin is one that WebPKI vouches for, which needs a name.
func TestRelayWithoutPin(t *testing.T) {
	p := newPublisher(t, "a")
	for host, ok := range map[string]bool{
		"cdn.example": true, "a.b.c.cdn.example": true, "1.2.3.example": true, "x.1a": true,
		"192.0.2.7": false, "2001:db8::7": false, "localhost": false, "cdn": false, "127.1": false, "10.0.0.0.1": false, "1": false, "": false, "CDN.example": false,
	} {
		places := Places{Relays: []Relay{{Host: host, Port: 443}}}
		inv := &Invite{Channel: p.id, Seed: Seed{8}, IPNS: pub(key("ipns")), Places: places}
		if _, err := ParseInvite(inv.String()); (err == nil) != ok {
			t.Errorf("invite that names %q: %v", host, err)
		}
		if _, err := SealGrant(Grant{Channel: p.id, Places: places}, Seed{1}, 0, p.log, 0); (err == nil) != ok {
			t.Errorf("grant that names %q: %v", host, err)
		}
	}
	at := Places{Relays: []Relay{{Host: "192.0.2.7", Port: 443, Pin: Pin{15: 1}}}}
	if err := at.check(); err != nil {
		t.Errorf("a pinned relay at an address: %v", err)
	}
}
