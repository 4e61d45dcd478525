package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
	wire "tamizdat/transport/relay"
)

// Target is somewhere to push to, opened.
type Target struct {
	Name string
	// Pointer: it holds what leads to the newest headlines, and nothing of older
	// editions.
	Pointer bool
	// Witness: it is asked to cosign, and nothing is pushed there.
	Witness bool
	// Aside: it was not named, and is asked to cosign if it happens to be a witness.
	Aside bool
	transport.Publisher

	// notes opens it for reading its root notes; nil if that can't be done.
	notes func(context.Context) (*notesIn, error)
}

// Targets opens the named targets of publisher.toml, all of them if none is
// named. Close each that is an io.Closer. One that can't be opened is among them, and says
// so when it is used.
func (p *Publisher) Targets(network transport.Network, names ...string) ([]Target, error) {
	for _, n := range names {
		if !slices.ContainsFunc(p.cfg.Targets, func(t TargetConfig) bool { return t.Name == n }) {
			return nil, fmt.Errorf("no target %q in %s", n, configFile)
		}
	}
	var out []Target
	for _, t := range p.cfg.Targets {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		out = append(out, p.target(network, t))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no target yet; add one with mirror-publish target NAME, or edit %s", configFile)
	}
	return out, nil
}

// target opens one. What can't be opened fails alone, when it is used.
func (p *Publisher) target(network transport.Network, t TargetConfig) Target {
	pub, err := p.open(network, t)
	if err != nil {
		pub = unopened{fmt.Errorf("%w: %w", errUnopened, err)}
	}
	return Target{Name: t.Name, Pointer: t.Pointer, Witness: t.Witness != "", Publisher: pub, notes: p.notesOf(network, t)}
}

// errUnopened: what publisher.toml says of a target is not enough to use it.
var errUnopened = errors.New("it can't be used")

// unopened is a target that could not be opened.
type unopened struct{ err error }

// Publish implements transport.Publisher.
func (u unopened) Publish(context.Context, transport.Source, func(held, total int64)) error {
	return u.err
}

// Current implements transport.Publisher.
func (u unopened) Current(context.Context, channel.ID) ([]byte, error) { return nil, u.err }

// open opens what a target says.
func (p *Publisher) open(network transport.Network, t TargetConfig) (transport.Publisher, error) {
	switch {
	case t.Folder != "":
		return file.Folder{Dir: p.below(t.Folder)}, nil
	case t.isMirror():
		return p.openMirror(network, t)
	case t.DNS != "":
		return p.openHosted(network, t)
	case t.Witness != "":
		return openWitness(network, t.Witness), nil
	}
	line, err := wire.ParseTarget(t.Relay)
	if err != nil {
		return nil, err
	}
	return wire.NewPublisher(network, line)
}

// Pushed is what became of one target.
type Pushed struct {
	Target string
	// Editions were sent now; Newest is the edition it holds now.
	Editions int
	Newest   uint64
	Bytes    int64
	// Removed is how many files (or DNS records) of older editions went, at targets
	// that keep them until they are told.
	Removed int
	Err     error
}

// ErrAhead: a target holds a newer edition than this folder: the folder was
// restored from a backup, and packing on would fork the channel.
var ErrAhead = errors.New("it holds a newer edition than this folder; don't pack before this folder is repaired: if it was restored from a backup, by mirror-publish recover; if not, somebody has the log key, and docs/publisher.md says what to do")

// ErrOtherHistory: a target holds editions that this folder did not make under
// the same numbers: two copies of the folder have both packed.
var ErrOtherHistory = errors.New("it holds another history of this channel; was this folder copied? go on in the copy that pushed there, and pack no more here; if there is none, because this folder was restored from a backup, take over what it lacks by mirror-publish recover")

// CheckTargets asks all targets, for a few seconds at most, whether one holds
// what this folder did not make: packing on would fork the channel. Targets
// that don't answer in time, or not with what the channel's keys have signed, are no
// obstacle: doubts names them, since they may hold more.
func (p *Publisher) CheckTargets(ctx context.Context, targets []Target) (doubts []error, err error) {
	return p.askAll(ctx, targets, func(ctx context.Context, t Target) error {
		_, err := p.Holds(ctx, t)
		return err
	})
}

// askAll asks all targets at once, and closes them. Its error is that of those that hold
// what was made elsewhere; of the others it is not known whether they do.
func (p *Publisher) askAll(ctx context.Context, targets []Target, ask func(context.Context, Target) error) (doubts []error, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			if err := ask(ctx, t); err != nil {
				errs[i] = fmt.Errorf("%s: %w", t.Name, err)
			}
			if c, ok := t.Publisher.(io.Closer); ok {
				_ = c.Close() // it only read
			}
		})
	}
	wg.Wait()
	var found []error
	for _, err := range errs {
		switch {
		case err == nil:
		case elsewhere(err):
			found = append(found, err)
		default:
			doubts = append(doubts, err)
		}
	}
	return doubts, errors.Join(found...)
}

