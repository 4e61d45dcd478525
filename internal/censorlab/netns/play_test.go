//go:build linux && !android

package netns

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// article is a title and a text of one paragraph.
type article struct{ title, text string }

var (
	yesterday = write(1, "The harbour was quiet")
	today     = write(2, "The lighthouse is lit again")
)

// write invents a text of made-up words, which compresses badly: a censor that
// counts bytes is to have something to count.
func write(seed uint64, title string) article {
	rng := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for b.Len() < textSize {
		for range 3 + rng.IntN(8) {
			b.WriteByte(byte('a' + rng.IntN(26)))
		}
		b.WriteByte(' ')
	}
	b.WriteString("so ends the report.")
	return article{title, b.String()}
}

// reader is one reader: a namespace and a library.
type reader struct {
	w       *world
	name    string
	library string
}

// settle makes the library that all readers begin with, in a world without a
// censor.
func (w *world) settle(t *testing.T) {
	t.Helper()
	r := &reader{w, ways[0].reader(), filepath.Join(w.dir, "settled")}
	w.must(t, w.ns(r.name), "", "mirror", "--dir", r.library, "add", w.invite)
	p := r.sync(t)
	if !p.within(patience) || p.wait != nil || !r.has(t, yesterday) {
		t.Fatalf("yesterday's news does not arrive where nobody hinders it: %s", p)
	}
	w.yesterday, w.before = r.library, paths(t, r.mirror(t, "status", "--json"))
}

