package relay

import (
	"errors"
	"io"
	"os"

	"tamizdat/bundle/car"
)

// A heartbeat, or a head that more witnesses have seen, comes with the edition that is
// here already: all that differs stands before the directory. So an upload that ends
// behind its head (or a pull that has come so far) is completed from what is held. It
// is then checked and stored like any other, and what it replaces goes.

// fromHeld completes an upload whose front has just come: it ended before it did, and now
// stands at held. done says that the edition is stored; if not, the upload stands where it
// did, and goes on: nothing is held that fits, or what is held has rotted.
func (u *upload) fromHeld(f *os.File, before, held, total int64) (done bool, err error) {
	r, err := car.NewReader(io.NewSectionReader(f, 0, held))
	if err != nil {
		return false, nil //nolint:nilerr // it is not all there yet
	}
	e, err := readFront(r, u.ch)
	if err != nil || before >= r.End() || u.turn == nil && held != r.End() {
		return false, nil //nolint:nilerr // the same
	}
	for _, o := range u.s.snapshot(u.ch) {
		if !o.head.Root.Equals(e.head.Root) {
			continue
		}
		if err = u.copyRest(f, o, held-r.End(), total-r.End()); err == nil {
			err = u.check(f, total, total)
		}
		if err == nil {
			return true, nil
		}
		u.s.log.Warn("edition not completed from what is held", "err", err)
		// Whatever came of it: only what was sent stays. The file may be closed.
		if cut := os.Truncate(u.path, held); cut != nil {
			return false, errors.Join(err, cut)
		}
		if _, seek := f.Seek(held, io.SeekStart); seek != nil || !errors.Is(err, errBad) && !errors.Is(err, errRotten) {
			return false, err
		}
		return false, nil
	}
	return false, nil
}

var errUnlike = bad("what is held of it is of another size")

// copyRest appends to f what follows the head in a stored edition, and syncs it. In f it
// is rest bytes long, of which had are there.
func (u *upload) copyRest(f *os.File, o *edition, had, rest int64) error {
	src, err := o.kept.open(o.path)
	if err != nil {
		return err
	}
	defer src.Close()
	r, err := car.NewReader(io.NewSectionReader(src, 0, o.size))
	if err == nil {
		_, err = r.Intro()
	}
	if err != nil {
		return carError(err)
	}
	if o.size-r.End() != rest {
		return errUnlike
	}
	n, err := io.Copy(f, io.NewSectionReader(src, r.End()+had, rest-had))
	if err == nil && n < rest-had {
		err = errRotten
	}
	if err != nil {
		return err
	}
	return f.Sync()
}
