// Package publisher is the publisher's side: keys and editions in a folder,
// packing, and pushing to every target at once.
//
// The folder (see [Init]) holds:
//
//	publisher.toml    the channel's name, sources and targets, with comments
//	keys/             root, log and IPNS keys, epoch keys, batch seeds: secrets
//	root/N            the signed root notes
//	dict.zstd         the dictionary that texts are compressed with, if any
//	grants/NAME       one grant file a batch, sealed anew only when it changes
//	editions/N.json   what edition N's leaf and front page say
//	editions/N.car    edition N as it travels; missing if the folder was recovered
//	                  from a backup (see Find): then N.json has its hash
//	editions/N.blocks edition N's blocks until its head is signed
//	editions/left-out editions that a new generation of the log has left out
//	lock              held by the one process that may write
//	unfinished        there while Init is at work
//
// Edition N exists when N.car does: it is renamed into place after everything
// it needs is on disk, so that a crash leaves an edition whole or not at all.
// Its blocks and its leaf are on disk before anything is signed over them, and what
// a crash has cut off then Open finishes as it was: no index of the log is ever
// used twice.
package publisher

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/internal/filelock"
)

var (
	// ErrExists: Init found a publisher in the folder.
	ErrExists = errors.New("there is a channel in this folder already")
	// ErrNone: Open found no publisher in the folder.
	ErrNone = errors.New("no channel in this folder; run mirror-publish init")
	// ErrPart: the folder holds keys or a root note of a channel, which Init would
	// destroy, and no publisher.toml, without which Open can't go on.
	ErrPart = errors.New("this folder holds a channel's keys, but not its publisher.toml; restore that from a backup, or write it anew (name = \"…\", and the targets)")
)

// foundingFile is there while Init is at work: the keys beside it were never used.
const foundingFile = "unfinished"

// Publisher is an opened folder. It isn't safe for use from several goroutines
// at once, besides Push's own.
type Publisher struct {
	dir      string
	cfg      Config
	lock     *filelock.Lock
	keys     keyring
	notes    [][]byte
	roots    *channel.Roots
	editions []edition
	// restored are articles that the next Pack may bring back, by ID.
	restored map[string]bool
}