// elsewhere reports whether a target holds what was made elsewhere.
func elsewhere(err error) bool {
	return errors.Is(err, ErrAhead) || errors.Is(err, ErrOtherHistory) || errors.Is(err, ErrOtherRoots)
}

const (
	askTimeout = 4 * time.Second
	pushTries  = 3
	pushPause  = time.Second
)

// Push has the newest head cosigned by those targets that are witnesses, and sends
// what is missing to every target at once, oldest first, and then,
// to those that take it, a new IPNS record of the newest edition (pushing again
// is how a record is kept from expiring), and the list of revoked batches. progress (may be nil) hears of each
// target's current edition. The results are in the order of the targets.
func (p *Publisher) Push(ctx context.Context, targets []Target, progress func(target string, edition uint64, held, total int64)) []Pushed {
	out := make([]Pushed, len(targets))
	for i, t := range targets {
		out[i].Target = t.Name
	}
	asked, _, err := p.cosign(ctx, targets, cosignTime, func(int) bool { return true })
	p.pushAll(ctx, targets, out, progress)
	if err == nil {
		// Who was slow does not hold up the news; and a relay did not know the channel, or
		// its newest keys, before it had the edition. Those aside get none, and nobody waits
		// longer for whom he did not name.
		again := func(i int) bool {
			return !targets[i].Aside && out[i].Err == nil && asked[i] != nil && !finally(asked[i])
		}
		answers, more, failed := p.cosign(ctx, targets, lateCosignTime, again)
		for i := range targets {
			if again(i) {
				asked[i] = answers[i]
			}
		}
		if err = failed; more {
			p.pushAll(ctx, targets, out, progress)
		}
	}
	for i, t := range targets {
		out[i].Err = errors.Join(out[i].Err, err, asWitness(t, asked[i]))
		if c, ok := t.Publisher.(io.Closer); ok {
			out[i].Err = errors.Join(out[i].Err, c.Close())
		}
	}
	return out
}

// pushAll pushes to all targets at once.
func (p *Publisher) pushAll(ctx context.Context, targets []Target, out []Pushed, progress func(target string, edition uint64, held, total int64)) {
	signed, unsigned := p.signFor(targets)
	var wg sync.WaitGroup
	for i, t := range targets {
		if t.Witness || t.Aside || out[i].Err != nil {
			continue
		}
		wg.Go(func() {
			before := out[i]
			out[i] = p.pushTo(ctx, t, signed, progress)
			out[i].Editions, out[i].Bytes, out[i].Removed = out[i].Editions+before.Editions, out[i].Bytes+before.Bytes, out[i].Removed+before.Removed
			if _, ok := t.Publisher.(transport.Namer); ok {
				out[i].Err = errors.Join(out[i].Err, unsigned)
			}
		})
	}
	wg.Wait()
}

// signed is what points to the newest edition elsewhere: its IPNS record, and its packet
// for BitTorrent's DHT; nil for none.
type signed struct{ record, packet []byte }

// signFor signs one of each for all targets, if any of them takes it.
func (p *Publisher) signFor(targets []Target) (out signed, err error) {
	takes := slices.ContainsFunc(targets, func(t Target) bool { _, ok := t.Publisher.(transport.Namer); return ok && !t.Aside })
	if !takes || p.Size() == 0 {
		return out, nil
	}
	if out.record, err = p.Record(time.Now()); err != nil {
		return out, fmt.Errorf("ipns record: %w", err)
	}
	if p.cfg.BitTorrent {
		if out.packet, err = p.packet(out.record); err != nil {
			err = fmt.Errorf("packet for the dht: %w", err)
		}
	}
	return out, err
}

