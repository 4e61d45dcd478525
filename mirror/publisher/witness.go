package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
	"tamizdat/transport/witness"
)

// Witnesses (c2sp.org/tlog-witness) are asked by push, before editions go out: the
// head then travels with what they have signed. One that does not know the channel
// yet is asked again when it has the edition, and the head goes out once more.

// SetWitnesses drafts the next root note, with other witnesses of which quorum
// should have seen a head from then on. This folder's root key, if there is one,
// signs it at once.
func (p *Publisher) SetWitnesses(witnesses []channel.Witness, quorum int) (*channel.Draft, error) {
	d, err := p.roots.Next(func(n *channel.RootNote) { n.Witnesses, n.Quorum = witnesses, quorum })
	if err != nil {
		return nil, err
	}
	if here := p.rootKeyHere(); here != nil {
		err = d.Sign(here)
	}
	return d, err
}

// Witnesses are those that the newest root note names, and how many of them should
// have seen a head.
func (p *Publisher) Witnesses() ([]channel.Witness, int) {
	last := p.roots.Last()
	return last.Witnesses, last.Quorum
}

// Witnessed says how many witnesses have seen the newest head, and who has not.
func (p *Publisher) Witnessed() (w channel.Witnessed, missing []channel.Witness, err error) {
	switch {
	case p.Size() == 0:
		return w, nil, nil
	case p.torn():
		return w, nil, errTorn
	}
	head, err := p.headOf(p.Size() - 1)
	if err != nil {
		return w, nil, err
	}
	return p.roots.Witnessed(head), p.missing(head), nil
}

// missing are the witnesses who have not cosigned a head.
func (p *Publisher) missing(head *channel.Head) (out []channel.Witness) {
	seen := p.roots.SeenBy(head)
	for _, w := range p.roots.Last().Witnesses {
		if !slices.ContainsFunc(seen, func(s channel.Witness) bool { return s.Key.Equal(w.Key) }) {
			out = append(out, w)
		}
	}
	return out
}

// onlyWitness is a target that is asked to cosign, and nothing else.
type onlyWitness struct {
	*witness.Client
	end context.CancelFunc
}

var (
	_ transport.Publisher = (*onlyWitness)(nil)
	_ transport.Cosigner  = (*onlyWitness)(nil)
)

func openWitness(network transport.Network, url string) *onlyWitness {
	life, end := context.WithCancel(context.Background())
	return &onlyWitness{witness.New(url, gateway.NewTransport(life, network, gateway.Trust{})), end}
}

// Publish implements transport.Publisher; it is not called.
func (*onlyWitness) Publish(context.Context, transport.Source, func(held, total int64)) error {
	return fmt.Errorf("%w: a witness takes no editions", transport.ErrRefused)
}

// Current implements transport.Publisher.
func (*onlyWitness) Current(context.Context, channel.ID) ([]byte, error) {
	return nil, transport.ErrNotFound
}

// Close ends all connections.
func (w *onlyWitness) Close() error {
	w.end()
	return nil
}

// checkWitness checks what only witnesses have. Its errors quote nothing.
func (t *TargetConfig) checkWitness() error {
	if t.Witness != "" && !fits(channel.Places{Mirrors: []string{t.Witness}}) {
		return errors.New("witness is no https address, as https://witness.example")
	}
	return nil
}

// AddWitness appends a witness that is no relay to publisher.toml.
func (p *Publisher) AddWitness(name, url string) error {
	t := TargetConfig{Name: name, Witness: url}
	if err := t.checkWitness(); err != nil {
		return err
	}
	return p.addTarget(t)
}

const (
	// cosignTime is how long witnesses may hold up a push, lateCosignTime how long those
	// may take that were not done by then.
	cosignTime     = 8 * time.Second
	lateCosignTime = 30 * time.Second
)

// errStranger: a witness of other channels.
var errStranger = errors.New("it is none of the channel's witnesses; its key has to be in the root note")

// errUnnamed: a witness of the channel's, for which the newest edition has no room.
var errUnnamed = errors.New("the newest edition does not name it yet, and can't carry what it signs; run mirror-publish pack first, also without news")

// claimError: a witness says that it has seen more editions than there are here. It signs
// no such thing: a restored folder is found out by it, and any one witness can say it.
type claimError struct{ claimed, here uint64 }

func (e *claimError) Error() string {
	return fmt.Sprintf("it claims to have seen %d editions, of which %d are here, and signs nothing that shows it; if this folder was restored from a backup, or copied, don't pack before that is clear, else ask who runs it", e.claimed, e.here)
}

// finally reports whether a witness would say the same again.
func finally(err error) bool {
	return Final(err) || errors.Is(err, errStranger) || errors.Is(err, errUnnamed) || errors.As(err, new(*claimError))
}

// Unnamed are the witnesses that were named after the newest edition was packed: what
// they sign can travel with the next one only.
func (p *Publisher) Unnamed() (out []channel.Witness, err error) {
	switch {
	case p.Size() == 0:
		return nil, nil
	case p.torn():
		return nil, errTorn
	}
	_, then, err := p.headUnder(p.Size() - 1)
	if err != nil {
		return nil, err
	}
	for _, w := range p.roots.Last().Witnesses {
		if !slices.ContainsFunc(then.Last().Witnesses, func(o channel.Witness) bool { return o.VKey() == w.VKey() }) {
			out = append(out, w)
		}
	}
	return out, nil
}

