package cmd_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/library"
	"tamizdat/mirror/reader"
)

// killSeed repeats the moments of an earlier run:
// go test -run TestKill ./cmd -args -kill.seed=N.
var killSeed = flag.Uint64("kill.seed", 0, "seed of TestKill's moments (default: another one each time)")

const (
	killStories   = 24       // articles an edition
	killStorySize = 12 << 10 // bytes an article
	lineRate      = 1 << 20  // bytes a second between relay and the others
)

// TestKill kills publisher, relay and reader at random moments of everything
// they do. The same command, run again, must succeed, and in the end everybody
// has what was packed.
func TestKill(t *testing.T) {
	t.Parallel()
	k := newKilling(t)
	k.calm()

	k.init()
	k.relayStart()
	rounds := []struct{ push, sync string }{ // who is killed
		{"relay", "reader"},
		{"publisher", "relay"},
		{"relay", "reader"},
		{"publisher", "reader"},
		{"relay", "reader"},
	}
	if brief() {
		rounds = rounds[:2]
	}
	for _, r := range rounds {
		k.round(r.push == "relay", r.sync == "relay")
	}
	k.inviteAndAdd()
	if !brief() {
		k.importFile()
	}
	k.arrived(k.reader, k.stories)
	k.noLeftovers()
	t.Logf("%d kills, %d of them hit a command at work", k.kills, k.hits)
	if !brief() && k.kills < 20 {
		t.Errorf("only %d kills", k.kills)
	}
	if k.hits*2 <= k.kills {
		t.Errorf("only %d of %d kills hit a command at work", k.hits, k.kills)
	}
}

// killing is the world of TestKill.
type killing struct {
	*desk
	rng    *rand.Rand
	pub    *studio
	relay  *relayHost
	line   *narrow
	reader string
	invite string

	stories []story            // packed so far
	took    map[string]float64 // seconds that a step needs when nobody is killed
	leaves  map[uint64][]byte  // edition → leaf, wherever it was seen first
	acked   int                // the highest edition a push said had arrived
	kills   int
	hits    int
}

func newKilling(t *testing.T) *killing {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -args -kill.seed=%d", seed)
	return &killing{desk: newDesk(t), rng: rand.New(rand.NewPCG(seed, 0)), reader: "reader", took: map[string]float64{}, leaves: map[uint64][]byte{}, acked: -1}
}

// calm does every step once, undisturbed, and takes its time.
func (k *killing) calm() {
	timed := func(step string, p *process) *process { k.took[step] = p.took.Seconds(); return p }
	listen := localPort(k.t)
	k.line = newNarrow(k.t, listen, lineRate)
	k.relay = &relayHost{d: k.desk, dir: "relay", listen: listen}
	k.relay.run()
	k.took["start"] = time.Since(k.relay.proc.start).Seconds()
	start := time.Now()
	k.pub = k.studio("pub", "Radio Example", "en")
	k.took["init"] = time.Since(start).Seconds()
	k.pub.carriedBy(k.relay, "first", k.line.addr)
	k.more()
	timed("pack", k.must("mirror-publish", "--dir", "pub", "pack", k.folder()))
	k.pushed(timed("push", k.must("mirror-publish", "--dir", "pub", "push")))
	start = time.Now()
	k.invite = k.pub.invite(k.path("invite"))
	k.took["invite"] = time.Since(start).Seconds()
	timed("add", k.must("mirror", "--dir", k.reader, "add", "invite"))
	timed("sync", k.must("mirror", "--dir", k.reader, "sync"))
	k.logs()
	k.listed(k.reader, k.stories)
	if brief() {
		return
	}
	timed("export", k.must("mirror", "--dir", k.reader, "export", "edition.car"))
	k.must("mirror", "--dir", "friend", "add", "invite")
	timed("import", k.must("mirror", "--dir", "friend", "import", "edition.car"))
	k.listed("friend", k.stories)
}

