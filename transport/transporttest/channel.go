package transporttest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// Start is the date of every channel's edition 0; each next one is an hour later.
var Start = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// Channel is a publisher. Its keys follow from its name; what it encrypts
// differs from run to run. It isn't safe for use from several goroutines.
type Channel struct {
	// Seed is the batch that Invite hands out.
	Seed channel.Seed
	// Serial and Places go into the next edition's grant.
	Serial uint64
	Places channel.Places
	// Epoch and Key are those of the next edition; Epochs are in its grant.
	Epoch  uint64
	Key    channel.EpochKey
	Epochs []channel.Epoch
	// Gone are IDs of articles that the next editions take back.
	Gone []string
	// Dict, if not nil, is the dictionary of the editions from the next one on, as far
	// as it makes them smaller.
	Dict *bundle.Dictionary

	t        testing.TB
	name     string
	id       channel.ID
	root     []ed25519.PrivateKey
	log      ed25519.PrivateKey
	ipns     ed25519.PrivateKey
	note     channel.RootNote
	notes    [][]byte
	tree     *channel.Log
	editions []*Edition
}

// Edition is one finished edition.
type Edition struct {
	Head     *channel.Head
	Packed   *bundle.Packed
	Articles []bundle.Article
	// Notes are the root notes, Grants the grant files by name.
	Notes  [][]byte
	Grants map[string][]byte

	t   testing.TB
	key channel.EpochKey
}