// reader gives the reader of that name a library with yesterday's news.
func (w *world) reader(t *testing.T, name string) *reader {
	t.Helper()
	r := &reader{w, name, filepath.Join(t.TempDir(), "library")}
	if err := os.CopyFS(r.library, os.DirFS(w.yesterday)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reader) args(args ...string) []string {
	return append([]string{"--dir", r.library, "--resolver", r.w.addr["isp"].String() + ":53"}, args...)
}

// mirror runs a command that has to succeed.
func (r *reader) mirror(t *testing.T, args ...string) string {
	t.Helper()
	return r.w.must(t, r.w.ns(r.name), "", "mirror", r.args(args...)...)
}

// sync starts a sync.
func (r *reader) sync(t *testing.T) *process {
	t.Helper()
	return r.start(t, "--hurry", "sync")
}

// start starts a command.
func (r *reader) start(t *testing.T, args ...string) *process {
	t.Helper()
	return r.w.start(t, r.w.ns(r.name), "", append([]string{filepath.Join(bin, "mirror")}, r.args(args...)...)...)
}

// has reports whether the reader can read an article, to its last word.
func (r *reader) has(t *testing.T, a article) bool {
	t.Helper()
	id := a.in(r.mirror(t, "list"))
	if id == "" {
		return false
	}
	p := r.start(t, "read", id)
	return p.within(patience) && a.whole(p)
}

// in is the article's ID in what mirror list says, empty if it is not there.
func (a article) in(list string) string {
	m := regexp.MustCompile(`(?m)^(\w+) .*` + regexp.QuoteMeta(a.title) + `$`).FindStringSubmatch(list)
	if m == nil {
		return ""
	}
	return m[1]
}

// whole reports whether mirror read has printed all of the article.
func (a article) whole(p *process) bool {
	return p.wait == nil && strings.Contains(strings.Join(strings.Fields(p.stdout()), " "), a.text)
}

// path is what mirror status --json says of a path.
type path struct {
	Name, Kind, State, Error string
	Blocks                   int
}

// paths reads what mirror status --json has said.
func paths(t *testing.T, text string) []path {
	t.Helper()
	var channels []struct{ Paths []path }
	if err := json.Unmarshal([]byte(text), &channels); err != nil || len(channels) != 1 {
		t.Fatalf("mirror status: %v\n%s", err, text)
	}
	return channels[0].Paths
}

// player is a reader in a scenario.
type player struct {
	*reader
	way     way
	through bool // today's news should come
	sync    *process
}

// play plays one scenario to a reader for each way, all at once.
func (w *world) play(t *testing.T, s scenario) {
	var lucky, cut []*player
	for _, way := range ways {
		if way.row != "" && way.row != s.name {
			continue
		}
		p := &player{reader: w.reader(t, way.reader()), way: way, through: s.through(t, way)}
		w.censor(t, p.name, s.rules, way.shut)
		if p.through {
			lucky = append(lucky, p)
		} else {
			cut = append(cut, p)
		}
	}
	players := slices.Concat(lucky, cut)
	began := time.Now()
	for _, p := range players {
		p.sync = p.reader.sync(t)
	}
	for _, p := range lucky {
		if !p.sync.within(time.Until(began.Add(patience))) {
			t.Errorf("%s: hangs: %s", p.way.name, p.sync)
			p.sync.stop(t)
		}
	}
	took := time.Since(began)
	w.judge(t, s, lucky)
	if len(cut) > 0 {
		time.Sleep(time.Until(began.Add(took + min(took, most) + extra))) // the others go on trying
		for s.rules != "" && w.bites(t, players) == 0 && time.Since(began) < patience {
			time.Sleep(100 * time.Millisecond) // a busy machine has not even begun
		}
	}
	for _, p := range cut {
		_ = p.sync.cmd.Process.Signal(os.Interrupt) // it may have ended by now
	}
	for _, p := range cut {
		p.sync.stop(t)
	}
	w.judge(t, s, cut)

	bitten := w.bites(t, players)
	if (bitten > 0) != (s.rules != "") {
		t.Errorf("the censor has taken %d packets", bitten)
	}
	var times []string
	for _, p := range lucky {
		times = append(times, fmt.Sprintf("%s in %d ms", p.way.name, p.sync.took.Milliseconds()))
	}
	t.Logf("the censor took %d packets; the news came by %d of %d ways: %s", bitten, len(lucky), len(lucky)+len(cut), strings.Join(times, ", "))
}

// bites is how many packets of these players the censor has taken.
func (w *world) bites(t *testing.T, players []*player) (n int) {
	t.Helper()
	for _, p := range players {
		n += w.bitten(t, p.name)
	}
	return n
}

// judge looks at what readers have after a sync.
func (w *world) judge(t *testing.T, s scenario, players []*player) {
	t.Helper()
	// The same question to all at once, since each takes a while to open a library.
	ask := func(args func(i int) []string) []*process {
		out := make([]*process, len(players))
		for i, p := range players {
			if a := args(i); a != nil {
				out[i] = p.start(t, a...)
			}
		}
		for i, p := range out {
			if p != nil && !p.within(patience) {
				t.Fatalf("%s: hangs: %s", players[i].way.name, p)
			}
		}
		return out
	}
	lists := ask(func(int) []string { return []string{"list"} })
	texts := ask(func(i int) []string {
		if id := today.in(lists[i].stdout()); id != "" {
			return []string{"read", id}
		}
		return nil
	})
	states := ask(func(int) []string { return []string{"status", "--json"} })
	for i, p := range players {
		has := texts[i] != nil && today.whole(texts[i])
		all, some := w.brought(t, states[i].stdout())
		switch {
		case p.through && (!has || p.sync.wait != nil):
			t.Errorf("%s: today's news has not arrived: %s\npaths: %+v", p.way.name, p.sync, all)
		case !p.through && has:
			t.Errorf("%s: today's news has arrived, by a way that package censor calls closed: %s\nbrought by: %+v", p.way.name, p.sync, some)
		}
		if yesterday.in(lists[i].stdout()) == "" {
			t.Errorf("%s: yesterday's news is gone: %s", p.way.name, lists[i])
		}
		// Nothing comes by a way that is closed, to whoever has it.
		for _, q := range some {
			if !slices.ContainsFunc(ways[1:], func(v way) bool {
				mine := p.way.name == "any" || p.way.name == v.name
				return mine && v.owns(q) && s.through(t, v)
			}) {
				t.Errorf("%s: a closed way has brought something: %+v", p.way.name, q)
			}
		}
		if p.through && len(some) == 0 {
			t.Errorf("%s: no path says that it brought the news: %+v", p.way.name, all)
		}
	}
}

// brought are all paths that mirror status --json names, and those that have
// brought something since the library was copied.
func (w *world) brought(t *testing.T, status string) (all, some []path) {
	t.Helper()
	all = paths(t, status)
	for _, p := range all {
		if i := slices.IndexFunc(w.before, func(q path) bool { return q.Name == p.Name }); i >= 0 {
			p.Blocks -= w.before[i].Blocks
		}
		if p.Blocks > 0 {
			some = append(some, p)
		}
	}
	return all, some
}

// smuggle: where nothing comes through, a reader is told so, has what he had,
// and takes the news from a file.
func (w *world) smuggle(t *testing.T, cellar *reader, waiting *process) {
	if !waiting.within(patience) {
		t.Fatalf("sync does not give up: %s", waiting)
	}
	if waiting.wait == nil || !regexp.MustCompile(`no way answered`).MatchString(waiting.stdout()) || !strings.Contains(waiting.stderr(), "no path delivered the news") {
		t.Errorf("sync does not say that it reached nobody: %s", waiting)
	}
	if cellar.has(t, today) || !cellar.has(t, yesterday) {
		t.Error("not yesterday's news, and nothing else")
	}
	friend := w.reader(t, "friend")
	file := filepath.Join(t.TempDir(), "edition.car")
	if p := friend.sync(t); !p.within(patience) || p.wait != nil {
		t.Fatalf("the friend has no news either: %s", p)
	}
	friend.mirror(t, "export", file)
	cellar.mirror(t, "import", file)
	if !cellar.has(t, today) || !cellar.has(t, yesterday) {
		t.Errorf("the file has not brought the news:\n%s", cellar.mirror(t, "list"))
	}
}
