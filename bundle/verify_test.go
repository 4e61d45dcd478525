package bundle_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/internal/testservers"
)

// docs/verify is a second reader, in another language, with the libraries of
// others, written from FORMAT.md: what it and this package don't agree on, the text
// does not say.
func TestSecondImplementation(t *testing.T) {
	dir := testservers.Node(t, filepath.Join("..", "docs", "verify"))
	vectors, err := filepath.Abs(filepath.Join("testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	node := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "node", append([]string{"verify.mjs"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := node("--vectors", vectors); err != nil || !strings.Contains(out, "valid files agree") {
		t.Errorf("%v\n%s", err, out)
	}
	// From an invite alone, as a reader with a file from a friend.
	invite := filepath.Join(vectors, "invite.txt")
	out, err := node(invite, filepath.Join(vectors, "edition-1.car"))
	if err != nil || !strings.Contains(out, "all checks passed") || !strings.Contains(out, "کتابخانه") {
		t.Errorf("%v\n%s", err, out)
	}
	// And evidence, with nothing else.
	if out, err := node("--proof", filepath.Join(vectors, "history-evidence-three.json")); err != nil || strings.Count(out, "one of them is not true") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := node("--proof", filepath.Join(vectors, "history-bad-evidence-the-true-past.json")); err == nil || !strings.Contains(out, "verify: the larger one does not continue the smaller") {
		t.Errorf("no evidence: %v\n%s", err, out)
	}
	if out, err := node(invite, filepath.Join(vectors, "invalid", "car-flipped.car")); err == nil || !strings.Contains(out, "verify: a block has the hash of its CID") {
		t.Errorf("a damaged file: %v\n%s", err, out)
	}
}