// Init makes a channel in dir: keys, the first root note, publisher.toml.
func Init(dir, name string, langs []string) (*Publisher, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &Publisher{dir: dir}
	if err := p.acquire(); err != nil {
		return nil, err
	}
	if err := p.vacant(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.found(name, langs); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// vacant reports as an error what of a channel is in the folder already.
func (p *Publisher) vacant() error {
	switch {
	case p.has(configFile):
		return ErrExists
	case p.part():
		return ErrPart
	}
	return nil
}

// part reports whether keys or a root note are here that Init has not just left in a
// crash.
func (p *Publisher) part() bool {
	return !p.has(foundingFile) && (p.has("keys", "keys.json") || p.has("root", "1"))
}

// has reports whether a file is there, or may be.
func (p *Publisher) has(name ...string) bool {
	_, err := os.Lstat(filepath.Join(p.dir, filepath.Join(name...)))
	return !errors.Is(err, os.ErrNotExist)
}

// makeFolders makes those that are missing: a backup may have left out empty ones.
func (p *Publisher) makeFolders() error {
	for _, d := range []string{"keys", "root", "grants", "editions"} {
		if err := durable.MkdirAll(filepath.Join(p.dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// found writes keys, root note and, last, publisher.toml: a folder is a
// channel's once that is there.
func (p *Publisher) found(name string, langs []string) error {
	if err := durable.Write(filepath.Join(p.dir, foundingFile), 0o600, nil); err != nil {
		return err
	}
	if err := p.makeFolders(); err != nil {
		return err
	}
	p.keys = keyring{Root: random(), Log: random(), IPNS: random(), Epochs: []channel.EpochKey{channel.EpochKey(random())}}
	for range leastBatches {
		p.keys.Batches = append(p.keys.Batches, batch{Seed: channel.Seed(random())})
	}
	if err := p.saveKeys(); err != nil {
		return err
	}
	root := p.keys.key(p.keys.Root)
	note := channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{root.Public().(ed25519.PublicKey)},
		Log:  channel.LogKey{Key: p.keys.key(p.keys.Log).Public().(ed25519.PublicKey)},
		IPNS: p.keys.key(p.keys.IPNS).Public().(ed25519.PublicKey),
	}
	signed, err := note.Sign(root)
	if err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(p.dir, "root", "1"), 0o644, signed); err != nil {
		return err
	}
	if err := p.setRoots([][]byte{signed}); err != nil {
		return err
	}
	p.cfg = Config{Name: name, Langs: langs}
	if err := writeConfig(p.dir, p.cfg); err != nil {
		return err
	}
	return p.founded()
}

// founded removes what says that Init is at work. It is durable: else what is restored
// of the folder some day could be taken for what Init has left.
func (p *Publisher) founded() error {
	if err := os.Remove(filepath.Join(p.dir, foundingFile)); err != nil {
		return err
	}
	return durable.SyncDir(p.dir)
}

// Open opens the folder that Init made and takes its lock.
func Open(dir string) (*Publisher, error) {
	p := &Publisher{dir: dir}
	var err error
	p.cfg, err = loadConfig(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && p.part():
		return nil, ErrPart
	case errors.Is(err, os.ErrNotExist):
		return nil, ErrNone
	case err != nil:
		return nil, err
	}
	if err := p.acquire(); err != nil {
		return nil, err
	}
	for _, d := range []string{".", "keys", "root", "grants", "editions"} {
		durable.Sweep(filepath.Join(dir, d))
	}
	if err := p.load(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// load reads all of the folder, and ends what a crash has cut off.
func (p *Publisher) load() error {
	if p.has(foundingFile) {
		if err := p.founded(); err != nil {
			return err
		}
	}
	if err := p.makeFolders(); err != nil {
		return err
	}
	if err := p.loadKeys(); err != nil {
		return err
	}
	if err := p.loadRoots(); err != nil {
		return err
	}
	if err := p.dropRootKey(); err != nil {
		return err
	}
	if err := p.useLogKey(); err != nil {
		return err
	}
	if err := p.makeBatches(p.cfg.Batches); err != nil {
		return err
	}
	if err := p.leaveOut(); err != nil {
		return err
	}
	if err := p.loadEditions(); err != nil {
		return err
	}
	return p.finishStaged()
}

// loadRoots reads the root notes.
func (p *Publisher) loadRoots() error {
	var notes [][]byte
	for v := 1; ; v++ {
		note, err := os.ReadFile(filepath.Join(p.dir, "root", strconv.Itoa(v)))
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		notes = append(notes, note)
	}
	if len(notes) == 0 {
		var err error
		if notes, err = p.rootsOfEditions(); err != nil {
			return err
		}
	}
	return p.setRoots(notes)
}

// rootsOfEditions takes the root notes out of the newest edition's file, if they name a
// log key that is here, and writes them, durably: a backup may be of keys and editions
// only. None is no error.
func (p *Publisher) rootsOfEditions() ([][]byte, error) {
	names, err := durable.Glob(filepath.Join(p.dir, "editions"), "*.car")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(name), ".car")) // loadEditions says what is no number
		return n
	}
	newest := slices.MaxFunc(names, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	f, err := os.Open(newest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return nil, nil // as if it were not there
	}
	in, err := r.Intro()
	if err != nil || len(in.RootNotes) == 0 {
		return nil, nil
	}
	id, _ := channel.FoundedBy(in.RootNotes[0])
	roots, err := channel.ParseRoots(id, in.RootNotes)
	if err != nil || !p.hasLogKey(roots.Last().Log.Key) {
		return nil, nil
	}
	for i, note := range slices.Backward(roots.Notes()) { // with the first one all are there
		if err := durable.Write(filepath.Join(p.dir, "root", strconv.Itoa(i+1)), 0o644, note); err != nil {
			return nil, err
		}
	}
	return roots.Notes(), nil
}

func (p *Publisher) setRoots(notes [][]byte) (err error) {
	if len(notes) == 0 {
		return errors.New("root/1 is missing; restore it from a backup")
	}
	id, ok := channel.FoundedBy(notes[0])
	if !ok {
		return errors.New("root/1 is damaged; restore it from a backup")
	}
	p.notes = notes
	p.roots, err = channel.ParseRoots(id, notes)
	return err
}

// Channel is the channel's ID.
func (p *Publisher) Channel() channel.ID { return p.roots.Channel() }

// Config is what publisher.toml says.
func (p *Publisher) Config() Config { return p.cfg }

// Size is the number of editions.
func (p *Publisher) Size() uint64 { return uint64(len(p.editions)) }

// Front is the newest front page, nil before the first edition.
func (p *Publisher) Front() *bundle.Front {
	if len(p.editions) == 0 {
		return nil
	}
	return p.editions[len(p.editions)-1].Front
}

// window lists the editions that readers of the newest one may ask for, in order.
func (p *Publisher) window() []uint64 {
	f := p.Front()
	if f == nil {
		return nil
	}
	out := []uint64{f.Edition}
	for _, e := range f.Past {
		out = append(out, e.Edition)
	}
	slices.Sort(out)
	return out
}

// Date is when edition n was packed, zero if that is not known.
func (p *Publisher) Date(n uint64) time.Time {
	if e := &p.editions[n]; e.Front != nil {
		return e.Front.Date
	}
	return time.Time{}
}

// EditionSizes are edition n's layer sizes in bytes.
func (p *Publisher) EditionSizes(n uint64) map[string]int64 { return p.editions[n].Sizes }

func checkName(name string) error {
	if name == "" || len(name) > 200 || strings.ContainsAny(name, "\n\r\t\x00") {
		return errors.New(`the channel's name must be one line: --name "Radio Example"`)
	}
	return nil
}
