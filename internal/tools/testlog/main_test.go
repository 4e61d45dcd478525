package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	const pass = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1}
{"Action":"start","Package":"empty"}
{"Action":"skip","Package":"empty"}
`
	for name, c := range map[string]struct {
		in        string
		ok        bool
		has, hasn string
	}{
		"pass":    {pass, true, "1 tests passed", "quiet"},
		"nothing": {"", false, "", ""},
		"fail": {pass + `{"Action":"output","Package":"p","Test":"B","Output":"why it failed\n"}
{"Action":"fail","Package":"p","Test":"B"}
`, false, "why it failed", ""},
		"skip": {pass + `{"Action":"output","Package":"p","Test":"C","Output":"needs a browser\n"}
{"Action":"skip","Package":"p","Test":"C"}
`, false, "needs a browser", ""},
		"crash": {`{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"D","Output":"fatal error\n"}
{"Action":"fail","Package":"p"}
`, false, "not ended: D\nfatal error", ""},
		"cut":   {pass + `{"Action":"start","Package":"q"}` + "\n", false, "", ""},
		"build": {pass + `{"ImportPath":"q","Action":"build-output","Output":"syntax error\n"}` + "\n" + `{"Action":"fail","Package":"q"}` + "\n", false, "syntax error", ""},
	} {
		var out strings.Builder
		_, err := run(strings.NewReader(c.in), &out)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(out.String(), c.has) || c.hasn != "" && strings.Contains(out.String(), c.hasn) {
			t.Errorf("%s: wrote %q", name, out.String())
		}
	}
}

// The slowest are named, slowest first, and no part of a test beside it.
func TestSlowest(t *testing.T) {
	var in strings.Builder
	for i := range 100 {
		fmt.Fprintf(&in, `{"Action":"pass","Package":"p","Test":"T%d/part","Elapsed":%d}`+"\n", i%50, i)
		fmt.Fprintf(&in, `{"Action":"pass","Package":"p","Test":"T%d","Elapsed":%d}`+"\n", i, i*7%100)
	}
	var out strings.Builder
	if _, err := run(strings.NewReader(in.String()), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if strings.Count(out.String(), "slow\t") != told || lines[0] != "slow\tp T57\t99.0s" || lines[1] != "slow\tp T14\t98.0s" || strings.Contains(out.String(), "part") {
		t.Errorf("%q", lines)
	}
}

// Only what the race detector's own crash ended may be run again.
func TestDetectorCrash(t *testing.T) {
	const (
		crash = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346 (tid=1)\n"}
{"Action":"fail","Package":"p","Elapsed":1}
`
		race = `{"Action":"start","Package":"q"}
{"Action":"output","Package":"q","Test":"B","Output":"WARNING: DATA RACE\n"}
{"Action":"fail","Package":"q","Test":"B"}
{"Action":"fail","Package":"q"}
`
	)
	for name, c := range map[string]struct{ in, want string }{
		"crash":                  {crash, "p"},
		"its crash by a signal":  {strings.Replace(crash, "ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346 (tid=1)", "SIGSEGV: segmentation violation", 1), "p"},
		"a nil pointer":          {strings.Replace(crash, "ThreadSanitizer: CHECK failed", "panic: runtime error: invalid memory address or nil pointer dereference\\n[signal SIGSEGV: segmentation violation", 1), ""},
		"race":                   {race, ""},
		"both":                   {crash + race, ""},
		"another crash":          {strings.ReplaceAll(crash, "ThreadSanitizer", "fatal error"), ""},
		"a test failed before":   {strings.Replace(crash, `{"Action":"fail"`, `{"Action":"fail","Package":"p","Test":"Z"}`+"\n"+`{"Action":"fail"`, 1), ""},
		"a test skipped besides": {crash + `{"Action":"skip","Package":"r","Test":"C"}` + "\n", ""},
	} {
		crashed, err := run(strings.NewReader(c.in), io.Discard)
		if got := strings.Join(crashed, " "); err == nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
