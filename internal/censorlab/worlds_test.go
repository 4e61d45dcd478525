package censorlab

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/errgroup"

	"tamizdat/internal/censor"
)

var (
	jobsFile = flag.String("jobs", "", "play the jobs in this file and write their rows to it: how TestScorecard calls itself")
	seeds    = flag.Int("seeds", 9, "readers in each scenario")
)

// worldJobs is how many jobs one world does: what its servers remember of
// readers who were cut off costs memory.
const worldJobs = 8

// job is a row to be made.
type job struct {
	Scenario string
	Readers  int
	// Then, if not 0, is how many readers there are if so many did not show that
	// all is in order.
	Then int
	// Whole: also each way alone, and the models. What is only compared with an
	// earlier row does without.
	Whole bool
}

// play makes rows, each world in a process of its own with one processor, as
// many at once as there are processors. A world's clock stands while anybody in
// it has something to do, but which goroutine comes first is the processors' to
// decide: with one, and always the same jobs in the same order, that depends
// little on what else the machine does.
func play(t *testing.T, jobs []job) []Row {
	t.Helper()
	dir := t.TempDir()
	rows := make([]Row, len(jobs))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	done := 0
	for block := range slices.Chunk(jobs, worldJobs) {
		into := rows[done : done+len(block)]
		file := filepath.Join(dir, fmt.Sprint(done))
		done += len(block)
		g.Go(func() error { return playElsewhere(t, file, block, into) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// playElsewhere makes rows in another process.
func playElsewhere(t *testing.T, file string, jobs []job, into []Row) error {
	b, err := json.Marshal(jobs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestScorecard$", "-test.v", "-jobs="+file)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	said := plainly(out.String())
	if err != nil {
		return fmt.Errorf("%s … %s: %w\n%s", jobs[0].Scenario, jobs[len(jobs)-1].Scenario, err, said)
	}
	if testing.Verbose() && said != "" {
		t.Log(said)
	}
	if b, err = os.ReadFile(file); err != nil {
		return err
	}
	var rows []Row
	if err := json.Unmarshal(b, &rows); err != nil || len(rows) != len(into) {
		return fmt.Errorf("%d rows for %d jobs: %v", len(rows), len(into), err)
	}
	copy(into, rows)
	return nil
}

// plainly leaves out what another test binary says of its tests: whoever reads our
// output would take it for ours.
func plainly(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		switch t := strings.TrimSpace(line); {
		case strings.HasPrefix(t, "=== "), strings.HasPrefix(t, "--- "), t == "PASS", t == "FAIL":
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// playHere is the other process.
func playHere(t *testing.T) {
	b, err := os.ReadFile(*jobsFile)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []job
	if err := json.Unmarshal(b, &jobs); err != nil {
		t.Fatal(err)
	}
	rows := make([]Row, 0, len(jobs))
	inWorld(t, func(t *testing.T, w *World) {
		for _, j := range jobs {
			s, ok := censor.Lookup(j.Scenario)
			if !ok {
				t.Fatalf("no scenario %s", j.Scenario)
			}
			r := rowOf(t, w, s, j.Readers, j.Whole)
			if j.Then > 0 && !r.OK() {
				r = rowOf(t, w, s, j.Then, j.Whole)
			}
			rows = append(rows, r)
		}
	})
	if b, err = json.Marshal(rows); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*jobsFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// inWorlds does n jobs in worlds of their own, one world for each processor.
func inWorlds(t *testing.T, n int, do func(t *testing.T, w *World, job int)) {
	t.Helper()
	var next atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for i := range min(runtime.GOMAXPROCS(0), n) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for int(next.Load()) < n {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, uint64(i))
						for range worldJobs {
							job := int(next.Add(1)) - 1
							if job >= n {
								return
							}
							do(t, w, job)
						}
					})
				}
			})
		}
	})
}

// inWorld runs f in a world of its own.
func inWorld(t *testing.T, f func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, 1)) })
}

func newWorld(t *testing.T, seed uint64) *World {
	t.Helper()
	w, err := NewWorld(t.Context(), seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("the world did not close: %v", err)
		}
	})
	return w
}
