package relay

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// Uploads are left behind in honest use, too: a publisher's machine dies, or a head is
// signed again while the one before is on its way. Nobody comes back for them, so
// they make room for who is here.

const (
	// partIdle is for how long a channel's last unfinished upload is left alone after
	// it has grown: who sends one in pieces, over a bad line, will be back.
	partIdle = 10 * time.Minute
	// partAge is how old an unfinished upload gets, as it is seen when a relay starts.
	partAge = 24 * time.Hour
)

// part is an unfinished upload.
type part struct {
	path string
	size int64
	at   time.Time // when it has grown last
}

// parts are all unfinished uploads, publishers' and other relays', the oldest first.
func (s *Store) parts() (out []part, err error) {
	paths, err := durable.Glob(s.dir, "incoming", "*", "*")
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			out = append(out, part{p, st.Size(), st.ModTime()})
		}
	}
	slices.SortFunc(out, func(a, b part) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.path, b.path)) })
	return out, nil
}

// abandoned picks out of idle, which nobody writes and which are sorted, what may go:
// all but the last of a channel's if that one is young and none is being written. So a
// channel holds no more than one for long, however often it touches them. s.room is
// held.
func (s *Store) abandoned(idle []part) (out []part) {
	kind := func(path string) string { return filepath.Dir(path) + filepath.Ext(path) }
	kept := map[string]bool{}
	for p := range s.reserved {
		kept[kind(p)] = true
	}
	for _, p := range slices.Backward(idle) {
		if k := kind(p.path); !kept[k] && time.Since(p.at) < partIdle {
			kept[k] = true
			continue
		}
		out = append(out, p)
	}
	slices.Reverse(out)
	return out
}

// makeRoom drops what is abandoned, the oldest first, if that makes as much room as is
// needed; s.room is held.
func (s *Store) makeRoom(need int64, idle []part) error {
	var gone []part
	for _, p := range s.abandoned(idle) {
		if need > 0 {
			need -= p.size
			gone = append(gone, p)
		}
	}
	if need > 0 {
		return errCrowded
	}
	for _, p := range gone {
		if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweepParts removes what nobody will go on with, before anybody writes.
func (s *Store) sweepParts() error {
	all, err := s.parts()
	if err != nil {
		return err
	}
	for _, p := range all {
		if time.Since(p.at) < partAge && !s.outdated(p) {
			continue
		}
		if err := os.Remove(p.path); err != nil {
			s.log.Warn("unfinished upload not removed", "err", err)
		}
	}
	return nil
}

// outdated reports whether a part is of an edition that is here, or would be refused;
// of one whose front has not come that can't be told.
func (s *Store) outdated(p part) bool {
	ch, err := channel.ParseID(filepath.Base(filepath.Dir(p.path)))
	if err != nil {
		return false
	}
	f, err := os.Open(p.path)
	if err != nil {
		return false
	}
	defer f.Close()
	r, err := car.NewReader(io.NewSectionReader(f, 0, p.size))
	if err != nil {
		return false
	}
	e, err := readFront(r, ch)
	if err != nil {
		return false
	}
	cur, _ := s.newest(ch)
	return cur != nil && e.headCID.Equals(cur.headCID) || s.acceptable(ch, e) != nil
}
