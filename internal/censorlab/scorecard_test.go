package censorlab

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/censor"
)

var (
	write    = flag.String("write", "", "write the scorecard to this file (a path from the module's folder) and its data to "+scorecardData)
	scenario = flag.String("scenario", "", "only the scenarios and pairs whose name contains this")
	pairs    = flag.Bool("pairs", false, "pairs of scenarios as well; with -write always")
	worse    = flag.Bool("compare", false, "fail where a row is worse than the committed one by more than a tenth")
	render   = flag.Bool("render", false, "write the pages of the committed scorecard and of the counter-measures anew")
	full     = flag.Bool("full", false, "all readers in each scenario, not three where nothing is left to chance; with -write always")
)

// root is the module's folder, seen from this package's.
const root = "../.."

// scorecardData is what the committed table was made of, and what a later run
// is compared with.
const scorecardData = "testdata/scorecard.json"

// rowed returns the scenarios that have a row: those that leave a way open.
func rowed() (singles, both []censor.Scenario) {
	drop := func(s censor.Scenario) bool {
		return !s.Pairs || len(s.Open) == 0 || !strings.Contains(s.Name, *scenario)
	}
	singles = slices.DeleteFunc(censor.Scenarios(), drop)
	if *pairs || *write != "" {
		both = slices.DeleteFunc(censor.Pairs(), drop)
	}
	return singles, both
}

// TestScorecard runs every scenario (with -pairs every pair, too) that leaves a
// way open, and fails where something false is shown, or where readers end, twice,
// without the news though that was no chance. With -compare it fails where a row
// is worse than the committed one; with -write it writes the table instead.
func TestScorecard(t *testing.T) {
	if *jobsFile != "" {
		playHere(t)
		return
	}
	singles, both := rowed()
	all := slices.Concat(singles, both)
	if len(all) == 0 {
		t.Fatal("no scenario of that name")
	}
	rows := play(t, each(all, newJob))
	c := Card{Singles: rows[:len(singles)], Pairs: rows[len(singles):]}
	if testing.Verbose() && *scenario != "" {
		fmt.Println(c)
	}
	switch {
	case t.Failed():
	case *write != "":
		c.Apart = []Apart{probe(t)}
		save(t, c)
	case *worse && !raced: // one reader is no median
		compare(t, c)
	default:
		var again []job
		for _, r := range slices.Concat(c.Singles, c.Pairs) {
			if !r.Chance && r.Good < r.Seeds {
				t.Logf("%s: %d of %d readers got all of it", r.Scenario, r.Good, r.Seeds)
				again = append(again, job{Scenario: r.Scenario, Readers: 3 * r.Seeds})
			}
		}
		for _, r := range play(t, again) {
			if r.Good < r.Seeds {
				t.Errorf("%s: %d of %d readers got all of it, at the second try too", r.Scenario, r.Good, r.Seeds)
			}
		}
	}
}

// newJob says how many readers a scenario's row takes.
func newJob(s censor.Scenario) job {
	j := job{Scenario: s.Name, Readers: *seeds, Whole: !*worse && !raced}
	switch {
	case raced: // for the races' sake: one reader is no median
		j.Readers = 1
	case *write != "" && lossy(s): // nine of such draws are too few to judge by
		j.Readers, j.Then = 5**seeds, 10**seeds
	case !*full && *write == "" && !chance(s) && !lying(s):
		j.Readers = min(*seeds, 3)
	}
	return j
}

