// Command testlog reads the output of go test -json and writes it as go test
// without -v would: one line a package, and the output of what failed. Unlike
// go test it also counts a skipped test as a failure, and says which: where
// everything a test needs is installed, a skip is a test that did not run.
//
//	go test -json ./... | go run ./internal/tools/testlog [FILE]
//
// At the end it names the tests that took longest, which is where to begin when the
// whole takes too long.
//
// It exits with 1 if a test or a package failed or a test was skipped, or if
// the input is not whole. If that was only since the race detector itself crashed
// (golang/go issue 78156: with testing/synctest it does, now and then), FILE then
// has the packages in which it did, a line each: they may be run again.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
	// ImportPath stands instead of Package in output of a failed build.
	ImportPath string
}

func main() {
	crashed, err := run(os.Stdin, os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "testlog:", err)
	if len(os.Args) > 1 && len(crashed) > 0 {
		if err := os.WriteFile(os.Args[1], []byte(strings.Join(crashed, "\n")+"\n"), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "testlog:", err)
		}
	}
	os.Exit(1)
}

// maxOutput bounds what is kept of one test's output, in bytes; its end is what
// tells.
const maxOutput = 64 << 10

// told is how many of the slowest tests are named.
const told = 15

// detectorCrashes are what is said when the race detector itself crashed: by its own
// checks, or by the runtime of a signal outside of Go's code, of which there is no
// other here. Of races that were found, and of nil pointers, they speak otherwise.
var detectorCrashes = []string{"ThreadSanitizer: CHECK failed", "SIGSEGV: segmentation violation"}

// run returns the packages in which the race detector crashed, none if anything else
// is wrong besides.
func run(in io.Reader, out io.Writer) (crashed []string, err error) {
	var (
		kept            = make(map[string]string) // output by package and test
		skipped, failed []string
		passed, open    int
		started         = make(map[string]bool)
		broken          = make(map[string]bool) // packages with that crash
		slow            []event
	)
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var e event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			fmt.Fprintln(out, sc.Text()) // go's own complaints are not JSON
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "start":
			started[e.Package] = true
		case "output":
			if slices.ContainsFunc(detectorCrashes, func(c string) bool { return strings.HasPrefix(e.Output, c) }) {
				broken[e.Package] = true
			}
			if !strings.HasPrefix(e.Output, "=== ") {
				kept[key] += e.Output
				if n := len(kept[key]); n > maxOutput {
					kept[key] = kept[key][n-maxOutput:]
				}
			}
		case "pass", "fail", "skip":
			switch {
			case e.Action == "fail":
				failed = append(failed, key)
				fmt.Fprint(out, kept[key])
				if e.Test == "" {
					if broken[e.Package] {
						crashed = append(crashed, e.Package)
					}
					tellUnended(out, kept, e.Package)
				}
			case e.Action == "skip" && e.Test != "":
				skipped = append(skipped, key+"\n"+kept[key])
			case e.Action == "pass" && e.Test != "":
				passed++
			}
			if e.Test != "" && !strings.Contains(e.Test, "/") {
				slow = append(slow, e)
			}
			if e.Test == "" {
				delete(started, e.Package)
				if e.Action != "skip" { // a package without tests is no news
					fmt.Fprintf(out, "%s\t%s\t%.1fs\n", e.Action, e.Package, e.Elapsed)
				}
			}
			delete(kept, key)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	open = len(started)
	slices.SortStableFunc(slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range slow[:min(told, len(slow))] {
		fmt.Fprintf(out, "slow\t%s %s\t%.1fs\n", e.Package, e.Test, e.Elapsed)
	}
	fmt.Fprintf(out, "%d tests passed\n", passed)
	for _, s := range skipped {
		fmt.Fprintf(out, "skipped: %s", s)
	}
	if len(failed)+len(skipped)+open > 0 {
		if len(skipped)+open > 0 || len(failed) > len(crashed) {
			crashed = nil
		}
		return crashed, fmt.Errorf("%d failed, %d skipped, %d packages did not end", len(failed), len(skipped), open)
	}
	if passed == 0 {
		return nil, fmt.Errorf("no test ran")
	}
	return nil, nil
}

// tellUnended writes the output of a failed package's tests that have not ended: one
// of them is where it crashed, and nobody else says so.
func tellUnended(out io.Writer, kept map[string]string, pkg string) {
	for key, text := range kept {
		if test, ok := strings.CutPrefix(key, pkg+" "); ok && test != "" {
			fmt.Fprintf(out, "not ended: %s\n%s", test, text)
			delete(kept, key)
		}
	}
}
