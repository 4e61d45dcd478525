package censorlab

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tamizdat/internal/censor"
)

// elsewhere are rows whose counter-measures are switched off, or looked at, by other
// tests: in folder dir, under root.
var elsewhere = []struct{ scenario, what, lack, test, dir string }{
	{"offline", "a library, and what comes on a stick", "there is no stick: the program says that nobody answers", "TestOffline", "internal/censorlab"},
	{"prober", "who has no secret is in the website's own code", "a relay answers wrong secrets itself, or makes paths clean first: the prober finds it", "TestApart", "internal/censorlab"},
	{"evil-relay", "no way back from a newer head", "the reader forgets which head it held: it goes back", "TestForgetfulGoesBack", "internal/censorlab"},
	{"evil-relay", "proof of a second history is kept", "the relay that lies is the only one: its history is shown, without an alarm", "TestForkIsKept", "internal/censorlab"},
	{"seizure", "a library under a key", "–", "TestSeizure", "cmd"},
}

const measuresPage = `# Counter-measures: what each row of the scorecard rests on

Written by

    go test ./internal/censorlab -run Page -args -render

and never by hand. In the [scorecard](scorecard.md) a reader has many ways, and where
one counter-measure is missing another brings the news: a row would stay green without
it. Here the same reader (the real one, in the same world) has just the ways that
the second column's measure is about, and that measure is switched off and on:

- on, under the censor, all comes: headlines, texts and, over ways that carry them,
  pictures;
- off, under the censor, it does not; or, where *late* is said, the median of nine
  readers waits at least half as long again;
- off, in an open net, all comes: it is the censor who stopped it and not the switch.

Where a dash stands the measure is looked at under the censor and not switched off.

What can't be switched off by taking a way, a grant's line or a resolver from the
reader has a switch in the program's code that is set by tests alone (Without in
transport/relay, transport/dns and mirror/paths; internal/archtest sees to it). There is
none for what the engine checks, signatures and hashes: what stops a reader who
believes liars is shown by models of such readers (TestControls).

| row | counter-measure | without it | test |
|---|---|---|---|
`

// pageOfMeasures is docs/measures.md.
func pageOfMeasures() string {
	var b strings.Builder
	b.WriteString(measuresPage)
	for _, s := range censor.Scenarios() {
		row := func(what, lack, test string) { fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, what, lack, test) }
		for _, m := range slices.Concat(measures, dnsMeasures) {
			if m.scenario == s.Name {
				row(m.what, m.lack, "TestMeasures")
			}
		}
		for _, m := range speeds {
			if m.scenario == s.Name {
				row(m.what, m.lack+": "+m.of+" late", "TestSpeeds")
			}
		}
		for _, e := range elsewhere {
			if e.scenario == s.Name {
				row(e.what, e.lack, e.test)
			}
		}
	}
	return b.String()
}

// Every row that something is done in has a counter-measure, which a test switches
// off, and the page says which.
func TestPageOfMeasures(t *testing.T) {
	want := pageOfMeasures()
	for _, s := range censor.Scenarios() {
		if s.Name != "open" && !strings.Contains(want, "| `"+s.Name+"` |") {
			t.Errorf("%s: no counter-measure is switched off in it", s.Name)
		}
	}
	for _, m := range slices.Concat(measures, dnsMeasures) {
		find(t, m.scenario)
		if len(m.off) == 0 || m.what == "" || m.lack == "" {
			t.Errorf("%s: %q is not switched off", m.scenario, m.what)
		}
	}
	for _, e := range elsewhere {
		find(t, e.scenario)
		if !tests(t, filepath.Join(root, e.dir))[e.test] {
			t.Errorf("%s: there is no %s in %s", e.scenario, e.test, e.dir)
		}
	}
	pageIs(t, "docs/measures.md", want)
}

// tests are the names of the tests in a folder.
func tests(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}
