package channel

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestRenew(t *testing.T) {
	at := func(host string, prefix byte) Relay {
		return Relay{Host: host, Port: 443, Pin: Pin{1}, Prefix: Prefix{prefix}}
	}
	first := &Invite{Channel: ID{1}, Seed: Seed{1}, IPNS: make([]byte, 32), Places: Places{
		Relays: []Relay{at("192.0.2.1", 1), at("192.0.2.2", 2)}, Zones: []Zone{{Name: "n.example"}}, Gateways: []string{"https://g.example"},
	}}
	fresh := func() *View {
		v := NewView(first)
		v.serial = 7
		v.places = Places{Relays: []Relay{at("192.0.2.1", 1), at("192.0.2.3", 3)}, Zones: []Zone{{Name: "m.example"}}}
		v.epochs[4] = EpochKey{5}
		return v
	}
	for _, tt := range []struct {
		name   string
		invite Invite
		relays []Relay
		zones  []Zone
		serial uint64
	}{
		{
			"the same once more", *first,
			[]Relay{at("192.0.2.3", 3), at("192.0.2.1", 1), at("192.0.2.2", 2)},
			[]Zone{{Name: "m.example"}, {Name: "n.example"}},
			7,
		},
		{
			"other ways of the same batch",
			Invite{Seed: first.Seed, Places: Places{Relays: []Relay{at("192.0.2.1", 9), at("192.0.2.4", 4)}, Zones: []Zone{{Name: "o.example"}}}},
			[]Relay{at("192.0.2.3", 3), at("192.0.2.1", 9), at("192.0.2.4", 4), at("192.0.2.2", 2)},
			[]Zone{{Name: "m.example"}, {Name: "o.example"}, {Name: "n.example"}},
			7,
		},
		{
			"another batch",
			Invite{Seed: Seed{2}, Places: Places{Relays: []Relay{at("192.0.2.1", 8)}}},
			[]Relay{at("192.0.2.1", 8)},
			[]Zone{{Name: "m.example"}, {Name: "n.example"}},
			0,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, invite := fresh(), tt.invite
			invite.Channel, invite.IPNS = first.Channel, first.IPNS
			if err := v.Renew(&invite); err != nil {
				t.Fatal(err)
			}
			b, err := v.Marshal() // as it is kept
			if err == nil {
				v, err = ParseView(b)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := v.Places()
			if !slices.EqualFunc(p.Relays, tt.relays, sameLine) || !slices.Equal(p.Zones, tt.zones) || !slices.Equal(p.Gateways, first.Places.Gateways) {
				t.Errorf("ways in: %+v", p)
			}
			if k, ok := v.EpochKey(4); !ok || k != (EpochKey{5}) || v.serial != tt.serial || v.Invite().Seed != tt.invite.Seed {
				t.Errorf("%+v", v)
			}
		})
	}
	if !sameLine(first.Places.Relays[0], at("192.0.2.1", 1)) || len(first.Places.Zones) != 1 {
		t.Error("the first invite was changed")
	}

	v := fresh()
	if err := v.Renew(&Invite{Channel: ID{2}, IPNS: first.IPNS}); !errors.Is(err, ErrOtherChannel) {
		t.Errorf("another channel: %v", err)
	}
	// What does not fit beside the new invite's own places goes, and no more than that.
	full := Invite{Channel: first.Channel, Seed: Seed{2}, IPNS: first.IPNS}
	for i := 0; full.Validate() == nil; i++ {
		full.Places.Gateways = append(full.Places.Gateways, "https://"+strings.Repeat(string(rune('a'+i)), 60)+".example")
	}
	full.Places.Gateways = full.Places.Gateways[1:]
	if err := v.Renew(&full); err != nil {
		t.Fatal(err)
	}
	if err := v.Invite().Validate(); err != nil {
		t.Error(err)
	}
	if got := v.Invite().Places; !slices.Equal(got.Gateways[:len(full.Places.Gateways)], full.Places.Gateways) || len(got.Zones) != 1 {
		t.Errorf("%d gateways, %d zones", len(got.Gateways), len(got.Zones))
	}
}

func sameLine(a, b Relay) bool { return a.sameHost(b) && a.Prefix == b.Prefix }
