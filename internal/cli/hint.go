package cli

import (
	"errors"
	"io/fs"
	"net"
	"runtime"
	"strings"
	"syscall"
)

// Hint is what to do about an error of the system, in brackets and after a
// space; empty if there is nothing to say that the message does not.
func Hint(err error) string {
	said := err.Error()
	switch {
	case diskFull(err):
		if strings.Contains(said, "disk is full") {
			return " (make room and run it again)"
		}
		return " (the disk is full: make room and run it again)"
	case errors.As(err, new(*net.OpError)): // a port, no file
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return " (may this user write there?)"
	}
	return ""
}

// diskFull also knows Windows' two numbers for it, ERROR_HANDLE_DISK_FULL and
// ERROR_DISK_FULL.
func diskFull(err error) bool {
	var n syscall.Errno
	if runtime.GOOS == "windows" && errors.As(err, &n) && (n == 39 || n == 112) {
		return true
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
