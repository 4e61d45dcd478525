package durable

import (
	"errors"
	"runtime"
	"syscall"
)

// Full reports whether err says that the disk, or this user's share of it, is
// full. It knows Windows' two numbers for that too: ERROR_HANDLE_DISK_FULL and
// ERROR_DISK_FULL.
func Full(err error) bool {
	var n syscall.Errno
	if runtime.GOOS == "windows" && errors.As(err, &n) && (n == 39 || n == 112) {
		return true
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
