package main

import (
	"os"
	"path/filepath"
)

// defaultDir is where a channel lives unless --dir says otherwise.
func defaultDir() string {
	if d, err := os.UserConfigDir(); err == nil {
		return filepath.Join(d, "mirror-publish")
	}
	return "mirror-publish-data"
}

// chooseDir prefers the flag, then this folder if it is a channel's.
func chooseDir(flag string) string {
	if flag != "" {
		return flag
	}
	if _, err := os.Stat("publisher.toml"); err == nil {
		return "."
	}
	return defaultDir()
}
