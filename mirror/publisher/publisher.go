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
//	editions/left-out editions that a new generation of the log has left out
//	lock              held by the one process that may write
//
// Edition N exists when N.car does: it is renamed into place after everything
// it needs is on disk, so that a crash leaves an edition whole or not at all,
// and no index of the log is ever used twice.
package publisher

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/internal/filelock"
	"tamizdat/mirror/publisher/source"
	"tamizdat/transport/file"
)

var (
	// ErrExists: Init found a publisher in the folder.
	ErrExists = errors.New("there is a channel in this folder already")
	// ErrNone: Open found no publisher in the folder.
	ErrNone = errors.New("no channel in this folder; run mirror-publish init")
	// ErrInUse: another process has the folder open.
	ErrInUse = errors.New("another mirror-publish is at work in this folder; wait for it to end")
	// ErrNothingNew: no article is new or changed.
	ErrNothingNew = errors.New("nothing new to pack")
)

// batches is how many batches are made ahead if publisher.toml does not ask for
// more. Every edition holds a grant for each, so that neither how many are handed out
// nor who was revoked shows.
const batches = 16

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

// edition is editions/N.json.
type edition struct {
	Leaf  []byte        `json:"leaf"`
	Front *bundle.Front `json:"front"`
	// Packed are the fingerprints of the articles packed into it, by ID.
	Packed map[string][]byte `json:"packed"`
	Sizes  map[string]int64  `json:"sizes"`
	// Hash and Generation stand for Leaf and head where only the log knows of it: then
	// it has no .car, and no Front either unless that could be had.
	Hash       []byte `json:"hash,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	leaf       channel.Leaf
	hash       channel.Hash
	generation uint64 // of the log key that signed its head
}

// hollow reports whether there is nothing of it to hand on.
func (e *edition) hollow() bool { return len(e.Hash) > 0 }

// keyring is keys/keys.json: everything that must stay secret.
type keyring struct {
	// Root, Log and IPNS are Ed25519 seeds; Root is empty if the root keys are
	// elsewhere. NextLog takes the place of Log once a root note names it.
	Root    []byte `json:"root"`
	Log     []byte `json:"log"`
	NextLog []byte `json:"next_log,omitempty"`
	IPNS    []byte `json:"ipns"`
	// Epochs are epoch keys by number.
	Epochs []channel.EpochKey `json:"epochs"`
	// Renew is when the newest epoch ends if none is revoked before; zero until the
	// first edition of it.
	Renew   time.Time `json:"renew,omitzero"`
	Batches []batch   `json:"batches"`
	Serial  uint64    `json:"serial"`
}

type batch struct {
	Seed channel.Seed `json:"seed"`
	// Name is what the publisher calls the batch; empty while it is unused.
	Name string `json:"name,omitempty"`
	// Said is the hash of what all stored grants say, and of their size.
	Said []byte `json:"said,omitempty"`
	// Until is how many epochs the batch can open, 0 unless it was revoked.
	Until int `json:"until,omitempty"`
}

func (b *batch) revoked() bool { return b.Until > 0 }

func (k *keyring) key(seed []byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed) }

// Init makes a channel in dir: keys, the first root note, publisher.toml.
func Init(dir, name string, langs []string) (*Publisher, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, configFile)); err == nil {
		return nil, ErrExists
	}
	for _, d := range []string{dir, filepath.Join(dir, "keys"), filepath.Join(dir, "root"), filepath.Join(dir, "grants"), filepath.Join(dir, "editions")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	p := &Publisher{dir: dir}
	if err := p.acquire(); err != nil {
		return nil, err
	}
	err := p.found(name, langs)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// found writes keys, root note and, last, publisher.toml: a folder is a
// channel's once that is there.
func (p *Publisher) found(name string, langs []string) error {
	// A crash of an earlier Init may have left keys: they were never used.
	p.keys = keyring{Root: random(), Log: random(), IPNS: random(), Epochs: []channel.EpochKey{channel.EpochKey(random())}}
	for range batches {
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
	return writeConfig(p.dir, p.cfg)
}

func random() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}

// Open opens the folder that Init made and takes its lock.
func Open(dir string) (*Publisher, error) {
	cfg, err := loadConfig(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	p := &Publisher{dir: dir, cfg: cfg}
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

func (p *Publisher) acquire() (err error) {
	p.lock, err = filelock.Acquire(filepath.Join(p.dir, "lock"))
	if errors.Is(err, filelock.ErrHeld) {
		return ErrInUse
	}
	return err
}

// Close gives the lock back.
func (p *Publisher) Close() error { return p.lock.Release() }

func (p *Publisher) load() error {
	b, err := os.ReadFile(filepath.Join(p.dir, "keys", "keys.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &p.keys); err != nil || len(p.keys.Epochs) == 0 ||
		len(p.keys.Root) != 0 && len(p.keys.Root) != 32 || len(p.keys.Log) != 32 || len(p.keys.IPNS) != 32 ||
		len(p.keys.NextLog) != 0 && len(p.keys.NextLog) != 32 {
		return errors.New("keys/keys.json is damaged; restore it from a backup")
	}
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
	if err := p.setRoots(notes); err != nil {
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
	return p.loadEditions()
}

// makeBatches makes those that are missing, durably.
func (p *Publisher) makeBatches(want int) error {
	if len(p.keys.Batches) >= want {
		return nil
	}
	for len(p.keys.Batches) < want {
		p.keys.Batches = append(p.keys.Batches, batch{Seed: channel.Seed(random())})
	}
	return p.saveKeys()
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

// loadEditions reads editions in order and checks that none is missing.
func (p *Publisher) loadEditions() error {
	for n := uint64(0); ; n++ {
		e, err := p.loadEdition(n)
		if err != nil {
			return err
		}
		if e == nil {
			return p.noGap(n)
		}
		p.editions = append(p.editions, *e)
	}
}

// loadEdition reads edition n, nil if there is none.
func (p *Publisher) loadEdition(n uint64) (*edition, error) {
	damaged := fmt.Errorf("editions/%d.json is damaged; restore it from a backup", n)
	_, err := os.Stat(p.carName(n))
	whole := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	b, err := os.ReadFile(p.jsonName(n))
	switch {
	case errors.Is(err, os.ErrNotExist) && !whole:
		return nil, nil
	case err != nil:
		return nil, err
	}
	var e edition
	if err := json.Unmarshal(b, &e); err != nil {
		if !whole {
			return nil, nil // of an edition that was not finished
		}
		return nil, damaged
	}
	if !whole {
		if !e.hollow() {
			return nil, nil
		}
		if len(e.Hash) != len(e.hash) {
			return nil, damaged
		}
		e.hash, e.generation = channel.Hash(e.Hash), e.Generation
		return &e, nil
	}
	e.Hash = nil // it was hollow once, and has been found
	if e.Front == nil {
		return nil, damaged
	}
	head, err := p.headOf(n)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(head.Leaf.Text(), e.Leaf) {
		return nil, fmt.Errorf("editions/%d.json and .car don't belong together; restore them from a backup", n)
	}
	e.leaf, e.hash, e.generation = head.Leaf, head.Leaf.Hash(), head.Generation
	return &e, nil
}

// noGap refuses to go on where edition n is missing but later ones are there:
// packing it again would sign one index of the log twice.
func (p *Publisher) noGap(n uint64) error {
	names, err := filepath.Glob(filepath.Join(p.dir, "editions", "*.car"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if later, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".car"), 10, 64); err == nil && later > n {
			return fmt.Errorf("editions/%d.car is missing though later ones are there; restore it from a backup", n)
		}
	}
	return nil
}

func (p *Publisher) carName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".car")
}

func (p *Publisher) jsonName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".json")
}

// headOf reads the head of edition n from its file. It may be of a generation of the
// log that has ended since: the root notes in the file, which ours go on from, say
// who could sign it then.
func (p *Publisher) headOf(n uint64) (*channel.Head, error) {
	head, _, err := p.headUnder(n)
	return head, err
}

// headUnder is headOf, with the root notes in the file: of cosignatures it keeps those of
// the witnesses that they name.
func (p *Publisher) headUnder(n uint64) (*channel.Head, *channel.Roots, error) {
	f, err := os.Open(p.carName(n))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	in, err := r.Intro()
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	then := len(in.RootNotes)
	if then > len(p.notes) || !slices.EqualFunc(in.RootNotes, p.notes[:then], bytes.Equal) {
		return nil, nil, fmt.Errorf("editions/%d.car was made under other root notes; restore it from a backup", n)
	}
	roots, err := channel.ParseRoots(p.Channel(), in.RootNotes)
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	head, err := roots.Head(in.Head)
	return head, roots, err
}

func (p *Publisher) saveKeys() error {
	b, err := json.MarshalIndent(p.keys, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(p.dir, "keys", "keys.json"), 0o600, append(b, '\n'))
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

// Packing is what Pack did.
type Packing struct {
	// Edition is the newest one made, Editions how many were: a front page holds
	// only so many headlines.
	Edition  uint64
	Editions int
	Articles int
	// Corrected of these take the place of an earlier text of their own. Unchanged
	// were packed before and have not changed since.
	Corrected, Unchanged int
	// Gone are IDs of articles that were left out since they have been taken back.
	Gone []string
	// Sizes are the layers' file sizes in bytes, Total that of the CAR files.
	Sizes map[string]int64
	Total int64
}

// Owes reports whether an edition is due even without news: the newest one is of an
// epoch that a revoked batch can open, or knows of older root keys.
func (p *Publisher) Owes() bool {
	if len(p.editions) == 0 {
		return false
	}
	leaf := p.editions[len(p.editions)-1].leaf
	return leaf.Epoch+1 < uint64(len(p.keys.Epochs)) || leaf.RootVersion < p.roots.Version()
}

// Pack makes an edition of those articles that are new or changed, or several
// if they don't fit on one front page. If there are none and none is owed (Owes),
// the error wraps ErrNothingNew and nothing is written.
func (p *Publisher) Pack(articles []bundle.Article, now time.Time) (*Packing, error) {
	fresh := p.Fresh(articles)
	out := &Packing{Articles: len(fresh), Gone: p.withheld(articles), Sizes: map[string]int64{}}
	out.Unchanged = len(articles) - len(fresh) - len(out.Gone)
	last, _ := p.standing()
	for i := range fresh {
		if _, ok := last[fresh[i].ID]; ok {
			fresh[i].Corrected = now
			out.Corrected++
		}
	}
	if len(fresh) == 0 && !p.Owes() {
		return out, ErrNothingNew
	}
	chunks := slices.Collect(slices.Chunk(fresh, cmp.Or(p.cfg.Headlines, bundle.DefaultKeep)))
	if len(chunks) == 0 {
		chunks = [][]bundle.Article{nil}
	}
	for _, some := range chunks {
		if err := p.packInto(out, some, nil, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// packInto makes one edition and adds it to what out says.
func (p *Publisher) packInto(out *Packing, articles []bundle.Article, gone []string, now time.Time) error {
	made, size, err := p.packOne(articles, gone, now)
	if err != nil {
		return err
	}
	out.Edition = made.Leaf.Edition
	out.Editions++
	out.Total += size
	for layer, n := range made.Sizes {
		out.Sizes[layer] += n
	}
	return nil
}

// packOne makes one edition, which takes articles back besides those that earlier
// ones did.
func (p *Publisher) packOne(articles []bundle.Article, gone []string, now time.Time) (*bundle.Packed, int64, error) {
	switch {
	case p.torn():
		return nil, 0, errTorn
	case !p.roots.Last().Log.Key.Equal(p.public(p.keys.Log)):
		return nil, 0, errNoLogKey
	}
	if err := p.renew(now); err != nil {
		return nil, 0, err
	}
	grants, err := p.grants()
	if err != nil {
		return nil, 0, err
	}
	epoch := uint64(len(p.keys.Epochs) - 1)
	in := bundle.Input{
		Channel: p.Channel(), Name: p.cfg.Name, Langs: p.cfg.Langs, Edition: p.Size(), Epoch: epoch,
		Key: p.keys.Epochs[epoch], RootVersion: p.roots.Version(), Date: now, Articles: articles,
		Keep: p.cfg.Headlines, RootNotes: p.notes, Grants: grants, Gone: p.goneWith(gone, articles),
	}
	log := p.history(p.Size())
	in.Leaves = log.Leaves()
	if n := len(p.editions); n > 0 {
		in.Previous, in.PreviousLeaf = p.editions[n-1].Front, &p.editions[n-1].leaf
	}
	if in.Dict, in.DictFile, err = p.dictionary(); err != nil {
		return nil, 0, err
	}
	made, err := bundle.Pack(in)
	if err != nil {
		return nil, 0, err
	}
	head, err := channel.SignHead(made.Leaf, log.Edge(), p.roots.Last().Log.Generation, now, p.keys.key(p.keys.Log))
	if err != nil {
		return nil, 0, err
	}
	e := edition{Leaf: made.Leaf.Text(), Front: made.Front, Packed: map[string][]byte{}, Sizes: made.Sizes, leaf: made.Leaf, hash: made.Leaf.Hash(), generation: head.Generation}
	for _, a := range articles {
		sum := source.Fingerprint(a)
		e.Packed[a.ID] = sum[:]
	}
	size, err := p.commit(e, head, made.Blocks)
	if err != nil {
		return nil, 0, err
	}
	p.editions = append(p.editions, e)
	return made, size, nil
}

// history is the log as it stood with the first size editions.
func (p *Publisher) history(size uint64) *channel.Log {
	log := channel.NewLog(nil)
	for i := range p.editions[:size] {
		log.Append(p.editions[i].hash)
	}
	return log
}

// Fresh leaves out what was packed before and has not changed, and what was taken
// back and not restored.
func (p *Publisher) Fresh(articles []bundle.Article) (fresh []bundle.Article) {
	last, gone := p.standing()
	seen := map[string]bool{}
	for _, a := range articles {
		sum := source.Fingerprint(a)
		if seen[a.ID] || bytes.Equal(last[a.ID], sum[:]) || slices.Contains(gone, a.ID) && !p.restored[a.ID] {
			continue
		}
		seen[a.ID] = true
		fresh = append(fresh, a)
	}
	return fresh
}

// commit writes the edition: first what describes it, then, by one rename, the
// file that makes it exist.
func (p *Publisher) commit(e edition, head *channel.Head, blocks []bundle.Block) (int64, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	n := e.leaf.Edition
	if err := durable.Write(p.jsonName(n), 0o600, b); err != nil {
		return 0, err
	}
	var size int64
	err = durable.WriteFile(p.carName(n), 0o600, func(f io.Writer) error {
		counted := &countWriter{w: f}
		w, err := car.NewEdition(counted, car.Intro{RootNotes: p.notes, Head: head.Text(), Root: head.Root})
		if err != nil {
			return err
		}
		for _, b := range blocks {
			if err := w.Put(b.CID, b.Data); err != nil {
				return err
			}
		}
		size = counted.n
		return nil
	})
	return size, err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Source opens edition n for a push or an export; close it.
func (p *Publisher) Source(n uint64) (*os.File, int64, error) {
	f, err := os.Open(p.carName(n))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// Export writes the newest edition, and of the older ones of the window their
// headlines and articles, as one CAR file: whole or not at all.
func (p *Publisher) Export(_ context.Context, name string) error {
	switch {
	case p.Size() == 0:
		return errNothingPacked
	case p.torn():
		return errTorn
	}
	return durable.WriteFile(name, 0o644, func(w io.Writer) error {
		window := p.window()
		newest, _, err := p.Source(window[len(window)-1])
		if err != nil {
			return err
		}
		defer newest.Close()
		if _, err := io.Copy(w, newest); err != nil {
			return err
		}
		// A CARv1 file has no end mark: further blocks just follow.
		out := car.Continue(w)
		held, err := p.dictBlocks(window[len(window)-1])
		if err != nil {
			return err
		}
		for _, n := range window[:len(window)-1] {
			if p.editions[n].hollow() {
				continue
			}
			if err := p.exportArticles(out, n, held); err != nil {
				return fmt.Errorf("edition %d: %w", n, err)
			}
		}
		return nil
	})
}

// exportArticles adds edition n's directory, front page, dictionary, texts and images,
// without the blocks that held only what was taken back or corrected since, and none
// of the blocks held, to which it adds: editions share their dictionary.
func (p *Publisher) exportArticles(out *car.Writer, n uint64, held map[cid.Cid]bool) error {
	src, err := file.Open(p.carName(n))
	if err != nil {
		return err
	}
	vol := &bundle.Volume{Channel: p.Channel(), Edition: n, Root: p.editions[n].leaf.Root, Get: src.Block}
	free, err := vol.Freed(p.passed(n))
	if err != nil {
		return err
	}
	return vol.Walk(func(w bundle.Want, data []byte) error {
		if held[w.CID] {
			return nil
		}
		held[w.CID] = true
		switch w.Layer {
		case bundle.LayerDirectory, bundle.LayerFront, bundle.LayerDict, bundle.LayerText, bundle.LayerMedia:
			if !slices.ContainsFunc(free, func(f bundle.Want) bool { return f.CID.Equals(w.CID) }) {
				return out.Put(w.CID, data)
			}
		}
		return nil
	})
}

// EditionSizes are edition n's layer sizes in bytes.
func (p *Publisher) EditionSizes(n uint64) map[string]int64 { return p.editions[n].Sizes }

// Date is when edition n was packed, zero if that is not known.
func (p *Publisher) Date(n uint64) time.Time {
	if e := &p.editions[n]; e.Front != nil {
		return e.Front.Date
	}
	return time.Time{}
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

func checkName(name string) error {
	if name == "" || len(name) > 200 || strings.ContainsAny(name, "\n\r\t\x00") {
		return errors.New(`the channel's name must be one line: --name "Radio Example"`)
	}
	return nil
}
