package relay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// press is a publisher with keys of its own.
type press struct {
	log   ed25519.PrivateKey
	root  ed25519.PrivateKey
	ipns  ed25519.PrivateKey
	notes [][]byte
	ch    channel.ID
	roots *channel.Roots
	tree  *channel.Log
	front *bundle.Front
	leaf  *channel.Leaf
	batch channel.Seed
	// generation of the log key; see rekey.
	generation uint64
}

func keyFrom(s string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(s))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func newPress(t *testing.T, name string) *press {
	t.Helper()
	p := &press{log: keyFrom(name + " log"), root: keyFrom(name + " root"), ipns: keyFrom(name + " ipns"), tree: channel.NewLog(nil), batch: sha256.Sum256([]byte(name + " batch"))}
	n := &channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{public(p.root)},
		Log: channel.LogKey{Key: public(p.log)}, IPNS: public(p.ipns),
	}
	note, err := n.Sign(p.root)
	if err != nil {
		t.Fatal(err)
	}
	p.notes, p.ch = [][]byte{note}, channel.IDOf(n.Text())
	if p.roots, err = channel.ParseRoots(p.ch, p.notes); err != nil {
		t.Fatal(err)
	}
	return p
}

// sheet is one finished edition.
type sheet struct {
	head   *channel.Head
	packed *bundle.Packed
	notes  [][]byte
	car    []byte
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7}).Read(b)
	return b
}

// edition packs the next edition with a picture of that many bytes.
func (p *press) edition(t *testing.T, picture int) *sheet {
	t.Helper()
	return p.article(t, picture, "<p>The bridge stays closed until Thursday.</p>")
}

// article packs the next edition with an article of that text.
func (p *press) article(t *testing.T, picture int, body string) *sheet {
	t.Helper()
	return p.granting(t, picture, body, map[string][]byte{p.batch.GrantName(p.ch): noise(99, 4096), "aaaaaaaaaaaaaaaaaaaaaaaaaa": noise(98, 4096)})
}

// granting is the same with those grants.
func (p *press) granting(t *testing.T, picture int, body string, grants map[string][]byte) *sheet {
	t.Helper()
	n := uint64(len(p.tree.Leaves()))
	a := bundle.Article{
		ID: fmt.Sprintf("%016x", n), Title: fmt.Sprintf("The river rose by %d metres", n), Lead: "Nobody was hurt.",
		Body: body, Lang: "en", Dir: "ltr", Date: time.Unix(1_700_000_000+int64(n), 0).UTC(),
	}
	if picture > 0 {
		a.Images = []bundle.Image{{Type: "image/webp", Alt: "water", Width: 4, Height: 3, Data: noise(n, picture)}}
	}
	packed, err := bundle.Pack(bundle.Input{
		Channel: p.ch, Name: "River", Langs: []string{"en"}, Edition: n, Key: channel.EpochKey{1}, RootVersion: p.roots.Version(),
		Date: time.Unix(1_700_000_100+int64(n), 0), Articles: []bundle.Article{a}, Previous: p.front, PreviousLeaf: p.leaf,
		Leaves: p.tree.Leaves(), RootNotes: p.notes, Grants: grants,
	})
	if err != nil {
		t.Fatal(err)
	}
	edge := p.tree.Edge()
	p.tree.Append(packed.Leaf.Hash())
	p.front, p.leaf = packed.Front, &packed.Leaf
	return p.sign(t, packed, edge, time.Unix(1_700_000_200+int64(n)*10, 0))
}

func (p *press) sign(t *testing.T, packed *bundle.Packed, edge []channel.Hash, at time.Time) *sheet {
	t.Helper()
	head, err := channel.SignHead(packed.Leaf, edge, p.generation, at, p.log)
	if err != nil {
		t.Fatal(err)
	}
	s := &sheet{head: head, packed: packed, notes: p.notes}
	s.car = s.marshal(t, packed.Blocks)
	return s
}

func (s *sheet) marshal(t *testing.T, blocks []bundle.Block) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := car.NewEdition(&out, car.Intro{RootNotes: s.notes, Head: s.head.Text(), Root: s.head.Root})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := w.Put(b.CID, b.Data); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func (s *sheet) source() transport.Source {
	return transport.Source{Channel: s.head.Channel, Edition: s.head.Edition, CAR: bytes.NewReader(s.car), Size: int64(len(s.car))}
}

// start runs a relay on loopback until the test ends.
func start(t *testing.T, cfg Config) *Relay {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Network == nil {
		cfg.Network = &netreal.Network{}
	}
	cfg.Listen = []string{"127.0.0.1:0"}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func target(t *testing.T, r *Relay, ch channel.ID) wire.Target {
	t.Helper()
	tg, err := r.Target(ch)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func pusher(t testing.TB, nw transport.Network, tg wire.Target) *wire.Publisher {
	t.Helper()
	p, err := wire.NewPublisher(nw, tg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func push(t *testing.T, r *Relay, s *sheet) {
	t.Helper()
	if err := pusher(t, &netreal.Network{}, target(t, r, s.head.Channel)).Publish(t.Context(), s.source(), nil); err != nil {
		t.Fatal(err)
	}
}

func paths(t *testing.T, nw transport.Network, relay channel.Relay) []transport.Path {
	t.Helper()
	c, err := wire.New(wire.Config{Network: nw, Relay: relay})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.Paths()
}

// channelEdge is the edge of the tree of p's first n leaves.
func channelEdge(p *press, n int) []channel.Hash {
	return channel.NewLog(p.tree.Leaves()[:n]).Edge()
}
