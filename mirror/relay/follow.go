package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
	wire "tamizdat/transport/relay"
)

// Relays follow each other: one holds a long poll at another's head, and when
// there is a newer edition than its own it fetches the CAR as it is, resuming
// at the byte where it stopped, and checks it as if a publisher had pushed it.
// So what reaches one reaches all, whatever way the lines between them go; what
// a relay holds already it does not fetch, so that rings cost no more. A relay
// that lies is refused: its word counts for nothing but where to look.

const (
	// maxPulls bounds how many lines a relay may have.
	maxPulls = 64
	// pullPart is how much is taken before it is synced and its front looked at,
	// and pullPartTime how long it may take: 4 kB/s.
	pullPart     = 256 << 10
	pullPartTime = time.Minute
	// A relay that answers without having anything is asked again after
	// minPullWait, doubling to maxPullWait; one that can't be reached after up to
	// maxPullRest; one that was refused after minRefusedRest, up to maxRefusedRest.
	minPullWait    = time.Second
	maxPullWait    = 10 * time.Second
	maxPullRest    = 5 * time.Minute
	minRefusedRest = time.Minute
	maxRefusedRest = time.Hour
	// pullHead is for how long only one of a channel's lines fetches an edition.
	pullHead = 15 * time.Second
	// heldPoll is how long a poll must have been held to count as one.
	heldPoll = 30 * time.Second
	// recordEvery is how often the other relay's IPNS record is asked for if there
	// is one of the newest edition here.
	recordEvery = time.Hour
)