// pushTo pushes to one target.
func (p *Publisher) pushTo(ctx context.Context, t Target, signed signed, progress func(string, uint64, int64, int64)) (out Pushed) {
	out.Target = t.Name
	if p.Size() == 0 {
		out.Err = errNothingPacked
		return out
	}
	size, behind, err := p.holds(ctx, t)
	if err != nil {
		out.Err = err
		return out
	}
	switch {
	case p.torn():
		out.Err = errTorn
		return out
	case p.Unsaid():
		out.Err = errUnsaid
		return out
	}
	if d, ok := t.Publisher.(transport.Denier); ok {
		// Behind the editions, since the newest one says by which key it is signed, but
		// also where one of them is refused.
		defer func() { out.Err = errors.Join(out.Err, p.pushDenied(ctx, d)) }()
	}
	if behind { // it has not heard the heartbeat, or fewer witnesses have seen the head there
		sent, err := p.pushHead(ctx, t)
		out.Bytes += sent
		switch {
		case errors.Is(err, transport.ErrNotFound):
			size--
		case err != nil:
			out.Err = err
			return out
		default:
			out.Editions++
		}
	}
	window := p.window()
	if t.Pointer {
		window = window[len(window)-1:]
	}
	for _, n := range window {
		if n < size || p.editions[n].hollow() {
			continue
		}
		sent, err := p.pushEdition(ctx, t, n, progress)
		if err != nil {
			out.Err = fmt.Errorf("edition %d: %w", n, err)
			return out
		}
		out.Editions++
		out.Bytes += sent
	}
	out.Newest = p.Size() - 1
	if n, ok := t.Publisher.(transport.Namer); ok && signed.record != nil {
		if err := retry(ctx, func() error { return n.PublishRecord(ctx, p.Channel(), signed.record) }); err != nil {
			out.Err = fmt.Errorf("ipns record: %w", err)
		}
	}
	if n, ok := t.Publisher.(transport.Poster); ok && signed.packet != nil {
		if err := retry(ctx, func() error { return n.PostPacket(ctx, p.Channel(), signed.packet) }); err != nil {
			out.Err = errors.Join(out.Err, fmt.Errorf("packet for the dht: %w", err))
		}
	}
	if t, ok := t.Publisher.(transport.Pruner); ok {
		err := retry(ctx, func() error {
			n, err := t.Prune(ctx, p.Channel(), window)
			out.Removed += n
			return err
		})
		if err != nil {
			out.Err = errors.Join(out.Err, fmt.Errorf("old editions not removed: %w", err))
		}
	}
	return out
}

// pushDenied tells a relay which batches were revoked.
func (p *Publisher) pushDenied(ctx context.Context, d transport.Denier) error {
	list, err := p.Denied(d.Pin())
	if err == nil && list != nil {
		err = retry(ctx, func() error { return d.PublishDenied(ctx, p.Channel(), list) })
	}
	if err != nil {
		return fmt.Errorf("revoked batches are let in there: %w", err)
	}
	return nil
}

// Holds is how many editions the target's log has; ErrAhead if it is more than
// ours, or under a root note that is not here, which the target proves.
func (p *Publisher) Holds(ctx context.Context, t Target) (uint64, error) {
	size, _, err := p.holds(ctx, t)
	return size, err
}

// holds is Holds, and whether the target holds our newest head as it was signed before,
// or with fewer cosignatures.
func (p *Publisher) holds(ctx context.Context, t Target) (size uint64, behind bool, err error) {
	var raw []byte
	err = retry(ctx, func() (err error) { raw, err = t.Current(ctx, p.Channel()); return err })
	if errors.Is(err, transport.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	head, err := p.roots.Head(raw)
	switch {
	case errors.Is(err, channel.ErrOldRoots):
		size, err = p.holdsEnded(raw)
		return size, false, err
	case errors.Is(err, channel.ErrNewerRoots):
		return 0, false, p.newerHead(ctx, t.readNotes, raw)
	case err != nil:
		return 0, false, err
	case head.Size > p.Size():
		return 0, false, ErrAhead
	}
	if ours := channel.TreeHash(slices.Values(p.history(head.Size).Leaves())); ours != head.Tree {
		return 0, false, ErrOtherHistory
	}
	if head.Size < p.Size() || p.torn() {
		return head.Size, false, nil
	}
	behind, err = p.outdated(raw, head)
	return head.Size, behind, err
}

func (p *Publisher) pushEdition(ctx context.Context, t Target, n uint64, progress func(string, uint64, int64, int64)) (int64, error) {
	f, size, err := p.Source(n)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	src := transport.Source{Channel: p.Channel(), Edition: n, CAR: f, Size: size}
	tell := func(held, total int64) {
		if progress != nil {
			progress(t.Name, n, held, total)
		}
	}
	return size, retry(ctx, func() error { return t.Publish(ctx, src, tell) })
}

// Final reports whether pushing again would end the same way.
func Final(err error) bool {
	for _, f := range []error{transport.ErrRefused, transport.ErrBlocked, channel.ErrHead, ErrAhead, ErrOtherHistory, ErrOtherRoots, errNothingPacked, errUnsaid, errTorn, errUnopened} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

var errNothingPacked = errors.New("nothing is packed yet; run mirror-publish pack")

// retry tries a few times, with growing pauses, unless the answer is final.
func retry(ctx context.Context, try func() error) error {
	pause := pushPause
	for i := 1; ; i++ {
		err := try()
		if err == nil || i == pushTries || ctx.Err() != nil || errors.Is(err, transport.ErrNotFound) || Final(err) {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return err
		}
	}
}
