package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/mirror/publisher/source"
	"tamizdat/transport"
	"tamizdat/transport/file"
	"tamizdat/transport/gateway"
	wire "tamizdat/transport/relay"
)

// A folder that was restored from a backup knows less than what it has signed since:
// going on from it would sign the same numbers twice. What it lacks is at its
// targets. Recovering takes it back from there: root notes, epoch keys (out of the
// grants, which the batches' seeds open), the log, and the newest edition whole. Of
// editions between that and the backup the log's hashes are enough to go on; what of
// them was packed is taken along where it is to be had.

const (
	// recoverTime bounds how long one target may take.
	recoverTime = 10 * time.Minute
	// maxRecovered bounds an edition in memory, as it is while it is packed: what relays
	// take by default.
	maxRecovered = 256_000_000
	// maxRecoveredNotes bounds root notes that were made since the backup.
	maxRecoveredNotes = 256
	// fetchWants is how many blocks are asked for at once.
	fetchWants = 64
	// serialGap is how far serials of grants go on above the highest that was found: other
	// batches' grants may have had higher ones.
	serialGap = 1000
)

// torn reports whether recovering was cut off: the newest edition is not here, and its
// number must not be used again.
func (p *Publisher) torn() bool {
	n := len(p.editions)
	return n > 0 && p.editions[n-1].hollow()
}

var errTorn = errors.New("recovering this folder was cut off; run mirror-publish recover again")

var (
	// ErrNotBehind: no target that can be read back holds more than this folder.
	ErrNotBehind = errors.New("no target that editions can be read back from holds more than this folder: there is nothing to recover")
	// errWriteOnly: such targets hold no whole editions.
	errWriteOnly = errors.New("whole editions can't be read back from it")
	errNoGrant   = errors.New("it has no grant for a batch of this folder; was keys/keys.json of another channel restored?")
)

// Found is what a target holds that this folder lacks, verified.
type Found struct {
	// Target is where it was found.
	Target string
	// RootNotes, Epochs and Revoked count what was made since the backup: root notes,
	// epoch keys, and batches that were revoked.
	RootNotes, Epochs, Revoked int
	// Editions are those that are lacking, oldest first. The last one is whole.
	Editions []FoundEdition

	roots    *channel.Roots
	keys     keyring
	editions []edition
	head     *channel.Head
	blocks   []bundle.Block
}

// FoundEdition is one of them.
type FoundEdition struct {
	Number uint64
	// Date and Articles are known if Known.
	Date     time.Time
	Articles int
	Known    bool
}

// sourceOf is a target as its readers see it.
type sourceOf struct {
	heads  transport.Heads
	blocks transport.Blocks
	close  func() error
}

// readBack opens a target for reading.
func (p *Publisher) readBack(ctx context.Context, network transport.Network, t TargetConfig) (*sourceOf, error) {
	switch {
	case t.Folder != "":
		f, err := file.Open(t.Folder)
		if err != nil {
			return nil, err
		}
		return &sourceOf{f, f, func() error { return nil }}, nil
	case t.Relay != "":
		line, err := wire.ParseTarget(t.Relay)
		if err != nil {
			return nil, err
		}
		// As a reader of a batch that nobody has: whichever were revoked is not known.
		c, err := wire.New(wire.Config{Network: network, Relay: line.Relay(channel.Seed(random()))})
		if err != nil {
			return nil, err
		}
		for _, path := range c.Paths() {
			if path.Heads == nil || path.Blocks == nil {
				continue
			}
			if _, err = path.Heads.Head(ctx, p.Channel(), 0); err == nil {
				return &sourceOf{path.Heads, path.Blocks, c.Close}, nil
			}
		}
		return nil, errors.Join(err, c.Close())
	case t.URL != "":
		rt := gateway.NewTransport(ctx, network, gateway.Trust{})
		c, err := gateway.New(t.URL, rt, gateway.Options{Static: true})
		if err != nil {
			return nil, err
		}
		path := c.Path()
		return &sourceOf{path.Heads, path.Blocks, func() error { rt.CloseIdleConnections(); return nil }}, nil
	}
	return nil, errWriteOnly
}

