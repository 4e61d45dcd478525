//go:build unix

package library

import (
	"errors"

	"golang.org/x/sys/unix"
)

// noCoreDumps keeps a crash from writing memory, and with it keys and texts, to
// the disk.
func noCoreDumps() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	return errors.Join(err, notDumpable())
}
