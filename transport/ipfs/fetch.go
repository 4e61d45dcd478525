package ipfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// errStalled ends a fetch whose peers took the wants and sent nothing of use.
	errStalled = errors.New("peers stopped answering")
	// errFlood drops a peer that sends what nobody asked for.
	errFlood = errors.New("peer sends blocks nobody asked for")
)

// answer is what a peer that was asked for a block did.
type answer int

const (
	notAsked answer = iota
	waiting
	said      // DONT_HAVE
	delivered // the block
)

// want is one block of a fetch.
type want struct {
	cid   cid.Cid
	open  bool // neither arrived nor given up
	asked map[peer.ID]answer
	// urgent: what was asked stays asked, and another peer is asked as well.
	urgent bool
}

// source is a connected peer of a fetch.
type source struct {
	load    int       // how many blocks it was asked for and has not settled
	since   time.Time // when it last settled one or, having none, was asked
	repeats int       // how often it was asked again since then
}

// fetch is one batch of wants on its way. Its loop runs in the caller's
// goroutine; messages change its state under mu and wake the loop.
type fetch struct {
	x    *exchange
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	all   map[cid.Cid]*want
	order []*want
	ready []blocks.Block // arrived, not yet yielded: at most window
	moved bool           // something arrived or was refused since the last look
	live  map[peer.ID]*source
	waste map[peer.ID]int // bytes of blocks that are none of ours
	errs  []error
}

