package channel

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"testing"
)

func TestInviteWithECH(t *testing.T) {
	list := ECHList(ECHConfig([32]byte{7, 8, 9}, "www.example.org"))
	if public, name, ok := shortECH(list); !ok || name != "www.example.org" || public != [32]byte{7, 8, 9} {
		t.Fatalf("%x %s %t", public, name, ok)
	}
	inv := &Invite{Channel: ID{9}, Seed: Seed{8}, IPNS: pub(key("ipns")), Places: Places{Zones: []Zone{{Name: "n.example.org"}}}}
	for _, host := range []string{"relay.example.org", "other.example.org", "third.example.org"} {
		inv.Places.Relays = append(inv.Places.Relays, Relay{Host: host, Port: 443, Pin: Pin{1}})
	}
	inv.Places.Relays[1].ECH = list
	if err := inv.Validate(); err != nil {
		t.Fatalf("three relays, a zone and one outer name: %v", err)
	}
	got, err := ParseInvite(inv.String())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got.Places.Relays {
		if want := inv.Places.Relays[i].ECH; !bytes.Equal(r.ECH, want) {
			t.Errorf("relay %d: %x, want %x", i, r.ECH, want)
		}
	}
	// What another program made may say more than fits.
	for at := range list {
		other := bytes.Clone(list)
		other[at] ^= 0x80
		if _, _, ok := shortECH(other); ok && (at < echKeyAt+1 || at >= echKeyAt+echKeyLen) {
			t.Errorf("byte %d changed: it is taken for one of ours", at)
		}
		shortECH(list[:at])
	}
	inv.Places.Relays[1].ECH = append(bytes.Clone(list), 0)
	if got, err := ParseInvite(inv.String()); err != nil || got.Places.Relays[1].ECH != nil {
		t.Errorf("another list: %v", err)
	}
}

// A configuration without a relay, twice, or without a name is no invite.
func TestBadInvitesWithECH(t *testing.T) {
	inv := &Invite{Channel: ID{9}, Seed: Seed{8}, IPNS: pub(key("ipns"))}
	bare := inv.raw()
	relay := append([]byte{placeRelay, 2 + 16 + 24 + 1}, make([]byte, 2+16+24+1)...)
	relay[3], relay[4], relay[len(relay)-1] = 1, 1, 'a' // port, pin, host
	whole := append([]byte{placeECH, echKeyLen + 1}, make([]byte, echKeyLen)...)
	whole = append(whole, 'b')
	for name, c := range map[string]struct {
		places [][]byte
		ok     bool
	}{
		"as it should be": {[][]byte{relay, whole}, true},
		"no relay":        {[][]byte{whole}, false},
		"twice":           {[][]byte{relay, whole, whole}, false},
		"no name":         {[][]byte{relay, append([]byte{placeECH, echKeyLen}, make([]byte, echKeyLen)...)}, false},
		"half a key":      {[][]byte{relay, {placeECH, 3, 1, 2, 3}}, false},
		"no name at all":  {[][]byte{relay, append(append([]byte{placeECH, echKeyLen + 2}, make([]byte, echKeyLen)...), "A_"...)}, false},
	} {
		b := bytes.Clone(bare[:len(bare)-inviteSum])
		for _, p := range c.places {
			b = append(b, p...)
		}
		sum := sha256.Sum256(b)
		text := inviteScheme + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(b, sum[:inviteSum]...))
		if _, err := ParseInvite(strings.ToLower(text)); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInviteTyped) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
