package ipfs

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func inodeOf(fd uintptr) uint64 {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(fd), &st); err != nil {
		return 0
	}
	return st.Ino
}

// internetSockets returns the inodes of this process's open UDP and TCP sockets.
func internetSockets(t *testing.T) map[uint64]string {
	t.Helper()
	all := make(map[uint64]string)
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/self/net/" + kind)
		if err != nil {
			continue // a kernel without IPv6
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			// sl local rem st tx:rx tr:tm retrnsmt uid timeout inode
			if fs := strings.Fields(sc.Text()); len(fs) > 9 {
				if ino, err := strconv.ParseUint(fs[9], 10, 64); err == nil && ino != 0 {
					all[ino] = kind + " " + fs[1] + " " + fs[2]
				}
			}
		}
		f.Close()
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mine := make(map[uint64]string)
	for _, fd := range fds {
		link, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || !strings.HasPrefix(link, "socket:[") {
			continue
		}
		ino, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if what, ok := all[ino]; ok {
			mine[ino] = what
		}
	}
	return mine
}
