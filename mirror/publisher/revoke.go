package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"tamizdat/bundle/channel"
)

// ErrRevoked: Revoke was called for a batch that was revoked before.
var ErrRevoked = errors.New("this batch was revoked already")

// Revoke shuts a batch out, durably: what is packed from now on is of a new epoch,
// whose key the batch's grant does not hold, and no relay either; and each push
// tells relays to be a website to it. What it can open so far it can open for good.
func (p *Publisher) Revoke(name string) error {
	i := slices.IndexFunc(p.keys.Batches, func(b batch) bool { return b.Name == name && name != "" })
	switch {
	case i < 0:
		return fmt.Errorf("no batch %q; mirror-publish status lists them", name)
	case p.keys.Batches[i].revoked():
		return ErrRevoked
	}
	p.keys.Batches[i].Until = len(p.keys.Epochs)
	p.keys.Epochs = append(p.keys.Epochs, channel.EpochKey(random()))
	return p.saveKeys() // both or neither
}

// Batch is what is known of a batch of readers.
type Batch struct {
	Name    string
	Revoked bool
}

// Batches are those that were handed out, in the order in which they were made.
func (p *Publisher) Batches() (out []Batch) {
	for _, b := range p.keys.Batches {
		if b.Name != "" {
			out = append(out, Batch{b.Name, b.revoked()})
		}
	}
	return out
}

// Denied signs the list of revoked batches for the relay with that pin, nil if
// there is none. Of one epoch and relay it is always the same.
func (p *Publisher) Denied(pin channel.Pin) ([]byte, error) {
	d := channel.Denied{Channel: p.Channel(), Pin: pin, Epoch: uint64(len(p.keys.Epochs) - 1)}
	for _, b := range p.keys.Batches {
		if b.revoked() {
			d.Tags = append(d.Tags, b.Seed.TagFor(pin))
		}
	}
	if len(d.Tags) == 0 {
		return nil, nil
	}
	slices.SortFunc(d.Tags, func(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) })
	return d.Sign(p.roots.Last().Log.Generation, p.keys.key(p.keys.Log))
}
