package cli

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/durable"
)

// TestTemporaryNamesAreHidden: who asked for x.car hears of its folder.
func TestTemporaryNamesAreHidden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nowhere")
	err := fmt.Errorf("export: %w", durable.Write(filepath.Join(dir, "x.car"), 0o600, nil))
	if got, want := said(err)+Hint(err), "export: there is no folder "+dir; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	err = &fs.PathError{Op: "open", Path: "feed.xml", Err: fs.ErrNotExist}
	if got := said(err) + Hint(err); !strings.HasSuffix(got, "(check the spelling)") {
		t.Errorf("%q", got)
	}
}

func TestComplaintsRepeatNoSecrets(t *testing.T) {
	long := strings.Repeat("ABCD2345", 8)
	for _, secret := range []string{long, "tamizdat:abcd"} {
		if got := hush("unexpected argument "+secret, []string{"--dir", "d", secret}); strings.Contains(got, secret) {
			t.Errorf("%q", got)
		}
	}
	if got := hush("unexpected argument frobnicate", []string{"frobnicate"}); !strings.Contains(got, "frobnicate") {
		t.Errorf("%q", got)
	}
}

func TestCount(t *testing.T) {
	if a, b, c := Count(1, "block"), Count(0, "block"), Count(uint64(2), "block"); a != "1 block" || b != "0 blocks" || c != "2 blocks" {
		t.Error(a, b, c)
	}
}
