package main

import (
	"os"
	"path/filepath"
	"runtime"
)

// defaultDir is where a relay keeps its data: the usual place of a service if
// it runs as root, of a program otherwise.
func defaultDir() string {
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		return "/var/lib/mirror-relay"
	}
	if d, err := os.UserConfigDir(); err == nil {
		return filepath.Join(d, "mirror-relay")
	}
	return "mirror-relay-data"
}
