// Package filelock keeps a second process out of a folder. The system gives the
// lock back when the process ends in whatever way.
package filelock

import (
	"errors"
	"os"
)

// ErrHeld: another process (or another Lock of this one) holds the lock.
var ErrHeld = errors.New("locked by another process")

// Lock is a held lock.
type Lock struct{ f *os.File }

// Acquire takes the lock of the file at path, which it makes if needed. It does
// not wait: ErrHeld if somebody has it.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// Release gives the lock back. The file stays.
func (l *Lock) Release() error { return l.f.Close() }
