package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// Limits bound what a relay stores; a zero field means its default.
type Limits struct {
	// Edition is the largest CAR taken in, in bytes (default 256 MB).
	Edition int64
	// Channel is what one channel may take, in bytes (default 1 GB). Its
	// oldest editions make room; the newest always stays.
	Channel int64
	// Total is what the editions of all channels may take together (default 10 GB).
	// What is carried no more makes room first, then the oldest of who has most. An
	// upload that the newest of the others leave no room for is refused, unless it is
	// no larger than what it replaces.
	Total int64
	// Incoming is what uploads may take before they are whole (default 1 GB, and
	// never less than one edition). Abandoned ones make room for others.
	Incoming int64
}

func (l Limits) withDefaults() Limits {
	l.Edition = cmp.Or(l.Edition, 256_000_000)
	l.Channel = cmp.Or(l.Channel, 1_000_000_000)
	l.Total = cmp.Or(l.Total, 10_000_000_000)
	l.Edition = min(l.Edition, l.Channel, l.Total)
	l.Incoming = max(cmp.Or(l.Incoming, 1_000_000_000), l.Edition)
	return l
}

// Store keeps editions in a folder, one CARv1 file and one index file each:
//
//	editions/CHANNEL/EDITION-TIME.car   root notes, head, blocks; EDITION-TIME-N.car
//	                                    if N witnesses have seen the head
//	editions/CHANNEL/EDITION-TIME.idx   where each block lies; rebuilt if torn
//	editions/CHANNEL/ipns.record        the signed IPNS record of the newest edition
//	editions/CHANNEL/head.packet        the signed packet for BitTorrent's DHT
//	editions/CHANNEL/denied.note        the signed list of revoked batches
//	editions/CHANNEL/root.notes         which root notes the channel is held to
//	incoming/CHANNEL/HEADCID.part       an upload as far as it has come
//	incoming/CHANNEL/HEADCID.LINE.pull  the same from another relay
//
// An edition is visible once its CAR was checked as a whole, renamed into
// place, and file and folder synced. All methods may be called at once; one
// process at a time. With S3 what is below editions/ lies in a bucket instead,
// which a fleet of relays shares (see fleet.go).
type Store struct {
	dir    string
	kept   backend
	limits Limits
	log    *slog.Logger
	// carries tells the channels that are carried; nil if all are, or if others share
	// what is kept, who may know of more.
	carries func(channel.ID) bool

	mu      sync.RWMutex
	shelves map[channel.ID]*shelf

	uploads sync.Map   // channel.ID → *turn
	room    sync.Mutex // held for reserved
	// reserved is what uploads that are being taken will need, by file.
	reserved map[string]int64
	buffers  buffers
	naming   sync.Mutex // held by the one who stores an IPNS record
	named    func(*ipnsRecord)
	posted   func()     // hears of packets, which the same lock is for
	denying  sync.Mutex // held by the one who stores a list of revoked batches

	// What only refresh touches: the tags of damaged editions by path, of IPNS
	// records, of lists of revoked batches, and of chains.
	refreshing sync.Mutex
	damaged    map[string]string
	records    map[channel.ID]string
	lists      map[channel.ID]string
	chains     map[channel.ID]string
}

// shelf holds one channel's editions, oldest first.
type shelf struct {
	editions []*edition
	wake     chan struct{} // closed when a new head arrives
	ipns     *ipnsRecord   // nil if none is held
	packet   *packet       // the same
	denied   *channel.Denied
	shut     chan struct{} // closed when denied changes
	chain    chain         // of root notes that all editions are of
}

// OpenStore opens or makes the store in dir and loads what it holds. An
// edition that fails its check is left on disk under another name and logged.
func OpenStore(dir string, limits Limits, log *slog.Logger) (*Store, error) {
	kept, err := newFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return openStore(context.Background(), dir, kept, limits, log)
}