func keyOf(seed string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(sum[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// NewChannel founds a channel; the same name gives the same keys and ID.
func NewChannel(t testing.TB, name string) *Channel {
	t.Helper()
	c := &Channel{
		t: t, name: name, Seed: sha256.Sum256([]byte(name + " batch")), Serial: 1,
		root: []ed25519.PrivateKey{keyOf(name + " root 1")}, log: keyOf(name + " log"), ipns: keyOf(name + " ipns"),
		tree: channel.NewLog(nil),
	}
	c.newEpoch()
	c.note = channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{public(c.root[0])},
		Log: channel.LogKey{Key: public(c.log)}, IPNS: public(c.ipns),
	}
	c.id = channel.IDOf(c.note.Text())
	c.sign(c.root...)
	return c
}

func (c *Channel) sign(keys ...ed25519.PrivateKey) {
	c.t.Helper()
	signed, err := c.note.Sign(keys...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.notes = append(slices.Clip(c.notes), signed)
}

func (c *Channel) newEpoch() {
	c.Key = sha256.Sum256(fmt.Appendf(nil, "%s epoch %d", c.name, c.Epoch))
	c.Epochs = append(slices.Clip(c.Epochs), channel.Epoch{Number: c.Epoch, Key: c.Key})
}

// NewEpoch changes the epoch key from the next edition on.
func (c *Channel) NewEpoch() {
	c.Epoch++
	c.Serial++
	c.newEpoch()
}

// Rotate publishes the next root note, with another root key, from the next
// edition on.
func (c *Channel) Rotate() {
	c.t.Helper()
	old := c.root[len(c.root)-1]
	c.note.Channel, c.note.Previous = c.id, sha256.Sum256(c.note.Text())
	c.note.Version++
	next := keyOf(fmt.Sprintf("%s root %d", c.name, c.note.Version))
	c.root = append(slices.Clip(c.root), next)
	c.note.RootKeys = []ed25519.PublicKey{public(next)}
	c.sign(old, next)
}

// Rekey publishes the next root note, with another log key, from the next edition on:
// the answer to a stolen one. The log goes on from the first good editions; the later
// ones are left out.
func (c *Channel) Rekey(good int) {
	c.t.Helper()
	c.tree = channel.NewLog(slices.Clone(c.tree.Leaves()[:good]))
	c.editions = slices.Clip(c.editions[:good])
	c.note.Channel, c.note.Previous = c.id, sha256.Sum256(c.note.Text())
	c.note.Version++
	c.log = keyOf(fmt.Sprintf("%s log %d", c.name, c.note.Version))
	c.note.Log = channel.LogKey{Generation: c.note.Log.Generation + 1, Key: public(c.log), Base: uint64(good)}
	if good > 0 {
		c.note.Log.BaseHash = channel.TreeHash(slices.Values(c.tree.Leaves()))
	}
	c.sign(c.root[len(c.root)-1])
}

// Fork returns a publisher with the same keys and the same history so far.
// What both publish from now on contradicts each other.
func (c *Channel) Fork() *Channel {
	f := *c
	f.tree = channel.NewLog(slices.Clone(c.tree.Leaves()))
	f.editions = slices.Clone(c.editions)
	return &f
}

// ID is the channel's ID.
func (c *Channel) ID() channel.ID { return c.id }

// IPNSKey signs the channel's IPNS records.
func (c *Channel) IPNSKey() ed25519.PrivateKey { return c.ipns }

// GrantName is where the grant of Seed lies.
func (c *Channel) GrantName() string { return c.Seed.GrantName(c.id) }

// Editions are all editions so far.
func (c *Channel) Editions() []*Edition { return c.editions }

// Newest is the last edition.
func (c *Channel) Newest() *Edition { return c.editions[len(c.editions)-1] }

// Roots is the verified chain of root notes.
func (c *Channel) Roots() *channel.Roots {
	c.t.Helper()
	r, err := channel.ParseRoots(c.id, c.notes)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// Invite names these places.
func (c *Channel) Invite(places channel.Places) *channel.Invite {
	c.t.Helper()
	inv := &channel.Invite{Channel: c.id, Seed: c.Seed, IPNS: public(c.ipns), Places: places}
	if err := inv.Validate(); err != nil {
		c.t.Fatal(err)
	}
	return inv
}

// SealGrant makes a grant of this channel for another batch, or again for Seed.
func (c *Channel) SealGrant(seed channel.Seed) []byte {
	c.t.Helper()
	g, err := channel.SealGrant(channel.Grant{Channel: c.id, Serial: c.Serial, Epochs: c.Epochs, Places: c.Places}, seed, c.note.Log.Generation, c.log, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

// Publish packs and signs the next edition.
func (c *Channel) Publish(articles ...bundle.Article) *Edition {
	c.t.Helper()
	n := uint64(len(c.tree.Leaves()))
	stranger := channel.Seed(sha256.Sum256([]byte("nobody's batch")))
	in := bundle.Input{
		Channel: c.id, Name: c.name, Langs: []string{"en", "ru", "fa", "zh"}, Edition: n, Epoch: c.Epoch, Key: c.Key,
		RootVersion: c.note.Version, Date: Start.Add(time.Duration(n) * time.Hour), Articles: articles, Gone: slices.Clone(c.Gone),
		Leaves: c.tree.Leaves(), RootNotes: c.notes,
		Grants: map[string][]byte{c.GrantName(): c.SealGrant(c.Seed), stranger.GrantName(c.id): c.SealGrant(stranger)},
	}
	if n > 0 && len(c.editions) > 0 {
		last := c.Newest()
		in.Previous, in.PreviousLeaf = last.Packed.Front, &last.Packed.Leaf
		in.DictFile = last.dictFile()
	}
	in.Dict = c.Dict
	packed, err := bundle.Pack(in)
	if err != nil {
		c.t.Fatal(err)
	}
	head, err := channel.SignHead(packed.Leaf, c.tree.Edge(), c.note.Log.Generation, in.Date.Add(time.Minute), c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	c.tree.Append(packed.Leaf.Hash())
	e := &Edition{Head: head, Packed: packed, Articles: articles, Notes: c.notes, Grants: in.Grants, t: c.t, key: c.Key}
	c.editions = append(c.editions, e)
	return e
}

// Idle lets n editions pass of which nothing is left but their leaves in the log: for
// readers who were away for so long that nobody holds what they have missed.
func (c *Channel) Idle(n int) {
	c.t.Helper()
	if len(c.editions) == 0 {
		c.t.Fatal("an idle channel begins with an edition")
	}
	for range n {
		c.tree.Append(channel.Hash(sha256.Sum256(fmt.Append(nil, c.name, " idle ", len(c.tree.Leaves())))))
	}
}

// Heartbeat is the newest edition with its head signed again, that much later.
func (c *Channel) Heartbeat(later time.Duration) *Edition {
	c.t.Helper()
	e := *c.Newest()
	head, err := channel.SignHead(e.Packed.Leaf, e.Head.Path, c.note.Log.Generation, e.Head.Time.Add(later), c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	e.Head = head
	return &e
}

// Blocks are the edition's blocks by CID.
func (e *Edition) Blocks() map[cid.Cid][]byte {
	m := make(map[cid.Cid][]byte, len(e.Packed.Blocks))
	for _, b := range e.Packed.Blocks {
		m[b.CID] = b.Data
	}
	return m
}

// Volume opens the edition.
func (e *Edition) Volume() *bundle.Volume {
	blocks := e.Blocks()
	return &bundle.Volume{
		Channel: e.Head.Channel, Edition: e.Head.Edition, Root: e.Head.Root, Key: e.key, Dict: e.Packed.Front.Dict,
		Get: func(c cid.Cid) ([]byte, error) {
			if b, ok := blocks[c]; ok {
				return b, nil
			}
			return nil, bundle.ErrMissing
		},
	}
}

// Wants are all blocks of the edition, as an engine asks for them; only those
// of the given layers, if any are given.
func (e *Edition) Wants(layers ...string) []transport.Want {
	e.t.Helper()
	var ws []transport.Want
	err := e.Volume().Walk(func(w bundle.Want, b []byte) error {
		w.Size = len(b)
		if len(layers) == 0 || slices.Contains(layers, w.Layer) {
			ws = append(ws, w)
		}
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return ws
}

// dictFile is the edition's dictionary as a later one may use it again, nil if it has none.
func (e *Edition) dictFile() *bundle.DictFile {
	d := e.Packed.Front.Dict
	if d == nil {
		return nil
	}
	var out bytes.Buffer
	if _, err := e.Volume().Copy(&out, bundle.LayerDict); err != nil {
		e.t.Fatal(err)
	}
	return &bundle.DictFile{Edition: d.Edition, Epoch: e.Head.Epoch, File: out.Bytes()}
}

// Where is the edition as transports are told about it.
func (e *Edition) Where() transport.Edition {
	e.t.Helper()
	ed := transport.Edition{
		Channel: e.Head.Channel, Number: e.Head.Edition, Root: e.Head.Root,
		Names: map[string]record.Names{bundle.LayerFront: e.Head.Front},
	}
	add := func(layer string, n *bundle.Names) {
		if n == nil {
			return
		}
		names, err := n.Record()
		if err != nil {
			e.t.Fatal(err)
		}
		ed.Names[layer] = names
	}
	if f := e.Packed.Front; f.Text != nil {
		add(bundle.LayerText, f.Text.Names)
	}
	if f := e.Packed.Front; f.Dict != nil {
		add(bundle.LayerDict, f.Dict.Names)
	}
	add(bundle.LayerLog, e.Packed.Front.Log)
	return ed
}

// CAR is the edition as it travels.
func (e *Edition) CAR() []byte {
	e.t.Helper()
	var out bytes.Buffer
	w, err := car.NewEdition(&out, car.Intro{RootNotes: e.Notes, Head: e.Head.Text(), Root: e.Head.Root})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, b := range e.Packed.Blocks {
		if err := w.Put(b.CID, b.Data); err != nil {
			e.t.Fatal(err)
		}
	}
	return out.Bytes()
}

// Source is the same for a transport.Publisher.
func (e *Edition) Source() transport.Source {
	b := e.CAR()
	return transport.Source{Channel: e.Head.Channel, Edition: e.Head.Edition, CAR: bytes.NewReader(b), Size: int64(len(b))}
}

// Noise is n bytes that no compressor shortens, the same for the same seed.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 'n'})
	_, _ = r.Read(b) // never fails
	return b
}