// following is what runs for the pull lines.
type following struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// startFollowing begins to follow the relays of the configuration.
func (r *Relay) startFollowing() error {
	if len(r.cfg.Pull) > maxPulls {
		return fmt.Errorf("more than %d lines to pull by", maxPulls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.following = &following{stop: cancel}
	var all []*follower
	races := map[channel.ID]*race{}
	ids := map[string]bool{}
	for i, line := range r.cfg.Pull {
		p, err := wire.NewPuller(r.cfg.Network, line)
		if err != nil {
			return fmt.Errorf("pull, line %d: %w", i+1, err)
		}
		if races[line.Channel] == nil {
			races[line.Channel] = &race{}
		}
		// What a line says is a secret: the log has its number, a file's name its hash.
		sum := sha256.Sum256([]byte(line.String()))
		id := hex.EncodeToString(sum[:8])
		ids[id] = true
		all = append(all, &follower{
			store: r.store, carried: r.carried, ch: line.Channel, peer: p, id: id,
			race: races[line.Channel], log: r.cfg.Log.With("pull", i+1),
		})
	}
	r.store.sweepPulls(func(_, id string) bool { return ids[id] })
	for _, f := range all {
		r.following.done.Go(func() {
			defer func() { _ = f.peer.Close() }()
			f.run(ctx)
		})
	}
	return nil
}

// close ends all pulls and waits for them; what has come is kept.
func (f *following) close() {
	if f != nil {
		f.stop()
		f.done.Wait()
	}
}

// follower keeps one channel up to another relay.
type follower struct {
	store   *Store
	carried *carried
	ch      channel.ID
	peer    *wire.Puller
	id      string // of the line, in the names of its files
	race    *race
	log     *slog.Logger

	grew     bool      // the last fetch brought something
	asked    bool      // the other relay has said what it holds
	recorded time.Time // when its IPNS record was asked for last
	silent   bool      // it could not be reached, and that was said
}

// errNothing: the other relay answered, and has nothing that is newer than here.
var errNothing = errors.New("nothing newer there")

func (f *follower) run(ctx context.Context) {
	wait, rest, told := minPullWait, minPullWait, false
	for ctx.Err() == nil {
		if !f.carried.has(f.ch) {
			if !told {
				f.log.Warn("the channel of this line is not carried here; carry it with mirror-relay address")
				told = true
			}
			pause(ctx, maxPullWait)
			continue
		}
		began := time.Now()
		err := f.once(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			wait, rest = minPullWait, minPullWait
		case errors.Is(err, errBad), errors.Is(err, errTooBig), errors.Is(err, errFull):
			f.log.Warn("edition of another relay refused", "err", err)
			rest = min(max(2*rest, minRefusedRest), maxRefusedRest)
			pause(ctx, jitter(rest))
		case errors.Is(err, errNothing):
			if rest = minPullWait; time.Since(began) >= heldPoll {
				wait = minPullWait
				continue
			}
			pause(ctx, jitter(wait))
			wait = min(2*wait, maxPullWait)
		default:
			if !f.silent { // errors of connections name addresses: they stay out
				f.log.Info("the relay to pull from does not answer, or not to the end; asking again from time to time")
			}
			f.silent, f.asked = true, false
			if f.grew {
				rest = minPullWait
			}
			pause(ctx, jitter(rest))
			rest = min(2*rest, maxPullRest)
		}
	}
}

// jitter is a time around d, so that relays don't ask in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// once waits for a head at the other relay and fetches its edition. nil if that
// is stored now, errNothing if there was none to fetch.
func (f *follower) once(ctx context.Context) error {
	have, root := uint64(0), uint64(0)
	if cur, _ := f.store.newest(f.ch); cur != nil {
		have, root = cur.head.Size, cur.roots.Version()
	}
	if !f.asked && have > 0 {
		have-- // tell me yours, even if it is of the same edition
	}
	raw, err := f.peer.Head(ctx, have, root)
	if errors.Is(err, transport.ErrNoNewer) {
		f.answered(ctx)
		return errNothing
	}
	if err != nil {
		return err
	}
	f.asked = true
	head := bundle.RawCID(raw)
	if !f.store.wants(f.ch, head, raw) {
		f.answered(ctx)
		return errNothing
	}
	if err := f.fetch(ctx, head); err != nil {
		return err
	}
	f.answered(ctx)
	return nil
}

// answered notes that the other relay is there, and asks for its IPNS record if
// none of the newest edition is here.
func (f *follower) answered(ctx context.Context) {
	f.silent = false
	cur, _ := f.store.newest(f.ch)
	if cur == nil {
		return
	}
	held := f.store.ipns(f.ch)
	if held != nil && held.head.Size == cur.head.Size && time.Since(f.recorded) < recordEvery {
		return
	}
	name, err := ipfs.Name(cur.roots.IPNSKey())
	if err != nil {
		return // it has none
	}
	f.recorded = time.Now()
	ctx, cancel := context.WithTimeout(ctx, pullPartTime)
	defer cancel()
	raw, err := f.peer.Record(ctx, name)
	if err != nil {
		return // it comes with a later answer
	}
	if _, err := f.store.putIPNS(f.ch, raw); err != nil {
		f.log.Warn("ipns record of another relay refused", "err", err)
	}
}

// fetch takes the edition in, from where an earlier try ended. It is kept apart
// from what others bring of it: one line's wrong bytes spoil only its own.
func (f *follower) fetch(ctx context.Context, head cid.Cid) error {
	f.grew = false
	leave, err := f.race.join(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u := f.store.pulled(ctx, f.ch, head, f.id)
	held, complete, err := u.state()
	if err != nil || complete {
		return err // complete: another line was first
	}
	slow := time.AfterFunc(pullPartTime, cancel)
	defer slow.Stop()
	body, total, err := f.peer.Edition(ctx, head, held)
	if errors.Is(err, transport.ErrNotFound) && held > 0 {
		u.discard() // of another making than what is to be had
	}
	if err != nil {
		return err
	}
	defer body.Close()
	for !complete {
		slow.Reset(pullPartTime)
		before := held
		held, complete, err = u.append(held, total, io.LimitReader(body, pullPart))
		f.grew = f.grew || held > before
		if err != nil {
			return err
		}
		if held == before && !complete {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// race lets one line of a channel fetch at a time, so that an edition that comes
// to several other relays is not fetched from each; but not for long, or the
// slowest would hold up the others.
type race struct {
	mu    sync.Mutex
	first chan struct{} // closed when the one who is ahead is done; nil if nobody is
	since time.Time
}

// join waits until nobody is ahead, or has been for pullHead.
func (r *race) join(ctx context.Context) (leave func(), err error) {
	for {
		r.mu.Lock()
		left := pullHead - time.Since(r.since)
		if r.first == nil || left <= 0 {
			mine := make(chan struct{})
			r.first, r.since = mine, time.Now()
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				if r.first == mine {
					r.first = nil
				}
				close(mine)
			}, nil
		}
		first := r.first
		r.mu.Unlock()
		t := time.NewTimer(left)
		select {
		case <-first:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// pullSuffix ends the names of unfinished pulls: HEADCID.LINE.pull. Each line has
// one at most.
const pullSuffix = ".pull"

// pulled is the upload of an edition by one line. It is no publisher's: it takes
// its turn only when all of it is there, and then waits for it.
func (s *Store) pulled(ctx context.Context, ch channel.ID, head cid.Cid, id string) *upload {
	s.sweepPulls(func(h, line string) bool { return line != id || h == head.String() })
	t := s.turnOf(ch)
	return &upload{
		s: s, ch: ch, headCID: head, unlock: func() {},
		path: filepath.Join(s.dir, "incoming", ch.String(), head.String()+"."+id+pullSuffix),
		turn: func() (func(), error) {
			if !t.take(ctx, func() {}, false) {
				return nil, errBusy
			}
			return t.release, nil
		},
	}
}

// sweepPulls removes unfinished pulls but those to keep.
func (s *Store) sweepPulls(keep func(head, id string) bool) {
	paths, err := durable.Glob(s.dir, "incoming", "*", "*"+pullSuffix)
	if err != nil {
		return // the pattern is good
	}
	for _, p := range paths {
		head, id, _ := strings.Cut(strings.TrimSuffix(filepath.Base(p), pullSuffix), ".")
		if keep(head, id) {
			continue
		}
		if err := os.Remove(p); err != nil {
			s.log.Warn("unfinished pull not removed", "err", err)
		}
	}
}

// wants reports whether a head that another relay holds is worth fetching:
// newer than what is here, as far as that can be told. One that the keys held
// here did not sign may come with newer keys.
func (s *Store) wants(ch channel.ID, head cid.Cid, raw []byte) bool {
	cur, _ := s.newest(ch)
	if cur == nil {
		return true
	}
	if head.Equals(cur.headCID) {
		return false
	}
	h, err := cur.roots.Head(raw)
	if err != nil {
		return !errors.Is(err, channel.ErrOldRoots) // that one lags
	}
	return h.Newer(cur.head) || h.Size == cur.head.Size && (h.Tree != cur.head.Tree ||
		!cur.head.Newer(h) && cur.roots.Witnessed(h).Seen > cur.seen)
}

// edition serves an edition's CAR as it is stored, with Range, to a relay that
// follows this one.
func (h *Handler) edition(w http.ResponseWriter, r *http.Request, ch channel.ID, name string) {
	head, ok := parseCID(name)
	if !ok {
		http.Error(w, "not a CID", http.StatusBadRequest)
		return
	}
	for _, e := range h.store.snapshot(ch) {
		if !e.headCID.Equals(head) {
			continue
		}
		f, err := h.store.kept.open(e.path)
		if err != nil {
			h.log.Error("edition not served", "err", err)
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		defer f.Close()
		w.Header().Set("Etag", headTag(e))
		w.Header().Set("Content-Type", typeCAR+"; version=1")
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(f, 0, e.size))
		return
	}
	http.Error(w, "not found", http.StatusNotFound)
}
