package testservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Node copies a folder with a package.json to one of its own and installs the
// packages that it names, or that its package-lock.json does. npm's registry is asked for them in CI only, or where
// TAMIZDAT_NPM=1 says that it may.
func Node(t testing.TB, src string) (dir string) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		need(t, tool, "install the packages nodejs and npm")
	}
	if !inCI() && os.Getenv("TAMIZDAT_NPM") != "1" {
		t.Skip("npm would install packages from its registry: set TAMIZDAT_NPM=1 to have that")
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	how := []string{"install", "--no-package-lock"}
	if _, err := os.Stat(filepath.Join(dir, "package-lock.json")); err == nil {
		how = []string{"ci"} // by the hashes that are written there
	}
	cmd := exec.Command("npm", append(how, "--ignore-scripts", "--no-audit", "--no-fund")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		skip(t, fmt.Sprintf("npm can't install what %s needs: %v\n%s", filepath.Base(src), err, out))
	}
	return dir
}
