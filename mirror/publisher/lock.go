package publisher

import (
	"errors"
	"path/filepath"

	"tamizdat/internal/filelock"
)

// ErrInUse: another process has the folder open.
var ErrInUse = errors.New("another mirror-publish is at work in this folder; wait for it to end")

// acquire takes the folder's lock, which keeps two processes from giving one number to
// two editions. The system gives it back if the process dies.
func (p *Publisher) acquire() (err error) {
	p.lock, err = filelock.Acquire(filepath.Join(p.dir, "lock"))
	if errors.Is(err, filelock.ErrHeld) {
		return ErrInUse
	}
	return err
}

// Close gives the lock back.
func (p *Publisher) Close() error { return p.lock.Release() }
