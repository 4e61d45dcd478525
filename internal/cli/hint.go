package cli

import (
	"errors"
	"io/fs"
	"net"
	"path/filepath"
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
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, new(*fs.PathError)):
		if strings.Contains(said, "check the spelling") || strings.Contains(said, tmpPrefix) {
			return ""
		}
		return " (check the spelling)"
	}
	return ""
}

// tmpPrefix begins the names of files that are not whole yet, as in
// internal/durable.
const tmpPrefix = ".tmp-"

// said is an error's message on one line. A file that is not whole yet goes by
// its folder: nobody asked for its own name.
func said(err error) string {
	msg := OneLine(err)
	var pe *fs.PathError
	if !errors.As(err, &pe) || !strings.HasPrefix(filepath.Base(pe.Path), tmpPrefix) {
		return msg
	}
	dir := filepath.Dir(pe.Path)
	if pe.Op == "open" && errors.Is(pe.Err, fs.ErrNotExist) {
		return strings.ReplaceAll(msg, pe.Error(), "there is no folder "+dir)
	}
	return strings.ReplaceAll(msg, pe.Error(), "write in "+dir+": "+pe.Err.Error())
}
