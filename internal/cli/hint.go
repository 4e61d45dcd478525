package cli

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"tamizdat/internal/durable"
)

// Hint is what to do about an error of the system, in brackets and after a
// space; empty if there is nothing to say that the message does not.
func Hint(err error) string {
	said := err.Error()
	switch {
	case durable.Full(err):
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