// Find looks at the named targets of publisher.toml, all of them if none is named,
// for what this folder lacks, and verifies it: it changes nothing. The error wraps
// ErrNotBehind if nobody holds more, and ErrOtherHistory if somebody does that does
// not go on from here. Targets that can't be read are no obstacle unless all are such.
func (p *Publisher) Find(ctx context.Context, network transport.Network, names ...string) (*Found, error) {
	var best *candidate
	var failed []error
	defer func() {
		if best != nil {
			_ = best.from.close() // it only read
		}
	}()
	reached := false
	for _, t := range p.cfg.Targets {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		c, err := p.candidate(ctx, network, t)
		switch {
		case errors.Is(err, errWriteOnly):
			continue
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", t.Name, err))
			continue
		}
		reached = true
		if best == nil || c.head.Newer(best.head) {
			best, c = c, best
		}
		if c != nil {
			_ = c.from.close()
		}
	}
	if !reached {
		return nil, errors.Join(append([]error{ErrNotBehind}, failed...)...)
	}
	if !p.behind(best) {
		return nil, ErrNotBehind
	}
	ctx, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	f, err := p.verify(ctx, best)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", best.name, err)
	}
	return f, nil
}

// candidate is the newest head of one target, and the root notes that it needs.
type candidate struct {
	name  string
	from  *sourceOf
	roots *channel.Roots
	head  *channel.Head
}

func (p *Publisher) candidate(ctx context.Context, network transport.Network, t TargetConfig) (_ *candidate, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	from, err := p.readBack(context.WithoutCancel(ctx), network, t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, from.close())
		}
	}()
	raw, err := from.heads.Head(ctx, p.Channel(), 0)
	if err != nil {
		return nil, err
	}
	c := &candidate{name: t.Name, from: from, roots: p.roots}
	for range maxRecoveredNotes {
		if c.head, err = c.roots.Head(raw); !errors.Is(err, channel.ErrNewerRoots) {
			return c, err
		}
		note, err := from.heads.RootNote(ctx, p.Channel(), c.roots.Version()+1)
		if err != nil {
			return nil, fmt.Errorf("root note %d: %w", c.roots.Version()+1, err)
		}
		if c.roots, err = c.roots.Extend(note); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("too many root notes")
}

// behind reports whether a candidate holds what this folder lacks.
func (p *Publisher) behind(c *candidate) bool {
	return c.head.Size > p.Size() || c.roots.Version() > p.roots.Version()
}

// verify fetches and checks what a candidate holds.
func (p *Publisher) verify(ctx context.Context, c *candidate) (*Found, error) {
	f := &Found{Target: c.name, roots: c.roots, head: c.head, RootNotes: int(c.roots.Version() - p.roots.Version())}
	vol, blocks, err := fetchEdition(ctx, c.from.blocks, p.Channel(), c.head.Leaf.Edition, c.head.Root)
	if err != nil {
		return nil, err
	}
	hashes, err := vol.Hashes(0)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(hashes), c.head.Leaf.Hash())
	if channel.TreeHash(slices.Values(all)) != c.head.Tree {
		return nil, fmt.Errorf("%w: its log is not the one that its head states", channel.ErrHead)
	}
	if err := p.continues(c, all); err != nil {
		return nil, err
	}
	if err := p.takeKeys(f, c, vol); err != nil {
		return nil, err
	}
	if p.common(c) > c.head.Edition {
		return f, nil // root notes are all that is new
	}
	newest, err := p.openEdition(f, vol, c.head.Leaf, c.head.Generation)
	if err != nil {
		return nil, err
	}
	for n := p.common(c); n < c.head.Edition; n++ {
		e := p.between(ctx, c, f, newest.Front, n)
		e.Hash, e.hash, e.Generation, e.generation = slices.Clone(all[n][:]), all[n], c.head.Generation, c.head.Generation
		f.editions = append(f.editions, e)
	}
	f.editions, f.blocks = append(f.editions, newest), blocks
	for i, e := range f.editions {
		fe := FoundEdition{Number: c.head.Edition + 1 - uint64(len(f.editions)-i)}
		if fe.Known = e.Front != nil; fe.Known {
			fe.Date, fe.Articles = e.Front.Date, len(e.Packed)
		}
		f.Editions = append(f.Editions, fe)
	}
	return f, nil
}

// common is how many of this folder's editions stay: those that any later generation
// of the log has left out don't.
func (p *Publisher) common(c *candidate) uint64 {
	return min(p.Size(), c.roots.Kept(p.roots.Last().Log.Generation))
}

