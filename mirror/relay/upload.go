package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// maxParts is how many unfinished uploads a channel may leave behind; the
// oldest goes first.
const maxParts = 2

// minFront is less than any CAR's header and first root note; below it nothing
// can be told yet.
const minFront = 256

// frontPart is how much is taken before an upload's front is looked at for the
// first time, however much comes in one request: root notes, head and directory
// are in it.
const frontPart = 256 << 10

var (
	errBusy   = errors.New("another upload of the channel is still being checked")
	errOffset = errors.New("upload stands elsewhere")
	errTooBig = errors.New("larger than this relay takes")
	// errCrowded: other uploads have what room there is for them.
	errCrowded = errors.New("no room for another upload now")
	// errFull: the newest editions of other channels, which stay, have it.
	errFull = errors.New("the channels carried here take all the room there is")
)

// upload is a part file locked for one request.
type upload struct {
	s       *Store
	ch      channel.ID
	headCID cid.Cid
	path    string
	unlock  func()
	// turn, if not nil, is taken when all has come: the upload is one relay's
	// from another, which has a part of its own and holds up no publisher.
	turn func() (release func(), err error)
}

// open locks the upload of the edition whose head is headCID. Whoever holds it
// is told to make way, and errBusy returned if he has not by the end of ctx;
// makeWay is how this request will be told. A publisher that comes again has
// lost the request before: killed, or on a path that died, it would hold the
// upload until a timeout that nobody wants to wait for.
func (s *Store) open(ctx context.Context, ch channel.ID, headCID cid.Cid, makeWay func()) (*upload, error) {
	path := filepath.Join(s.dir, "incoming", ch.String(), headCID.String()+".part")
	t := s.turnOf(ch)
	if !t.take(ctx, makeWay, true) {
		return nil, errBusy
	}
	s.catchUp(ctx)
	return &upload{s: s, ch: ch, headCID: headCID, path: path, unlock: t.release}, nil
}

func (s *Store) turnOf(ch channel.ID) *turn {
	m, _ := s.uploads.LoadOrStore(ch, &turn{})
	return m.(*turn)
}

// turn is a lock whose holder can be asked to make way.
type turn struct {
	mu      sync.Mutex
	makeWay func()        // the holder's; nil if there is none
	free    chan struct{} // closed when the holder lets go
}

// take waits for the turn; false if ctx ends first. Who is urgent tells the
// holder. makeWay may be called more than once, and only while the turn is held.
func (t *turn) take(ctx context.Context, makeWay func(), urgent bool) bool {
	for {
		t.mu.Lock()
		if t.makeWay == nil {
			t.makeWay, t.free = makeWay, make(chan struct{})
			t.mu.Unlock()
			return true
		}
		if urgent {
			t.makeWay()
		}
		free := t.free
		t.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return false
		}
	}
}

func (t *turn) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.makeWay = nil
	close(t.free)
}

