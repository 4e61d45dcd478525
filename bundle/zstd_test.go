package bundle

import (
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
)

// TestFirstInABubble: it must not matter whether the first to pack in a process is on a
// fake clock. Each order is a process of its own, since only one comes first there.
func TestFirstInABubble(t *testing.T) {
	turn := func(t *testing.T) {
		if b, err := decompress(compress([]byte("some text")), maxLine); err != nil || string(b) != "some text" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if os.Getenv("TAMIZDAT_FIRST") != "" {
		synctest.Test(t, turn)
		turn(t)
		synctest.Test(t, turn)
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFirstInABubble$", "-test.count=1")
	c.Env = append(os.Environ(), "TAMIZDAT_FIRST=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