// more makes the stories of the next edition.
func (k *killing) more() {
	n := len(k.stories) / killStories
	fresh := invent(k.rng, fmt.Sprint(n), killStories, killStorySize)
	k.stories = append(k.stories, fresh...)
	shelve(k.t, k.path(k.folder()), fresh)
}

// folder holds the stories of the newest edition.
func (k *killing) folder() string { return fmt.Sprintf("news-%d", len(k.stories)/killStories-1) }

// newest is the number of the edition that the newest stories go into.
func (k *killing) newest() int { return len(k.stories)/killStories - 1 }

// moment waits for a random part of what a step takes, or for its end.
func (k *killing) moment(step string, p *process) {
	part := 0.02 + 0.96*k.rng.Float64()
	wait := time.Duration(part * k.took[step] * float64(time.Second))
	k.kills++
	if p.within(max(0, wait-time.Since(p.start))) {
		k.t.Logf("%s had ended before its kill at %.0f %%", step, part*100)
		k.took[step] = p.took.Seconds() // the machine has more time for us now
		return
	}
	k.hits++
}

// victim starts a command and kills it at a random moment.
func (k *killing) victim(step, name string, args ...string) *process {
	p := k.start("", nil, name, args...)
	k.moment(step, p)
	p.kill()
	return p
}

// init kills the making of a channel.
func (k *killing) init() {
	args := []string{"init", "other", "--name", "Second Channel", "--lang", "en"}
	was := k.victim("init", "mirror-publish", args...)
	again := k.run("mirror-publish", args...)
	if again.code() != 0 {
		// It was done, whatever became of the process.
		if !strings.Contains(again.stderr(), "there is a channel in this folder already") {
			k.t.Fatalf("init after a kill: %s", again)
		}
	}
	id := k.must("mirror-publish", "--dir", "other", "status").find(k.t, `^channel (\S+)$`)
	for _, p := range []*process{was, again} {
		if out := p.stdout(); out != "" && !strings.Contains(out, id) {
			k.t.Errorf("the folder holds channel %s; told: %s", id, out)
		}
	}
	k.must("mirror-publish", "--dir", "other", "pack", k.folder())
}

// relayStart kills a relay that makes its keys.
func (k *killing) relayStart() {
	r := &relayHost{d: k.desk, dir: "relay-2", listen: "127.0.0.1:0"}
	p := k.start("", nil, "mirror-relay", r.args()...)
	k.moment("start", p)
	p.kill()
	r.run()
	pin := k.must("mirror-relay", "--dir", r.dir, "address").find(k.t, `^pin (\S+)$`)
	r.proc.kill()
	r.run()
	if again := k.must("mirror-relay", "--dir", r.dir, "address").find(k.t, `^pin (\S+)$`); again != pin {
		k.t.Errorf("the relay's pin was %s and is %s", pin, again)
	}
	r.proc.stop()
}

// round is one more edition on its way to the reader: packing, pushing and
// fetching are each killed once.
func (k *killing) round(relayAtPush, relayAtSync bool) {
	k.more()
	k.victim("pack", "mirror-publish", "--dir", "pub", "pack", k.folder())
	k.logs()
	k.must("mirror-publish", "--dir", "pub", "pack", k.folder())
	k.logs()

	if relayAtPush {
		k.killRelay("push", "mirror-publish", "--dir", "pub", "push")
	} else {
		k.pushed(k.victim("push", "mirror-publish", "--dir", "pub", "push"))
	}
	k.logs()
	k.pushed(k.must("mirror-publish", "--dir", "pub", "push"))
	k.logs()
	if k.acked != k.newest() {
		k.t.Fatalf("push speaks of edition %d, packed is %d", k.acked, k.newest())
	}

	if relayAtSync {
		k.killRelay("sync", "mirror", "--dir", k.reader, "sync")
	} else {
		k.victim("sync", "mirror", "--dir", k.reader, "sync")
	}
	k.must("mirror", "--dir", k.reader, "sync")
	k.listed(k.reader, k.stories)
}