// continues checks that a log goes on from this folder's.
func (p *Publisher) continues(c *candidate, all []channel.Hash) error {
	common := p.common(c)
	if uint64(len(all)) < common {
		return ErrNotBehind
	}
	for i, e := range p.editions[:common] {
		if all[i] != e.hash {
			return ErrOtherHistory
		}
	}
	log := c.roots.Last().Log
	if log.Base > 0 && channel.TreeHash(slices.Values(all[:min(log.Base, uint64(len(all)))])) != log.BaseHash {
		return fmt.Errorf("%w: its log is not what its generation began with", channel.ErrHead)
	}
	return nil
}

// takeKeys finds in the grants which epochs there were since, and which batches were
// revoked. What this folder has revoked since it was restored stays so.
func (p *Publisher) takeKeys(f *Found, c *candidate, vol *bundle.Volume) error {
	f.keys = p.keys
	f.keys.Epochs, f.keys.Batches = slices.Clone(p.keys.Epochs), slices.Clone(p.keys.Batches)
	epochs, ends := map[uint64]channel.EpochKey{}, make([]int, len(f.keys.Batches))
	for i := range f.keys.Batches {
		b := &f.keys.Batches[i]
		sealed, ok, err := vol.File(bundle.LayerGrants, b.Seed.GrantName(p.Channel()))
		if err != nil {
			return err
		}
		if !ok && b.Name == "" {
			continue // made since the backup was restored, of more than there were
		}
		if !ok {
			return errNoGrant
		}
		g, err := f.roots.OpenGrant(sealed, b.Seed)
		if err != nil {
			return err
		}
		for _, e := range g.Epochs {
			if known, ok := epochs[e.Number]; ok && known != e.Key {
				return errors.New("its grants contradict each other")
			}
			epochs[e.Number], ends[i] = e.Key, max(ends[i], int(e.Number)+1)
		}
		f.keys.Serial, b.Said = max(f.keys.Serial, g.Serial), nil
	}
	if len(epochs) == 0 {
		return errNoGrant
	}
	// An epoch that nothing here was packed in began after the backup was restored, with
	// a revocation: what the targets have under its number counts.
	used := p.usedEpochs(p.common(c))
	for n, key := range epochs {
		if n < used && p.keys.Epochs[n] != key {
			return errors.New("this folder has another key of an epoch than its grants; was keys/keys.json of another channel restored?")
		}
	}
	for n := used; n <= f.head.Epoch; n++ {
		switch key, ok := epochs[n]; {
		case n < uint64(len(f.keys.Epochs)):
			if ok && f.keys.Epochs[n] != key {
				f.keys.Epochs[n] = key
				f.Epochs++
			}
		case !ok:
			return fmt.Errorf("the key of epoch %d is in no grant that this folder can open", n)
		default:
			f.keys.Epochs = append(f.keys.Epochs, key)
			f.Epochs++
		}
	}
	last := 0 // epoch that a revocation began
	for i := range f.keys.Batches {
		switch b := &f.keys.Batches[i]; {
		case b.revoked(): // it may have got newer keys since the backup
			b.Until = max(b.Until, ends[i])
		case ends[i] == 0: // made here
		case ends[i] <= int(f.head.Epoch):
			b.Until = ends[i]
			f.Revoked++
		}
		last = max(last, f.keys.Batches[i].Until)
	}
	if last >= len(f.keys.Epochs) {
		f.keys.newEpoch()
	}
	f.keys.Serial += serialGap
	return nil
}

// usedEpochs is how many epochs' keys this folder's first size editions are known to
// have used.
func (p *Publisher) usedEpochs(size uint64) (used uint64) {
	for i := range p.editions[:size] {
		if e := &p.editions[i]; !e.hollow() {
			used = max(used, e.leaf.Epoch+1)
		}
	}
	return used
}

// openEdition reads what this folder keeps of an edition out of its layers.
func (p *Publisher) openEdition(f *Found, vol *bundle.Volume, leaf channel.Leaf, generation uint64) (edition, error) {
	if leaf.Epoch >= uint64(len(f.keys.Epochs)) {
		return edition{}, fmt.Errorf("the key of epoch %d is not known", leaf.Epoch)
	}
	vol.Key = f.keys.Epochs[leaf.Epoch]
	front, err := vol.Front()
	if err != nil {
		return edition{}, err
	}
	e := edition{
		Leaf: leaf.Text(), Front: front, Packed: map[string][]byte{}, Sizes: map[string]int64{},
		leaf: leaf, hash: leaf.Hash(), generation: generation,
	}
	for i := range front.Articles {
		entry := &front.Articles[i]
		if entry.Edition != vol.Edition {
			continue
		}
		a, err := vol.Article(entry)
		if err != nil {
			return edition{}, err
		}
		for j := range a.Images {
			img, err := vol.Image(entry, j)
			if err != nil {
				return edition{}, err
			}
			a.Images[j].Data = img.Data
		}
		sum := source.Fingerprint(*a)
		e.Packed[a.ID] = sum[:]
	}
	for _, layer := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia} {
		var n counter
		if ok, err := vol.Copy(&n, layer); err != nil {
			return edition{}, err
		} else if ok {
			e.Sizes[layer] = int64(n)
		}
	}
	return e, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// between is what can be known of an edition between the backup and the newest one: if
