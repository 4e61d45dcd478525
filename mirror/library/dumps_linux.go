package library

import "golang.org/x/sys/unix"

// notDumpable also stops dumps that the kernel pipes to a collector, which the
// resource limit of zero does not (core(5)), and other programs of the same
// user from reading this one's memory.
func notDumpable() error {
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