// killRelay kills the relay while a command speaks to it, and starts it again.
// What the command makes of it is its own affair, but it must end.
func (k *killing) killRelay(step, name string, args ...string) {
	p := k.start("", nil, name, args...)
	k.moment(step, p)
	if !k.relay.proc.kill() {
		k.t.Fatalf("the relay had ended by itself: %s", k.relay.proc)
	}
	k.relay.run()
	if !p.within(2 * time.Second) {
		p.stop() // it waits for an answer that will not come; a person presses Ctrl-C
	}
	if step == "push" {
		k.pushed(p)
	}
	if k.acked >= 0 { // by whatever push: it is there after the kill
		k.holds(k.acked)
	}
}

// pushed takes down what a push, perhaps killed, said had arrived.
func (k *killing) pushed(p *process) {
	for line := range strings.Lines(p.stdout()) {
		var n int
		for _, form := range []string{"first: edition %d arrived", "first: holds edition %d already"} {
			if _, err := fmt.Sscanf(line, form, &n); err == nil {
				k.acked = max(k.acked, n)
			}
		}
	}
}

// holds fails if the relay doesn't hold edition n or a newer one.
func (k *killing) holds(n int) {
	out := k.must("mirror-publish", "--dir", "pub", "status")
	var got int
	if _, err := fmt.Sscanf(out.find(k.t, `^(first: holds edition \d+)`), "first: holds edition %d", &got); err != nil || got < n {
		k.t.Fatalf("edition %d had arrived at the relay; now: %s", n, out)
	}
	if _, ok := k.heads(filepath.Join("relay", "editions"))[uint64(n)]; !ok {
		k.t.Fatalf("edition %d had arrived and is not in the relay's store", n)
	}
}

// logs compares the leaf of each edition, wherever there is a file of it, with
// the one seen first.
func (k *killing) logs() {
	k.t.Helper()
	for _, dir := range []string{filepath.Join("pub", "editions"), filepath.Join("relay", "editions")} {
		for n, leaf := range k.heads(dir) {
			if first, ok := k.leaves[n]; !ok {
				k.leaves[n] = leaf
			} else if !bytes.Equal(first, leaf) {
				k.t.Fatalf("edition %d is two things:\n%s\n%s", n, first, leaf)
			}
		}
	}
}

