//go:build darwin || android

package paths

import (
	"context"
	"os/exec"
	"time"
)

// output is what a program of the system prints, nothing if it fails or takes
// long.
func output(name string, args ...string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil || len(out) > maxOutput {
		return nil
	}
	return out
}
