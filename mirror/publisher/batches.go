package publisher

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// grants returns every batch's grant file by name. A file is used again byte
// for byte until what it says changes.
func (p *Publisher) grants() (map[string][]byte, error) {
	out := map[string][]byte{}
	for i := range p.keys.Batches {
		b := &p.keys.Batches[i]
		file, err := p.grant(b)
		if err != nil {
			return nil, err
		}
		out[b.Seed.GrantName(p.Channel())] = file
	}
	return out, nil
}

func (p *Publisher) grant(b *batch) ([]byte, error) {
	g := channel.Grant{Channel: p.Channel()}
	for n, k := range p.keys.Epochs {
		g.Epochs = append(g.Epochs, channel.Epoch{Number: uint64(n), Key: k})
	}
	var err error
	if g.Places, err = p.places(b.Seed); err != nil {
		return nil, err
	}
	others, err := p.otherPorts(b.Seed)
	if err != nil {
		return nil, err
	}
	g.Places.Relays = append(g.Places.Relays, others...)
	said, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(said)
	name := filepath.Join(p.dir, "grants", b.Seed.GrantName(p.Channel()))
	if bytes.Equal(sum[:], b.Said) {
		file, err := os.ReadFile(name)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return file, err
		}
	}
	// The serial is on disk before the grant that carries it: a crash between
	// the two skips a number, and never gives one to two grants.
	p.keys.Serial++
	g.Serial = p.keys.Serial
	b.Said = nil
	if err := p.saveKeys(); err != nil {
		return nil, err
	}
	file, err := channel.SealGrant(g, b.Seed, p.roots.Last().Log.Generation, p.keys.key(p.keys.Log))
	if err != nil {
		return nil, err
	}
	if err := durable.Write(name, 0o600, file); err != nil {
		return nil, err
	}
	b.Said = sum[:]
	return file, p.saveKeys()
}

// Invite returns the invite of a batch: the one of that name, or an unused one
// that gets the name, durably.
func (p *Publisher) Invite(name string) (*channel.Invite, error) {
	if err := checkName(name); err != nil {
		return nil, errors.New("the batch's name must be one line")
	}
	b, err := p.batchNamed(name)
	if err != nil {
		return nil, err
	}
	places, err := p.places(b.Seed)
	if err != nil {
		return nil, err
	}
	inv := &channel.Invite{
		Channel: p.Channel(), Seed: b.Seed, Places: places,
		IPNS: p.keys.key(p.keys.IPNS).Public().(ed25519.PublicKey),
	}
	// An invite has room for two or three of each; grants carry the rest.
	inv.Places.Relays = inviteRelays(inv.Places.Relays)
	inv.Places.Zones = inv.Places.Zones[:min(3, len(inv.Places.Zones))]
	inv.Places.Peers = inv.Places.Peers[:min(2, len(inv.Places.Peers))]
	inv.Places.Gateways = inv.Places.Gateways[:min(1, len(inv.Places.Gateways))]
	inv.Places.Mirrors = inv.Places.Mirrors[:min(2, len(inv.Places.Mirrors))]
	for inv.Validate() != nil {
		switch pl := &inv.Places; {
		case len(pl.Gateways) > 0:
			pl.Gateways = pl.Gateways[:len(pl.Gateways)-1]
		case len(pl.Peers) > 0:
			pl.Peers = pl.Peers[:len(pl.Peers)-1]
		case len(pl.Mirrors) > 1:
			pl.Mirrors = pl.Mirrors[:len(pl.Mirrors)-1]
		case len(pl.Relays) > 2:
			last := len(pl.Relays) - 1
			if pl.Relays[last].Pin.WebPKI() {
				last--
			}
			pl.Relays = slices.Delete(pl.Relays, last, last+1)
		case len(pl.Zones) > 1:
			pl.Zones = pl.Zones[:len(pl.Zones)-1]
		case len(pl.Mirrors) > 0 && len(pl.Relays)+len(pl.Zones) > 0:
			pl.Mirrors = nil
		default:
			return nil, inv.Validate()
		}
	}
	return inv, nil
}

// inviteRelays are three of a batch's relays: the first ones, but if there is a
// CDN the last of them is one. Where it is needed, nothing else gets through,
// a grant neither.
func inviteRelays(all []channel.Relay) []channel.Relay {
	out := slices.Clone(all[:min(3, len(all))])
	if cdn := slices.IndexFunc(all, func(r channel.Relay) bool { return r.Pin.WebPKI() }); cdn > 2 {
		out[2] = all[cdn]
	}
	return out
}

func (p *Publisher) batchNamed(name string) (*batch, error) {
	var unused *batch
	for i := range p.keys.Batches {
		switch b := &p.keys.Batches[i]; {
		case b.Name == name:
			return b, nil
		case b.Name == "" && unused == nil:
			unused = b
		}
	}
	if unused == nil {
		return nil, fmt.Errorf("all %d batches are handed out; use one of them again with --batch", len(p.keys.Batches))
	}
	unused.Name = name
	return unused, p.saveKeys()
}