// rowOf runs one scenario with n readers.
func rowOf(t *testing.T, w *World, s censor.Scenario, n int, whole bool) Row {
	t.Helper()
	var all []Outcome
	alone := map[string][]Outcome{}
	models := make([][]Outcome, len(Models()))
	for seed := range uint64(n) {
		all = append(all, read(t, w, s, Reading{Seed: seed}))
		if !whole {
			continue
		}
		for _, way := range Declared(s) {
			alone[way] = append(alone[way], read(t, w, s, Reading{Seed: seed, Only: []string{way}, Honest: true, TextOnly: true, Until: "headlines"}))
		}
		for i, m := range Models() {
			o, err := w.Model(t.Context(), m, s, Reading{Seed: seed})
			if err != nil {
				t.Errorf("%s, seed %d, %s: %v", s.Name, seed, m.Name, err)
			}
			models[i] = append(models[i], o)
		}
	}
	r := NewRow(s, all, alone, models)
	tell := func(seed int) {
		o := all[seed]
		t.Logf("%s, seed %d, %s: newest %v, head %v, headlines %v, text %v, images %v: %v\n%s",
			s.Name, seed, o.Lies, o.Newest, o.Head, o.Headlines, o.Text, o.Images, o.Err, o.trace)
	}
	for _, seed := range r.short {
		tell(int(seed))
	}
	if r.Why != "" && len(r.short) == 0 { // it is slow, or came twice: the slowest tells the most
		slowest := slices.MaxFunc(all, func(a, b Outcome) int { return cmp.Compare(a.Headlines, b.Headlines) })
		tell(slices.IndexFunc(all, func(o Outcome) bool { return o.Headlines == slowest.Headlines }))
	}
	return r
}

// read runs one reader and fails the test if anything false was shown; then it
// prints the seed and the trace of events.
func read(t *testing.T, w *World, s censor.Scenario, r Reading) Outcome {
	t.Helper()
	var trace Trace
	r.Trace = trace.Add
	start := time.Now()
	o, err := w.Read(t.Context(), s, r)
	o.trace = trace.String(start)
	if err != nil {
		t.Errorf("%s, seed %d, ways %v: %v\n%s", s.Name, r.Seed, r.Only, err, o.trace)
	}
	return o
}

// committed is the data of the committed scorecard.
func committed(t *testing.T) (c Card) {
	t.Helper()
	b, err := os.ReadFile(scorecardData)
	if err != nil {
		t.Fatalf("%v; write it with -args -write docs/scorecard.md", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The page is what its data say, and nobody's hand.
func TestPageIsOfItsData(t *testing.T) {
	pageIs(t, "docs/scorecard.md", committed(t).String())
}

// pageIs holds a committed page to what its data say. With -render it is written first.
func pageIs(t *testing.T, page, want string) {
	t.Helper()
	name := filepath.Join(root, page)
	if *render {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what it is made of; -run Page -args -render makes it so", page)
	}
}

func compare(t *testing.T, now Card) {
	t.Helper()
	was := committed(t)
	before, again := map[string]Row{}, []string(nil)
	for _, r := range slices.Concat(was.Singles, was.Pairs) {
		before[r.Scenario] = r
	}
	for _, r := range slices.Concat(now.Singles, now.Pairs) {
		old, ok := before[r.Scenario]
		if !ok {
			t.Errorf("%s is not on the scorecard: write it anew", r.Scenario)
			continue
		}
		r.Hold(old)
		switch worse := r.Worse(old); {
		case worse == "":
		case !r.Chance && r.Good < r.Seeds && old.Good == old.Seeds: // nobody may be left without the news
			t.Errorf("%s has become worse: %s", r.Scenario, worse)
		default:
			again = append(again, r.Scenario)
		}
	}
	// Was it chance, or the order of goroutines? So many more readers make another
	// median.
	jobs := each(again, func(name string) job {
		j := job{Scenario: name, Readers: 3 * *seeds, Whole: true}
		if s, _ := censor.Lookup(name); lossy(s) {
			j.Readers = 20 * *seeds
		}
		return j
	})
	for _, r := range play(t, jobs) {
		if worse := r.Worse(before[r.Scenario]); worse != "" {
			t.Errorf("%s has become worse: %s", r.Scenario, worse)
		}
	}
}

func save(t *testing.T, c Card) {
	t.Helper()
	if *scenario != "" || raced || *seeds < 9 {
		t.Fatal("a scorecard is made of all scenarios and nine readers in each, more where lines lose packets: leave -scenario, -seeds and -race out")
	}
	b, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{scorecardData: append(b, '\n'), filepath.Join(root, *write): []byte(c.String())} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