// the newest front page leads to it and the target still has it, what was packed. It
// is no failure if not: then its articles may be packed once more.
func (p *Publisher) between(ctx context.Context, c *candidate, f *Found, front *bundle.Front, n uint64) edition {
	at := slices.IndexFunc(front.Past, func(past bundle.Past) bool { return past.Edition == n })
	if at < 0 {
		return edition{}
	}
	past := front.Past[at]
	root, err := cid.Decode(past.Root)
	if err != nil {
		return edition{}
	}
	vol, _, err := fetchEdition(ctx, c.from.blocks, p.Channel(), n, root)
	if err != nil {
		return edition{}
	}
	e, err := p.openEdition(f, vol, channel.Leaf{Channel: p.Channel(), Edition: n, Epoch: past.Epoch, Root: root}, c.head.Generation)
	if err != nil {
		return edition{}
	}
	e.Leaf, e.leaf = nil, channel.Leaf{} // what exactly it said, its hash knows
	return e
}

// fetchEdition fetches all blocks of an edition, each checked by its hash. They come in
// the order of its CAR.
func fetchEdition(ctx context.Context, from transport.Blocks, ch channel.ID, n uint64, root cid.Cid) (*bundle.Volume, []bundle.Block, error) {
	held, size := map[cid.Cid][]byte{}, 0
	vol := &bundle.Volume{Channel: ch, Edition: n, Root: root, Get: func(c cid.Cid) ([]byte, error) {
		if b, ok := held[c]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}}
	for {
		var blocks []bundle.Block
		err := vol.Walk(func(w bundle.Want, b []byte) error {
			blocks = append(blocks, bundle.Block{CID: w.CID, Data: b})
			return nil
		})
		var m *bundle.MissingError
		if !errors.As(err, &m) {
			return vol, blocks, err
		}
		before := len(held)
		for wants := range slices.Chunk(m.Wants, fetchWants) {
			for b, err := range from.Fetch(ctx, transport.Request{Edition: transport.Edition{Channel: ch, Number: n, Root: root}, Wants: wants}) {
				if errors.As(err, new(*transport.WantError)) {
					continue
				}
				if err == nil {
					err = bundle.CheckBlock(b.CID, b.Data)
				}
				if err != nil {
					return nil, nil, err
				}
				if size += len(b.Data); size > maxRecovered {
					return nil, nil, fmt.Errorf("edition %d is larger than %d bytes", n, maxRecovered)
				}
				held[b.CID] = slices.Clone(b.Data)
			}
		}
		if len(held) == before {
			return nil, nil, fmt.Errorf("edition %d is not there whole: %w", n, transport.ErrNotFound)
		}
	}
}

// Adopt takes what Find has found into this folder, durably: keys and root notes
// first, then editions in order, so that a crash leaves a folder that is behind, which
// still can't pack, and can recover again.
func (p *Publisher) Adopt(f *Found) error {
	p.keys = f.keys
	if err := p.saveKeys(); err != nil {
		return err
	}
	for v := p.roots.Version() + 1; v <= f.roots.Version(); v++ {
		if err := durable.Write(filepath.Join(p.dir, "root", strconv.FormatUint(v, 10)), 0o644, f.roots.Notes()[v-1]); err != nil {
			return err
		}
	}
	p.roots, p.notes = f.roots, f.roots.Notes()
	if err := errors.Join(p.dropRootKey(), p.useLogKey(), p.leaveOut()); err != nil {
		return err
	}
	p.dropLeftOut()
	last := len(f.editions) - 1
	if last < 0 {
		return nil
	}
	for i, e := range f.editions[:last] {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if err := durable.Write(p.jsonName(f.Editions[i].Number), 0o600, b); err != nil {
			return err
		}
		p.editions = append(p.editions, e)
	}
	if _, err := p.commit(f.editions[last], f.head, f.blocks); err != nil {
		return err
	}
	p.editions = append(p.editions, f.editions[last])
	return nil
}