// cosign asks those targets that may be witnesses, and that ask says yes to, for
// their cosignatures of the newest head, unless all witnesses have seen it. What went
// wrong stands with each target, ErrNotFound for who is no witness. more: the head
// has more cosignatures than before, durably.
func (p *Publisher) cosign(ctx context.Context, targets []Target, within time.Duration, ask func(int) bool) (errs []error, more bool, err error) {
	errs = make([]error, len(targets))
	switch {
	case p.Size() == 0:
		return errs, false, nil
	case p.torn(): // where editions go, pushTo says so
		for i, t := range targets {
			if t.Witness {
				errs[i] = errTorn
			}
		}
		return errs, false, nil
	}
	if len(p.roots.Last().Witnesses) == 0 {
		for i, t := range targets {
			if t.Witness {
				errs[i] = errStranger
			}
		}
		return errs, false, nil
	}
	head, then, err := p.headUnder(p.Size() - 1)
	if err != nil || len(p.missing(head)) == 0 {
		return errs, false, err
	}
	errs, with := p.collect(ctx, head, then, targets, within, ask)
	if len(p.missing(with)) == len(p.missing(head)) {
		return errs, false, nil
	}
	return errs, true, p.replaceHead(with)
}

// collect asks for cosignatures of a head of the newest edition, and returns it with
// those that its root notes have room for.
func (p *Publisher) collect(ctx context.Context, head *channel.Head, then *channel.Roots, targets []Target, within time.Duration, ask func(int) bool) (errs []error, with *channel.Head) {
	errs = make([]error, len(targets))
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	log := p.history(p.Size())
	answers := make([][]byte, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		c, ok := t.Publisher.(transport.Cosigner)
		if !ok || !ask(i) {
			continue
		}
		wg.Go(func() {
			var final error
			errs[i] = retry(ctx, func() (err error) {
				if answers[i], err = cosignBy(ctx, c, log, head.Checkpoint()); finally(err) {
					final, err = err, nil
				}
				return err
			})
			switch {
			case final != nil:
				errs[i] = final
			case errs[i] != nil:
			case p.roots.Witnessed(p.roots.Cosigned(head.Bare(), answers[i])).Seen == 0:
				errs[i] = errStranger
			case then.Witnessed(then.Cosigned(head.Bare(), answers[i])).Seen == 0:
				errs[i] = errUnnamed
			}
		})
	}
	wg.Wait()
	return errs, then.Cosigned(head, answers...)
}

// cosignBy asks one witness. It mostly has seen the edition before the newest one;
// else it says what it has seen.
func cosignBy(ctx context.Context, c transport.Cosigner, log *channel.Log, checkpoint []byte) ([]byte, error) {
	size := uint64(len(log.Leaves()))
	old := size - 1
	for tries := 1; ; tries++ {
		proof, err := log.Consistency(old)
		if err != nil {
			return nil, err
		}
		lines, err := c.Cosign(ctx, channel.Submission{Old: old, Proof: proof, Checkpoint: checkpoint})
		var has *transport.SizeError
		switch {
		case !errors.As(err, &has):
			return lines, err
		case has.Size > size:
			return nil, &claimError{has.Size, size}
		case tries == pushTries:
			return nil, err
		}
		old = has.Size
	}
}

// outdated reports whether a target's head, of our newest edition, was signed before ours,
// or then and has fewer cosignatures; one in compact form has room for some only. Whoever
// holds a later one would refuse ours, however many have seen it.
func (p *Publisher) outdated(raw []byte, theirs *channel.Head) (bool, error) {
	ours, err := p.headOf(p.Size() - 1)
	if err != nil {
		return false, err
	}
	if raw[0] == 1 { // FORMAT.md, section 7.2
		if ours, err = p.roots.Head(ours.Compact()); err != nil {
			return false, err
		}
	}
	fewer := p.roots.Witnessed(theirs).Seen < p.roots.Witnessed(ours).Seen
	return theirs.Time.Before(ours.Time) || theirs.Time.Equal(ours.Time) && fewer, nil
}

// asWitness is what is to be said of what a target answered as a witness. Of a relay,
// which need be none, that is only what should not be.
func asWitness(t Target, err error) error {
	switch {
	case err == nil, (!t.Witness || t.Aside) && !errors.Is(err, transport.ErrRefused) && !errors.As(err, new(*claimError)):
		return nil
	case errors.Is(err, transport.ErrNotFound):
		return errors.New("as a witness: what answers there is none, or does not know this channel's log; tell who runs it")
	}
	return fmt.Errorf("as a witness: %w", err)
}

// replaceHead gives the newest edition a head that differs by its time or its
// cosignatures alone. Its file is the old one or the new one, whatever happens.
func (p *Publisher) replaceHead(head *channel.Head) error {
	name := p.carName(head.Edition)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return durable.WriteFile(name, 0o600, func(out io.Writer) error {
		r, err := car.NewReader(f)
		if err != nil {
			return err
		}
		in, err := r.Intro()
		if err != nil {
			return err
		}
		in.Head = head.Text()
		w, err := car.NewEdition(out, *in)
		if err != nil {
			return err
		}
		for {
			b, err := r.Next()
			if err == io.EOF {
				return f.Close() // Windows replaces no open file
			}
			if err != nil {
				return err
			}
			if err := w.Put(b.CID, b.Data); err != nil {
				return err
			}
		}
	})
}
