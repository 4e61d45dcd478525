package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's folder, seen from this package's.
const root = "../.."

// source is one Go file of the module.
type source struct {
	pkg  string // folder, without the module path
	file *ast.File
}

// sources parses every Go file of the module that is not a test, whatever
// system it is for.
func sources(t *testing.T) (*token.FileSet, []source) {
	t.Helper()
	fset := token.NewFileSet()
	var out []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p == root {
				return nil
			}
			if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		out = append(out, source{filepath.ToSlash(dir), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("only %d files found: is %s still the module's folder?", len(out), root)
	}
	return fset, out
}

// imports lists a file's imports; blank ones, which only keep a line in go.mod,
// are left out if they are not ours.
func imports(t *testing.T, f *ast.File) (ours, others []string) {
	t.Helper()
	for _, im := range f.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			ours = append(ours, rest)
		} else if im.Name == nil || im.Name.Name != "_" {
			others = append(others, p)
		}
	}
	return ours, others
}

func TestFloors(t *testing.T) {
	_, files := sources(t)
	told := make(map[string]bool)
	tell := func(problem string) {
		if problem != "" && !told[problem] {
			told[problem] = true
			t.Error(problem)
		}
	}
	for _, s := range files {
		if _, _, ok := floorOf(s.pkg); !ok {
			tell(s.pkg + " has no floor: add it to floors in internal/archtest")
			continue
		}
		ours, others := imports(t, s.file)
		for _, to := range ours {
			tell(checkImport(s.pkg, to))
		}
		for _, lib := range others {
			tell(checkLibrary(s.pkg, lib))
		}
	}
}

func TestSocketsOnlyThroughNetwork(t *testing.T) {
	fset, files := sources(t)
	for _, s := range files {
		for _, problem := range checkFile(fset, s.file, s.pkg) {
			t.Error(problem)
		}
	}
}

// What is weaker than it could be is so in tests only: the files seen here are none.
func TestNobodyGoesWithout(t *testing.T) {
	fset, files := sources(t)
	for _, s := range files {
		for _, problem := range checkWithout(fset, s.file) {
			t.Error(problem)
		}
	}
	for src, want := range map[string]int{
		`var w = dns.Without{Checks: true}`:                        1,
		`var c = relay.Config{Without: Without{}}`:                 1,
		`func f(c *Config) { c.Without.DNS.Checks = true }`:        1,
		`func f(c *Config, w Without) { c.Without = w }`:           1,
		`func f(c Config) { g(relay.Config{Without: c.Without}) }`: 0,
		`type Without struct { DNS dns.Without }`:                  0,
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\n"+src, 0)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := checkWithout(fset, f); len(got) != want {
			t.Errorf("%s: %d complaints instead of %d", src, len(got), want)
		}
	}
}

// The rules themselves: what they allow and what they catch.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"bundle", "bundle/channel", true},
		{"bundle/channel", "bundle", false},
		{"bundle/car", "bundle", true},
		{"bundle", "bundle/car", false},
		{"transport/relay", "transport/gateway", true},
		{"transport/relay", "transport/ipfs", false},
		{"transport", "transport/relay", false},
		{"mirror/publisher", "mirror/publisher/source", true},
		{"mirror/publisher/source", "mirror/publisher", false},
		{"mirror/relay", "mirror/library", false},
		{"mirror/sync", "mirror/library", true},
		{"mirror/library", "mirror/sync", false},
		{"mirror/demo", "mirror/web", true},
		{"mirror/demo", "mirror/demo/articles", true},
		{"mirror/sync", "internal/netreal", false},
		{"internal/netreal", "transport", true},
		{"internal/redact", "bundle", false},
		{"internal/durable", "internal/filelock", true},
		{"cmd/mirror", "mirror/demo", true},
		{"cmd/mirror", "internal/netreal", true},
		{"cmd/mirror", "cmd/mirror-relay", false},
		{"mirror/new", "bundle", false},
		{"bundle", "bundle/new", false},
		{"transport/ipfs", "transport/new", false},
	} {
		if problem := checkImport(c.from, c.to); (problem == "") != c.ok {
			t.Errorf("%s → %s: %q", c.from, c.to, problem)
		}
	}
	if checkLibrary("mirror/publisher/source", "github.com/gen2brain/webp") != "" ||
		checkLibrary("bundle", "github.com/gen2brain/webp") == "" {
		t.Error("webp is held in the wrong place")
	}
}

func TestForbiddenCalls(t *testing.T) {
	for src, want := range map[string]int{
		`import "net"; var _ = net.Dial`:                       1,
		`import n "net"; func f() { n.ListenUDP("udp", nil) }`: 1,
		`import . "net"`: 1,
		`import "net"; var r net.Resolver; var d net.Dialer`:                              2,
		`import "net"; func f(c net.Conn) net.IP { return net.ParseIP("") }`:              0,
		`import "net/http"; func f() { http.Get("") }`:                                    1,
		`import "net/http"; var c = http.DefaultClient`:                                   1,
		`import "net/http"; var c = &http.Client{}`:                                       1,
		`import "net/http"; var c = &http.Client{Transport: t}`:                           0,
		`import "net/http"; var t = http.Transport{}`:                                     1,
		`import "net/http"; var t = http.Transport{DialContext: d}`:                       0,
		`import "net/http"; func f(h http.Header) { h.Get("x") }`:                         0,
		`import "crypto/tls"; var _ = tls.Dial`:                                           1,
		`import "github.com/quic-go/quic-go"; var _ = quic.DialAddrEarly`:                 1,
		`import "github.com/quic-go/quic-go"; var t quic.Transport`:                       0,
		`import "github.com/miekg/dns"; var _ = dns.Exchange`:                             1,
		`import "net"; func f(n interface{ Dial() }) { net := n; net.Dial() }`:            0,
		`import "net/http"; var p = http.ProxyFromEnvironment; func f() { http.Error() }`: 1,
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\n"+src, 0)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := checkFile(fset, f, "mirror/sync"); len(got) != want {
			t.Errorf("%s: %d complaints instead of %d: %s", src, len(got), want, slices.Concat(got))
		}
		if got := checkFile(fset, f, "internal/netreal"); len(got) != 0 {
			t.Errorf("%s: the real network may do that: %s", src, got)
		}
	}
}