// fetch asks peers for wants and calls yield for each block as it comes, on the
// caller's goroutine, until yield returns false, all is settled, or ctx or the
// exchange ends. more, if not nil, is called once if the given peers don't have
// everything or say nothing. It returns nil when every want was yielded or refused by every
// peer that could be reached.
func (x *exchange) fetch(
	ctx context.Context, peers []peer.AddrInfo, connect func(context.Context, peer.AddrInfo) error,
	more func(context.Context) <-chan peer.AddrInfo, wants []cid.Cid, yield func(blocks.Block) bool,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fetch{
		x: x, wake: make(chan struct{}, 1),
		all: make(map[cid.Cid]*want, len(wants)), live: make(map[peer.ID]*source), waste: make(map[peer.ID]int),
	}
	for _, c := range wants {
		if _, twice := f.all[c]; !twice {
			w := &want{cid: c, open: true, asked: make(map[peer.ID]answer)}
			f.all[c], f.order = w, append(f.order, w)
		}
	}
	x.mu.Lock()
	x.fetches[f] = struct{}{}
	x.mu.Unlock()
	defer x.withdraw(f)

	dialled := make(chan struct{}) // one value for each dial that ended
	dialling, known := 0, make(map[peer.ID]bool)
	dial := func(p peer.AddrInfo) {
		if known[p.ID] || p.ID == x.host.ID() || len(known) >= 2*maxPeers {
			return
		}
		known[p.ID] = true
		dialling++
		go func() {
			err := connect(ctx, p)
			f.mu.Lock()
			if err == nil {
				f.live[p.ID] = &source{}
			} else {
				f.errs = append(f.errs, err)
			}
			f.mu.Unlock()
			select {
			case dialled <- struct{}{}:
			case <-ctx.Done():
			}
		}()
	}
	for _, p := range peers {
		dial(p)
	}

	beat := time.NewTicker(x.patience / beats)
	defer beat.Stop()
	var found <-chan peer.AddrInfo
	quiet := 0 // beats
	for {
		ready, open, stuck := f.step()
		if f.takeMoved() {
			quiet = 0
			beat.Reset(x.patience / beats)
		}
		for _, b := range ready {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(b) {
				return nil
			}
		}
		if len(ready) > 0 {
			continue
		}
		if open == 0 {
			return nil
		}
		if stuck == open && dialling == 0 && found == nil {
			if more != nil {
				found, more = more(ctx), nil
			}
			if found == nil {
				return f.verdict()
			}
		}
		select {
		case <-f.wake:
		case <-dialled:
			dialling--
		case p, ok := <-found:
			if !ok {
				found = nil
				break
			}
			dial(p)
		case now := <-beat.C:
			if quiet++; time.Duration(quiet)*x.patience/beats >= x.giveUp {
				return errStalled
			}
			x.repeat(f, now)
			if quiet%beats != 0 {
				break
			}
			f.hurry()
			if found == nil && more != nil {
				found, more = more(ctx), nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-x.life.Done():
			return ErrClosed
		}
	}
}

// step sends what can be asked now and returns the blocks that came, how many
// wants are open, and for how many of these there is nobody left to ask or to
// wait for.
func (f *fetch) step() (ready []blocks.Block, open, stuck int) {
	f.mu.Lock()
	ready, f.ready = f.ready, nil
	out := make(map[peer.ID][]cid.Cid)
	room := window - len(ready)
	for _, w := range f.order {
		if !w.open {
			continue
		}
		open++
		if room <= 0 {
			continue
		}
		room--
		pending := false
		for p, a := range w.asked {
			if _, up := f.live[p]; up && a == waiting {
				pending = true
			}
		}
		if pending && !w.urgent {
			continue
		}
		w.urgent = false
		p, ok := f.pick(w)
		if ok {
			w.asked[p] = waiting
			s := f.live[p]
			if s.load == 0 {
				s.since, s.repeats = time.Now(), 0
			}
			s.load++
			out[p] = append(out[p], w.cid)
		} else if !pending {
			stuck++
			room++ // it occupies nobody
		}
	}
	f.mu.Unlock()
	for p, cs := range out {
		f.x.send(f, p, cs)
	}
	return ready, open, stuck
}

// pick returns the connected peer with the least to do that was not asked yet.
func (f *fetch) pick(w *want) (best peer.ID, ok bool) {
	for p, s := range f.live {
		if w.asked[p] == notAsked && (!ok || s.load < f.live[best].load) {
			best, ok = p, true
		}
	}
	return best, ok
}

// arrived takes a block; false: it is none of this fetch's. x.mu and f.mu are
// held.
func (f *fetch) arrived(p peer.ID, b blocks.Block) bool {
	w, ok := f.all[b.Cid()]
	if !ok {
		return false
	}
	if w.asked[p] == waiting {
		f.done(p)
	}
	w.asked[p] = delivered
	if !w.open {
		return true // a second copy, from a peer that was asked in a hurry
	}
	w.open = false
	f.ready = append(f.ready, b)
	f.notify()
	return true
}

// stray takes note of a block that is none of this fetch's. f.mu is held.
func (f *fetch) stray(p peer.ID, n int) {
	if _, up := f.live[p]; !up {
		return
	}
	if f.waste[p] += n; f.waste[p] > maxStray {
		f.drop(p, errFlood)
	}
}

// refused takes a DONT_HAVE. x.mu and f.mu are held.
func (f *fetch) refused(p peer.ID, c cid.Cid) {
	w, ok := f.all[c]
	if !ok || w.asked[p] != waiting {
		return // not asked: nothing a peer says unasked is kept
	}
	w.asked[p] = said
	f.done(p)
	f.notify()
}

// done notes that p settled one want. x.mu and f.mu are held.
func (f *fetch) done(p peer.ID) {
	s, up := f.live[p]
	if !up {
		return
	}
	now := time.Now()
	f.x.pace[p] = max(now.Sub(s.since), f.x.pace[p]*3/4)
	s.load--
	s.since, s.repeats = now, 0
}

func (f *fetch) notify() {
	f.moved = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fetch) takeMoved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.moved
	f.moved = false
	return m
}

// hurry has every open want asked of one peer more.
func (f *fetch) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.order {
		w.urgent = w.open
	}
}

func (f *fetch) lost(p peer.ID) { f.fail(p, errors.New("peer disconnected")) }

// fail forgets a peer: what it was asked is asked of others.
func (f *fetch) fail(p peer.ID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(p, err)
}

func (f *fetch) drop(p peer.ID, err error) {
	if _, up := f.live[p]; !up {
		return
	}
	delete(f.live, p)
	f.errs = append(f.errs, err)
	f.notify()
}

// verdict is why a fetch with open wants ends: nil if somebody reachable said
// that the rest is not there, else what went wrong with the peers.
func (f *fetch) verdict() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.live) > 0 {
		return nil
	}
	if len(f.errs) == 0 {
		return errors.New("no ipfs peers known")
	}
	return fmt.Errorf("no ipfs peer left: %w", errors.Join(f.errs...))
}