// openStore is OpenStore with the editions in kept; unfinished uploads lie in dir.
func openStore(ctx context.Context, dir string, kept backend, limits Limits, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, kept: kept, limits: limits.withDefaults(), log: log, shelves: map[channel.ID]*shelf{},
		reserved: map[string]int64{}, damaged: map[string]string{}, records: map[channel.ID]string{}, lists: map[channel.ID]string{},
		chains: map[channel.ID]string{},
	}
	if err := os.MkdirAll(filepath.Join(dir, "incoming"), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	objects, err := kept.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for ch, files := range byChannel(objects) {
		if err := s.loadChannel(ctx, ch, files); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	if err := s.sweepParts(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return s, nil
}

// byChannel sorts a listing.
func byChannel(objects []object) map[channel.ID][]object {
	out := map[channel.ID][]object{}
	for _, o := range objects {
		out[o.ch] = append(out[o.ch], o)
	}
	return out
}

func (s *Store) loadChannel(ctx context.Context, ch channel.ID, files []object) error {
	held, err := s.loadChain(ctx, ch)
	if err != nil {
		return err
	}
	var es []*edition
	for _, o := range files {
		if !isEdition(o.file) {
			continue
		}
		e, err := s.loadEdition(ctx, o)
		switch {
		case errors.Is(err, errBad):
			s.log.Error("stored edition is damaged, set aside", "file", o.file, "err", err)
			if err := s.kept.setAside(ctx, s.kept.at(ch, o.file)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		es = append(es, e)
	}
	if held == nil && len(es) > 0 {
		all, _ := standing(slices.Clone(es))
		held = all[len(all)-1].chain
	}
	if held != nil {
		// A crash between storing an edition and dropping those that it replaces leaves
		// them all.
		sh := s.shelf(ch)
		var gone []*edition
		sh.editions, gone = standing(s.along(held, es))
		s.remove(gone...)
		sh.chain = held
		for _, e := range sh.editions {
			sh.chain = sh.chain.with(e.chain)
		}
		if err := s.loadIPNS(ctx, ch, sh); err != nil {
			return err
		}
		if err := s.loadPacket(ctx, ch, sh); err != nil {
			return err
		}
		return s.loadDenied(ctx, ch, sh)
	}
	return nil
}

// standing sorts editions, the oldest first, and tells those that stand from those
// that went: replaced by a later one of their number, or left out by the generation of
// the log that the newest is of.
func standing(es []*edition) (stay, gone []*edition) {
	slices.SortFunc(es, func(a, b *edition) int {
		switch {
		case a.head.Newer(b.head):
			return 1
		case b.head.Newer(a.head):
			return -1
		}
		return cmp.Compare(a.seen, b.seen)
	})
	at := map[uint64]int{}
	for _, e := range es {
		if newest := es[len(es)-1]; newest.leavesOut(e) {
			gone = append(gone, e)
			continue
		}
		if i, ok := at[e.head.Edition]; ok {
			gone = append(gone, stay[i])
			stay[i] = e
			continue
		}
		at[e.head.Edition] = len(stay)
		stay = append(stay, e)
	}
	return stay, gone
}

// leavesOut reports whether e is of a later generation of the log than o, which that
// one has left out.
func (e *edition) leavesOut(o *edition) bool {
	return e.head.Generation > o.head.Generation && o.head.Edition >= e.roots.Last().Log.Base
}

// loadEdition reads a stored CAR's front and its index; without a good index
// the whole CAR is checked again and the index rewritten.
func (s *Store) loadEdition(ctx context.Context, o object) (*edition, error) {
	path := s.kept.at(o.ch, o.file)
	f, err := s.kept.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := car.NewReader(io.NewSectionReader(f, 0, o.size))
	if err != nil {
		return nil, carError(err)
	}
	e, err := readFront(r, o.ch)
	if err != nil {
		return nil, err
	}
	e.kept, e.path, e.size = s.kept, path, o.size
	if raw, err := s.kept.load(ctx, indexPath(path), maxIndex); err == nil && e.parseIndex(raw) == nil {
		return e, nil
	}
	if err := readRest(r, e); err != nil {
		return nil, err
	}
	return e, s.kept.save(ctx, indexPath(path), e.marshalIndex())
}

func indexPath(car string) string { return strings.TrimSuffix(car, ".car") + ".idx" }

// maxIndex bounds an index in bytes: 53 a block.
const maxIndex = 16 << 20

// shelf returns the channel's shelf, made if needed; s.mu is held for writing,
// or the store is not shared yet.
func (s *Store) shelf(ch channel.ID) *shelf {
	sh, ok := s.shelves[ch]
	if !ok {
		sh = &shelf{wake: make(chan struct{}), shut: make(chan struct{})}
		s.shelves[ch] = sh
	}
	return sh
}

// newest returns the channel's newest edition (nil if none) and a channel that
// is closed when a newer head arrives.
func (s *Store) newest(ch channel.ID) (*edition, <-chan struct{}) {
	s.mu.RLock()
	sh, ok := s.shelves[ch]
	if ok && len(sh.editions) > 0 {
		defer s.mu.RUnlock()
		return sh.editions[len(sh.editions)-1], sh.wake
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh = s.shelf(ch); len(sh.editions) > 0 { // it came in between
		return sh.editions[len(sh.editions)-1], sh.wake
	}
	return nil, sh.wake
}

// snapshot returns the channel's editions, newest first.
func (s *Store) snapshot(ch channel.ID) []*edition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sh, ok := s.shelves[ch]
	if !ok {
		return nil
	}
	es := slices.Clone(sh.editions)
	slices.Reverse(es)
	return es
}

// Block returns a block of any edition that the channel has here, checked to be
// what was stored. The error wraps os.ErrNotExist if there is none.
func (s *Store) Block(ch channel.ID, c cid.Cid) ([]byte, error) { return s.blockInto(ch, c, nil) }

// blockInto is Block, in buf if it has room.
func (s *Store) blockInto(ch channel.ID, c cid.Cid, buf []byte) ([]byte, error) {
	missing := os.ErrNotExist
	for _, e := range s.snapshot(ch) {
		data, err := e.blockInto(c, buf)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			missing = err // rotten here; another edition may hold it as well
		}
	}
	return nil, missing
}

// size returns a block's length in bytes, from the indexes alone.
func (s *Store) size(ch channel.ID, c cid.Cid) (int, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sh, ok := s.shelves[ch]
	if !ok {
		return 0, false
	}
	for _, e := range slices.Backward(sh.editions) {
		if at, ok := e.index[c.KeyString()]; ok {
			return at.len, true
		}
	}
	return 0, false
}

// Head returns the channel's newest verified head and root notes, nil if the
// store holds none.
func (s *Store) Head(ch channel.ID) (*channel.Head, *channel.Roots) {
	e, _ := s.newest(ch)
	if e == nil {
		return nil, nil
	}
	return e.head, e.roots
}

// Wait blocks until the channel's newest head covers more than have editions,
// or ctx ends.
func (s *Store) Wait(ctx context.Context, ch channel.ID, have uint64) error {
	for {
		e, wake := s.newest(ch)
		if e != nil && e.head.Size > have {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acceptable says whether a head may take its place in the store, as far as
// the front of its CAR tells; the rest is for continues to say.
func (s *Store) acceptable(ch channel.ID, e *edition) error {
	if n := s.chain(ch).forks(e.chain); n > 0 {
		return bad("root note %d is another one than is held here: a copy of the publisher's folder or stolen root keys made one of the two; "+
			"if this is the right one, ask who runs the relay to remove what it holds of the channel", n)
	}
	cur, _ := s.newest(ch)
	if cur == nil {
		return nil
	}
	switch a, b := e.head, cur.head; {
	case e.roots.Version() < cur.roots.Version():
		return bad("it comes with older root notes than those held")
	case a.Generation > b.Generation: // whatever the old key has signed: see continues
	case a.Edition < b.Edition:
		return bad("edition %d is older than edition %d, which is held", a.Edition, b.Edition)
	case a.Edition == b.Edition && a.Tree != b.Tree:
		return bad("another edition %d is held: the channel has forked", a.Edition)
	case a.Edition == b.Edition && a.Time.Before(b.Time):
		return bad("a newer head of edition %d is held", a.Edition)
	case a.Edition == b.Edition && a.Time.Equal(b.Time) && e.seen <= cur.seen && !e.headCID.Equals(cur.headCID):
		// Else relays that follow each other would pass two heads to and fro.
		return bad("a head of edition %d that as many witnesses have seen is held", a.Edition)
	}
	return nil
}

// admit makes a checked upload visible: part is its file, synced already.
func (s *Store) admit(ch channel.ID, e *edition, part string) error {
	ctx := context.Background() // the publisher may be gone: the edition is here
	// Each head has a file of its own: others may be reading the one before.
	name := fmt.Sprintf("%012d-%d", e.head.Edition, e.head.Time.Unix())
	if e.seen > 0 {
		name += fmt.Sprintf("-%d", e.seen)
	}
	path := s.kept.at(ch, name+".car")
	if err := s.bind(ctx, ch, e); err != nil {
		return err
	}
	if err := s.kept.take(ctx, path, part); err != nil {
		return err
	}
	if err := s.bound(ctx, ch, e); err != nil {
		return err
	}
	e.kept, e.path = s.kept, path
	// The edition is durable from here. A lost index is rebuilt at the start.
	if err := s.kept.save(ctx, indexPath(path), e.marshalIndex()); err != nil {
		s.log.Warn("index not written", "err", err)
	}
	gone, err := s.show(ch, e)
	if err != nil {
		return err
	}
	s.remove(gone...)
	s.log.Info("edition stored", "edition", e.head.Edition, "bytes", e.size, "blocks", len(e.index))
	return nil
}

// show makes a stored edition visible, and returns those that have to go for it.
func (s *Store) show(ch channel.ID, e *edition) (gone []*edition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelf(ch)
	if sh.chain.forks(e.chain) > 0 {
		return nil, errTurned
	}
	sh.chain = sh.chain.with(e.chain)
	old := sh.editions
	sh.editions = make([]*edition, 0, len(old)+1)
	for _, o := range old {
		if o.head.Edition != e.head.Edition && !e.leavesOut(o) {
			sh.editions = append(sh.editions, o)
		} else if o.path != e.path {
			gone = append(gone, o)
		}
	}
	sh.editions = append(sh.editions, e)
	if sh.ipns != nil && sh.ipns.head.Generation < e.head.Generation {
		sh.ipns = nil // it may lead to what has gone
	}
	if sh.packet != nil && sh.packet.head.Generation < e.head.Generation {
		sh.packet = nil // the same
	}
	close(sh.wake)
	sh.wake = make(chan struct{})
	return append(gone, s.shrink(ch)...), nil
}

// fits reports whether so many bytes of a channel can stay beside the newest editions
// of the others, or what comes in their place. One that is no larger than what it
// replaces does: so heads go on being signed where the limit was lowered. s.room is
// held, from here until the edition is stored or given up.
func (s *Store) fits(path string, size int64) bool {
	of := func(path string) string { return filepath.Base(filepath.Dir(path)) }
	most := map[string]int64{} // by channel
	for p, n := range s.reserved {
		most[of(p)] = max(most[of(p)], n)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for ch, sh := range s.shelves {
		n := len(sh.editions)
		if n == 0 || s.left(ch) {
			continue
		}
		newest, name := sh.editions[n-1].size, ch.String()
		if name == of(path) && size <= newest {
			return true
		}
		most[name] = max(most[name], newest)
	}
	delete(most, of(path))
	for _, n := range most {
		size += n
	}
	return size <= s.limits.Total
}

// left reports whether a channel is carried no more.
func (s *Store) left(ch channel.ID) bool { return s.carries != nil && !s.carries(ch) }

// shrink takes oldest editions off the shelves until the quotas hold; s.mu is
// held. Readers that have a file open finish with it.
func (s *Store) shrink(ch channel.ID) (gone []*edition) {
	drop := func(sh *shelf) {
		gone = append(gone, sh.editions[0])
		sh.editions = slices.Clone(sh.editions[1:])
	}
	for own := s.shelves[ch]; sum(own) > s.limits.Channel && len(own.editions) > 1; {
		drop(own)
	}
	var left, carried []*shelf
	for id, sh := range s.shelves {
		if id != ch && s.left(id) {
			left = append(left, sh)
		} else {
			carried = append(carried, sh)
		}
	}
	for sum(left...)+sum(carried...) > s.limits.Total {
		if sh := largest(left, 1); sh != nil {
			if drop(sh); len(sh.editions) == 0 {
				sh.ipns, sh.packet = nil, nil // they lead to what has gone
			}
		} else if sh = largest(carried, 2); sh != nil {
			drop(sh)
		} else {
			break
		}
	}
	return gone
}

// largest is the one that takes most of those with at least so many editions; nil if
// there is none.
func largest(shelves []*shelf, least int) (found *shelf) {
	for _, sh := range shelves {
		if len(sh.editions) >= least && (found == nil || sum(sh) > sum(found)) {
			found = sh
		}
	}
	return found
}

func sum(shelves ...*shelf) (n int64) {
	for _, sh := range shelves {
		for _, e := range sh.editions {
			n += e.size
		}
	}
	return n
}

// remove removes editions that are on no shelf any more.
func (s *Store) remove(es ...*edition) {
	for _, e := range es {
		if err := s.kept.remove(context.Background(), e.path, indexPath(e.path)); err != nil {
			s.log.Warn("old edition not removed", "err", err)
		}
	}
}