// heads reads the leaves of all CAR files below dir.
func (k *killing) heads(dir string) map[uint64][]byte {
	k.t.Helper()
	out := map[uint64][]byte{}
	err := filepath.WalkDir(k.path(dir), func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == "left-out" { // they gave their numbers up
			return fs.SkipDir
		}
		if err != nil || filepath.Ext(name) != ".car" {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		r, err := car.NewReader(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		in, err := r.Intro()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		roots, err := channel.ParseRoots(k.pub.channel, in.RootNotes)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		h, err := roots.Head(in.Head)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for {
			if _, err := r.Next(); err != nil {
				if errors.Is(err, io.EOF) {
					break
				}
				return fmt.Errorf("%s is under its final name and not whole: %w", name, err)
			}
		}
		out[h.Edition] = h.Leaf.Text()
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.t.Fatal(err)
	}
	return out
}

// inviteAndAdd kills the making of an invite and of a library.
func (k *killing) inviteAndAdd() {
	k.victim("invite", "mirror-publish", "--dir", "pub", "invite")
	if again := k.pub.invite(k.path("invite")); again != k.invite {
		k.t.Error("the same batch has another invite now")
	}
	k.victim("add", "mirror", "--dir", "late", "add", "invite")
	if !brief() {
		k.victim("add", "mirror", "--dir", "late", "add", "invite")
	}
	k.must("mirror", "--dir", "late", "add", "invite")
	k.victim("sync", "mirror", "--dir", "late", "sync")
	k.must("mirror", "--dir", "late", "sync")
	k.newestArrived("late")
}

// importFile kills an export and an import.
func (k *killing) importFile() {
	file := "late.car"
	k.victim("export", "mirror", "--dir", k.reader, "export", file)
	k.must("mirror", "--dir", k.reader, "export", file)
	k.must("mirror", "--dir", "late-friend", "add", "invite")
	k.victim("import", "mirror", "--dir", "late-friend", "import", file)
	k.victim("import", "mirror", "--dir", "late-friend", "import", file)
	k.must("mirror", "--dir", "late-friend", "import", file)
	k.newestArrived("late-friend")
}

// newestArrived is arrived for the newest edition.
func (k *killing) newestArrived(dir string) {
	k.t.Helper()
	k.arrived(dir, k.stories[len(k.stories)-killStories:])
}

// listed fails if mirror list lacks a title, and returns what it prints.
func (k *killing) listed(dir string, want []story) string {
	k.t.Helper()
	list := k.must("mirror", "--dir", dir, "list", "-n", "1000").stdout()
	for _, s := range want {
		if !strings.Contains(list, s.title+"\n") {
			k.t.Fatalf("%s: the list lacks %q:\n%s", dir, s.title, list)
		}
	}
	return list
}

// arrived compares what a reader shows with what was packed: by its commands
// for titles and one article, by its library for all texts.
func (k *killing) arrived(dir string, want []story) {
	k.t.Helper()
	list := k.listed(dir, want)
	one := want[k.rng.IntN(len(want))]
	for line := range strings.Lines(list) {
		if strings.HasSuffix(line, one.title+"\n") {
			id, _, _ := strings.Cut(line, " ")
			if text := flat(k.must("mirror", "--dir", dir, "read", id).stdout()); !strings.HasPrefix(text, one.title) || !strings.Contains(text, one.text()) {
				k.t.Fatalf("%s: %q reads:\n%s", dir, one.title, text)
			}
		}
	}

	ctx := context.Background()
	r, err := reader.Open(ctx, reader.Config{Dir: k.path(dir), Network: &netreal.Network{}})
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	texts := map[string]string{}
	for h, err := range r.Library().Headlines(ctx, library.Query{}) {
		if err != nil {
			k.t.Fatal(err)
		}
		if !slices.ContainsFunc(want, func(s story) bool { return s.title == h.Title }) {
			continue
		}
		a, err := r.Shelf().Article(ctx, h.Channel, h.ID)
		if err != nil {
			k.t.Fatalf("%s: %q: %v", dir, h.Title, err)
		}
		texts[a.Title] = flat(safehtml.Text(a.Body))
	}
	for _, s := range want {
		if texts[s.title] != s.text() {
			k.t.Errorf("%s: %q has another text than was packed", dir, s.title)
		}
	}
}

// noLeftovers fails if what killed commands left behind stays after a command
// that was not killed.
func (k *killing) noLeftovers() {
	// A kill between the making of a temporary file and its renaming is rare:
	// these are of such kills.
	for _, name := range []string{"editions/.tmp-101", "keys/.tmp-102", "grants/.tmp-103", ".tmp-104"} {
		if err := os.WriteFile(k.path("pub", name), make([]byte, 1000), 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
	k.relay.proc.kill()
	k.relay.run()
	k.holds(k.acked)
	k.relay.proc.stop()
	for _, dir := range []string{"pub", "relay", k.reader, "late"} {
		left := 0
		for name, content := range tree(k.t, k.path(dir)) {
			if strings.Contains(name, ".tmp-") || strings.HasSuffix(name, ".part") {
				left += len(content)
			}
		}
		// Relay and reader write nothing large in this way, the publisher does.
		if left > 0 && dir == "pub" || left > 64<<10 {
			k.t.Errorf("%s: %d bytes of unfinished files are left behind", dir, left)
		}
	}
	if runtime.GOOS != "windows" {
		for name := range tree(k.t, k.tmp) {
			k.t.Errorf("left among the temporary files: %s", name)
		}
	}
}
