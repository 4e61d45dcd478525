//go:build unix

package source

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPipe: opening a pipe nobody writes to would wait for ever.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.txt")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{path, filepath.Dir(path)} {
		if _, _, err := Read(context.Background(), fixed, source); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", source, err)
		}
	}
}
