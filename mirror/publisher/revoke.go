package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tamizdat/bundle/channel"
)

// ErrRevoked: Revoke was called for a batch that was revoked before.
var ErrRevoked = errors.New("this batch was revoked already")

// Revoke shuts a batch out, durably: what is packed from now on is of a new epoch,
// whose key the batch's grant does not hold, and no relay either; and each push
// tells relays to be a website to it. What it can open so far it can open for good.
func (p *Publisher) Revoke(name string) error {
	b, err := p.revocable(name)
	if err != nil {
		return err
	}
	b.Until = len(p.keys.Epochs)
	p.keys.newEpoch()
	return p.saveKeys() // both or neither
}

// Revocable is the error that Revoke would return for that name, and changes nothing.
func (p *Publisher) Revocable(name string) error {
	_, err := p.revocable(name)
	return err
}

func (p *Publisher) revocable(name string) (*batch, error) {
	i := slices.IndexFunc(p.keys.Batches, func(b batch) bool { return b.Name == name && name != "" })
	switch {
	case i < 0:
		return nil, fmt.Errorf("no batch %q; mirror-publish status lists them", name)
	case p.keys.Batches[i].revoked():
		return nil, ErrRevoked
	}
	return &p.keys.Batches[i], nil
}

// Epochs end by themselves, too, so that a new one does not say that somebody was
// revoked: at random and without a memory, like revocations, from a day on.
const (
	leastEpoch = 24 * time.Hour
	meanEpoch  = 6 * 24 * time.Hour // beyond that
	// longestEpoch is cut there: what ends later was drawn by a wrong clock.
	longestEpoch = leastEpoch + 10*meanEpoch
)

// newEpoch begins an epoch; the next pack draws how long it lasts.
func (k *keyring) newEpoch() {
	k.Epochs = append(k.Epochs, channel.EpochKey(random()))
	k.Renew = time.Time{}
}

// ended reports whether the epoch that there is has lasted long enough.
func (p *Publisher) ended(now time.Time) bool {
	return !p.keys.Renew.IsZero() && !now.Before(p.keys.Renew)
}

// renew begins a new epoch if the one that there is has lasted long enough, and
// durably says how long the new one will. An end that a wrong clock has put out of
// reach is drawn anew: else epochs would end by revocations alone.
func (p *Publisher) renew(now time.Time) error {
	switch {
	case p.ended(now):
		p.keys.newEpoch()
	case !p.keys.Renew.IsZero() && !p.keys.Renew.After(now.Add(longestEpoch)):
		return nil
	}
	length := leastEpoch + time.Duration(rand.ExpFloat64()*float64(meanEpoch))
	p.keys.Renew = now.Add(min(length, longestEpoch)).UTC().Truncate(time.Second)
	return p.saveKeys()
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
// there is none. It is the same until another batch is revoked.
func (p *Publisher) Denied(pin channel.Pin) ([]byte, error) {
	d := channel.Denied{Channel: p.Channel(), Pin: pin}
	for _, b := range p.keys.Batches {
		if b.revoked() {
			d.Tags = append(d.Tags, b.Seed.TagFor(pin))
			d.Epoch = max(d.Epoch, uint64(b.Until)) // which that revocation began
		}
	}
	if len(d.Tags) == 0 {
		return nil, nil
	}
	slices.SortFunc(d.Tags, func(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) })
	return d.Sign(p.roots.Last().Log.Generation, p.keys.key(p.keys.Log))
}