// state says how many bytes are held, and whether the edition is stored.
func (u *upload) state() (held int64, complete bool, err error) {
	for _, e := range u.s.snapshot(u.ch) {
		if e.headCID.Equals(u.headCID) {
			return e.size, true, nil
		}
	}
	st, err := os.Stat(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return st.Size(), false, nil
}

// append writes body at off, which must be where the upload stands, and
// returns how many bytes are durable now. With the last byte the edition is
// checked and made visible. An error wrapping errBad or errTooBig is final and
// has removed the upload; after any other it may be continued.
func (u *upload) append(off, total int64, body io.Reader) (held int64, complete bool, err error) {
	held, complete, err = u.state()
	if err != nil || complete {
		return held, complete, err
	}
	switch {
	case total > u.s.limits.Edition:
		return held, false, fmt.Errorf("%w: %d bytes of at most %d", errTooBig, total, u.s.limits.Edition)
	case off != held:
		return held, false, errOffset
	case off > total:
		u.discard()
		return 0, false, bad("it is shorter than what came before")
	}
	if err := u.s.reserve(u.path, total); err != nil {
		return held, false, err
	}
	defer u.s.release(u.path)
	if held, complete, err = u.state(); err != nil || complete {
		return held, complete, err
	}
	if off != held { // it was abandoned, and has made room just before
		return held, false, errOffset
	}
	if err := durable.MkdirAll(filepath.Dir(u.path), 0o700); err != nil {
		return held, false, err
	}
	if held == 0 && u.turn == nil {
		u.tidy()
	}
	f, err := os.OpenFile(u.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return held, false, err
	}
	defer f.Close()
	if _, err := f.Seek(held, io.SeekStart); err != nil {
		return held, false, err
	}
	for {
		before, part := held, total-held
		if held < frontPart {
			part = min(part, frontPart-held)
		}
		n, cut := io.Copy(f, io.LimitReader(body, part)) // cut off: what came is kept
		if err := f.Sync(); err != nil {
			return held, false, err
		}
		held += n
		if err := u.check(f, held, total); err != nil {
			if errors.Is(err, errBad) {
				f.Close()
				u.discard()
				return 0, false, err
			}
			return held, false, err
		}
		if cut == nil && held < total && (n < part || u.turn != nil) {
			switch done, err := u.fromHeld(f, before, held, total); {
			case err != nil:
				return held, false, err
			case done:
				return total, true, nil
			}
		}
		if cut != nil || n < part || held == total {
			return held, held == total, cut
		}
	}
}

// check looks at the front as soon as it is there, so that a wrong edition is
// refused before its bulk comes, and at everything when it is complete.
func (u *upload) check(f *os.File, held, total int64) error {
	accept := func(e *edition) error {
		if !e.headCID.Equals(u.headCID) {
			return bad("its head is not the one announced")
		}
		return u.s.acceptable(u.ch, e)
	}
	if held < total {
		if held < minFront {
			return nil
		}
		r, err := car.NewReader(io.NewSectionReader(f, 0, held))
		if err == nil {
			var e *edition
			if e, err = readFront(r, u.ch); err == nil {
				return accept(e)
			}
		}
		if errors.Is(err, car.ErrTorn) {
			return nil // not all there yet
		}
		return carError(err)
	}
	e, err := checkEdition(f, total, u.ch, accept)
	if err != nil {
		return err
	}
	if u.turn != nil {
		release, err := u.turn()
		if err != nil {
			return err
		}
		defer release()
		if err := accept(e); err != nil { // others may have come meanwhile
			return err
		}
	}
	cur, _ := u.s.newest(u.ch)
	if err := e.continues(f, cur); err != nil {
		return err
	}
	f.Close() // Windows renames no open file
	return u.s.admit(u.ch, e, u.path)
}

// reserve sets the room aside that an upload will take, before a byte of it is
// taken. What lies unfinished counts as far as it has come, and makes room if it was
// abandoned. From then on nobody else removes the upload.
func (s *Store) reserve(path string, total int64) error {
	s.room.Lock()
	defer s.room.Unlock()
	if !s.fits(path, total) {
		return errFull
	}
	parts, err := s.parts()
	if err != nil {
		return err
	}
	sum := total
	for p, n := range s.reserved {
		if p != path {
			sum += n
		}
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.path == path || s.reserved[p.path] > 0 })
	for _, p := range parts {
		sum += p.size
	}
	s.reserved[path] = total
	if sum > s.limits.Incoming {
		if err := s.makeRoom(sum-s.limits.Incoming, parts); err != nil {
			delete(s.reserved, path)
			return err
		}
	}
	return nil
}

func (s *Store) release(path string) {
	s.room.Lock()
	defer s.room.Unlock()
	delete(s.reserved, path)
}

// tidy removes the oldest unfinished uploads before another one begins.
func (u *upload) tidy() {
	type part struct {
		name string
		at   int64
	}
	var parts []part
	entries, err := os.ReadDir(filepath.Dir(u.path))
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".part") && e.Name() != filepath.Base(u.path) {
			parts = append(parts, part{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(b.at, a.at) })
	for i := maxParts - 1; i < len(parts); i++ {
		_ = os.Remove(filepath.Join(filepath.Dir(u.path), parts[i].name)) // the next one tries again
	}
}

// discard removes the upload. If that fails, the publisher finds it again, and
// it is refused again.
func (u *upload) discard() {
	if err := os.Remove(u.path); err != nil {
		u.s.log.Warn("refused upload not removed", "err", err)
	}
}
