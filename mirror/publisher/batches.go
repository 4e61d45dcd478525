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

// leastBatches is how many batches are made ahead if publisher.toml does not ask for
// more. Every edition holds a grant for each, so that neither how many are handed out
// nor who was revoked shows.
const leastBatches = 16

// maxBatches is the most that publisher.toml may ask for.
const maxBatches = 8 * leastBatches

// batch is a batch of readers: who is let in, and shut out, together.
type batch struct {
	Seed channel.Seed `json:"seed"`
	// Name is what the publisher calls the batch; empty while it is unused.
	Name string `json:"name,omitempty"`
	// Said is the hash of what all stored grants say, and of their size.
	Said []byte `json:"said,omitempty"`
	// Until is how many epochs the batch can open, 0 unless it was revoked.
	Until int `json:"until,omitempty"`
}

func (b *batch) revoked() bool { return b.Until > 0 }

// maxEpochs is how many epochs' keys a grant holds: the newest ones. Readers keep
// those that they were given, and a front page leads back seven days: into no more
// epochs than if all sixteen batches were revoked in them, and one began each day.
const maxEpochs = 24

// makeBatches makes those that are missing, durably.
func (p *Publisher) makeBatches(want int) error {
	if len(p.keys.Batches) >= want {
		return nil
	}
	for len(p.keys.Batches) < want {
		p.keys.Batches = append(p.keys.Batches, batch{Seed: channel.Seed(random())})
	}
	return p.saveKeys()
}

// grants returns every batch's grant file by name. The files are used again byte
// for byte until what one of them says changes; then all are sealed anew. All are of
// one size, also those of revoked batches, which say less, and always the same: one
// that was smaller, or stayed when the others changed, would be theirs.
func (p *Publisher) grants() (map[string][]byte, error) {
	all := make([]channel.Grant, len(p.keys.Batches))
	size := channel.GrantSmall
	for i := range p.keys.Batches {
		var err error
		if all[i], err = p.grantOf(&p.keys.Batches[i]); err != nil {
			return nil, err
		}
		g := all[i]
		g.Serial = p.keys.Serial + uint64(len(all)) // the longest that is given now
		size = max(size, channel.GrantSize(g, p.roots.Last().Log.Generation))
	}
	said, err := json.Marshal(struct {
		All        []channel.Grant
		Size       int
		Generation uint64 `json:",omitempty"` // readers want them signed by the log key in force
	}{all, size, p.roots.Last().Log.Generation})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(said)
	out := map[string][]byte{}
	for i := range p.keys.Batches {
		b := &p.keys.Batches[i]
		file, err := p.sealed(b, all[i], size, sum[:])
		if err != nil {
			return nil, err
		}
		out[b.Seed.GrantName(p.Channel())] = file
	}
	return out, nil
}

// grantOf is what a batch may have: all keys and places, or if it was revoked
// what it could open before.
func (p *Publisher) grantOf(b *batch) (channel.Grant, error) {
	g := channel.Grant{Channel: p.Channel()}
	until := len(p.keys.Epochs)
	if b.revoked() {
		until = min(until, b.Until)
	}
	for n := max(0, until-maxEpochs); n < until; n++ {
		g.Epochs = append(g.Epochs, channel.Epoch{Number: uint64(n), Key: p.keys.Epochs[n]})
	}
	if b.revoked() {
		return g, nil
	}
	var err error
	if g.Places, err = p.places(b.Seed); err != nil {
		return g, err
	}
	others, err := p.otherPorts(b.Seed)
	g.Places.Relays = append(g.Places.Relays, others...)
	return g, err
}

// sealed is the batch's grant file, of at least size bytes; said is the hash of what
// all grants say.
func (p *Publisher) sealed(b *batch, g channel.Grant, size int, said []byte) ([]byte, error) {
	name := filepath.Join(p.dir, "grants", b.Seed.GrantName(p.Channel()))
	if bytes.Equal(said, b.Said) {
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
	file, err := channel.SealGrant(g, b.Seed, p.roots.Last().Log.Generation, p.keys.key(p.keys.Log), size)
	if err != nil {
		return nil, err
	}
	if err := durable.Write(name, 0o600, file); err != nil {
		return nil, err
	}
	b.Said = said
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
	if b.revoked() {
		return nil, fmt.Errorf("the batch %q was revoked; make a new one with --batch and another name", name)
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
	for inv.Validate() != nil { // a way in is worth more than what hides one
		switch pl := &inv.Places; {
		case slices.ContainsFunc(pl.Relays, hidden):
			last := len(pl.Relays) - 1
			for !hidden(pl.Relays[last]) {
				last--
			}
			pl.Relays[last].ECH = nil
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

// hidden reports whether a relay is named with its outer name. Whoever gets in by
// another way finds that in his grant.
func hidden(r channel.Relay) bool { return r.ECH != nil }

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
		case b.Name == "" && !b.revoked() && unused == nil: // revoked without a name: recovered
			unused = b
		}
	}
	if unused == nil {
		return nil, fmt.Errorf("all %d batches are handed out or revoked; use one of them again with --batch, or have more (batches in publisher.toml)", len(p.keys.Batches))
	}
	unused.Name = name
	return unused, p.saveKeys()
}
