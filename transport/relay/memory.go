package relay

import (
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memory is how many bytes of memory a server may take here: what the machine has, or
// the container or service that it runs in, or GOMEMLIMIT. 0 if nobody says: of the
// usual systems only Linux has files for it.
func memory() int64 {
	n := memoryOf(os.DirFS("/"))
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 && (n == 0 || limit < n) {
		n = limit
	}
	return n
}

// memoryOf reads Linux's files (proc(5), cgroups(7)).
func memoryOf(root fs.FS) int64 {
	least := int64(0)
	say := func(n int64, err error) {
		if err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	all, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range bytes.Lines(all) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "MemTotal:" {
			kb, err := strconv.ParseInt(string(f[1]), 10, 64)
			say(min(kb, math.MaxInt64>>10)<<10, err)
		}
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		// Number, controllers and where in their tree; version 2 has one for all of them.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		top, file := "sys/fs/cgroup", "memory.max"
		switch f[1] {
		case "":
		case "memory":
			top, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// A limit holds for whatever is below. Inside a container its own folder may be
		// the top.
		for at := path.Clean("/" + f[2]); ; at = path.Dir(at) {
			b, _ := fs.ReadFile(root, path.Join(top, at, file))
			say(strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)) // "max" is no number
			if at == "/" {
				break
			}
		}
	}
	return least
}
