package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// packed is a real edition as its CAR, with text of several blocks and a log.
func packed(t *testing.T, w *world) (file []byte, p *bundle.Packed, head *channel.Head) {
	t.Helper()
	in := bundle.Input{
		Channel: w.ch, Name: "Test", Edition: 1, RootVersion: 1, Date: time.Unix(1e9, 0),
		Leaves: []channel.Hash{{1}}, RootNotes: [][]byte{w.note},
		Grants:   map[string][]byte{w.grant: random("grant", channel.GrantSmall)},
		Previous: &bundle.Front{V: 1, Channel: w.ch, Date: time.Unix(9e8, 0).UTC()},
	}
	in.PreviousLeaf = &channel.Leaf{Channel: w.ch, RootVersion: 1, Root: w.head.Root, Date: time.Unix(9e8, 0).UTC()}
	for i := range 3 {
		in.Articles = append(in.Articles, bundle.Article{
			ID: fmt.Sprintf("%016x", i), Title: fmt.Sprint("Story ", i), Lang: "en", Dir: "ltr", Date: time.Unix(1e9, 0).UTC(),
			Body: fmt.Sprintf("<p>%x</p>", random(fmt.Sprint("body", i), 60000)),
		})
	}
	bulletins := func(from int) (out []bundle.Article) { // enough for a dictionary to pay
		for i := from; i < from+40; i++ {
			out = append(out, bundle.Article{
				ID: fmt.Sprintf("%016x", i), Title: fmt.Sprint("Bulletin ", i), Lang: "en", Dir: "ltr", Date: time.Unix(9e8, 0).UTC(),
				Body: fmt.Sprintf("<p>The council of the town met for the %d. time and spoke about the bridge, the ferry and the market.</p>", i),
			})
		}
		return out
	}
	d, err := bundle.TrainDictionary(bulletins(100), 4<<10)
	if err != nil {
		t.Fatal(err)
	}
	in.Dict, in.Articles = d, append(in.Articles, bulletins(10)...)
	p, err = bundle.Pack(in)
	if err != nil {
		t.Fatal(err)
	}
	head, err = channel.SignHead(p.Leaf, []channel.Hash{{1}}, 0, time.Unix(1e9, 0), w.keys[1])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cw, err := car.NewEdition(&out, car.Intro{RootNotes: in.RootNotes, Head: head.Text(), Root: p.Leaf.Root})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Blocks {
		if err := cw.Put(b.CID, b.Data); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes(), p, head
}

// carStore is what a relay does: a CAR and its index.
type carStore struct {
	x    *Index
	file *bytes.Reader
}

func (s carStore) Record(_ context.Context, name record.Name) ([]byte, error) {
	return s.x.Record(s.file, name)
}

func (s carStore) Named(_ context.Context, label string) ([]byte, error) {
	if rec, ok := s.x.Named(label); ok {
		return rec, nil
	}
	return nil, transport.ErrNotFound
}

// From a packed edition's CAR, through index, server and client, every block
// comes back that DNS carries: found by the names that the edition itself gives.
func TestEditionFromCAR(t *testing.T) {
	w := newWorld(t)
	file, p, head := packed(t, w)
	e, err := ReadEdition(bytes.NewReader(file), w.ch, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if e.Names()["front"] != p.Leaf.Front {
		t.Error("the names of front are not those that the leaf signs")
	}
	x, err := NewIndex(e)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: carStore{x, bytes.NewReader(file)}})
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(start(t, w.nw, srv))
	ctx := testContext(t)

	held := map[string][]byte{}
	n := 0
	for piece, err := range c.Open(ctx, transport.Ask{Channel: w.ch, Grant: w.grant}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; piece.Kind == transport.PieceBlock {
			if err := bundle.CheckBlock(piece.CID, piece.Data); err != nil {
				t.Error(err)
			}
			held[piece.CID.KeyString()] = piece.Data
		}
		if piece.Kind == transport.PieceHead && !bytes.Equal(piece.Data, head.Compact()) {
			t.Error("another head")
		}
	}
	if n < 5 {
		t.Errorf("opening of %d pieces", n)
	}
	// Now as the engine does: ask for what a Volume misses until it is whole.
	v := &bundle.Volume{Channel: w.ch, Edition: 1, Root: p.Leaf.Root, Get: func(id cid.Cid) ([]byte, error) {
		if b, ok := held[id.KeyString()]; ok {
			return b, nil
		}
		return nil, bundle.ErrMissing
	}}
	front, err := v.Front()
	if err != nil {
		t.Fatal(err)
	}
	// The names as the edition itself gives them.
	names := map[string]record.Names{"front": p.Leaf.Front}
	if names["text"], err = front.Text.Names.Record(); err != nil {
		t.Fatal(err)
	}
	if names["log"], err = front.Log.Record(); err != nil {
		t.Fatal(err)
	}
	if names["dict"], err = front.Dict.Names.Record(); err != nil {
		t.Fatal(err)
	}
	v.Dict = front.Dict
	rounds := 0
	for _, layer := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerDict, bundle.LayerLog} {
		for {
			wants, err := v.Missing(layer)
			var m *bundle.MissingError
			if errors.As(err, &m) {
				wants = m.Wants
			} else if err != nil {
				t.Fatal(err)
			}
			if len(wants) == 0 {
				break
			}
			if rounds++; rounds > 10 {
				t.Fatal("never whole")
			}
			for b, err := range c.Fetch(ctx, transport.Request{Edition: transport.Edition{Channel: w.ch, Number: 1, Root: p.Leaf.Root, Names: names}, Wants: wants}) {
				if err != nil {
					t.Fatal(err)
				}
				if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
					t.Fatal(err)
				}
				held[b.CID.KeyString()] = b.Data
			}
		}
	}
	if a, err := v.Article(&front.Articles[0]); err != nil || a.Title == "" {
		t.Errorf("article: %v", err)
	}
	// The index yields what the edition has, for a zone file.
	entries := 0
	for entry, err := range x.All(bytes.NewReader(file)) {
		if err != nil {
			t.Fatal(err)
		}
		if entries++; !entry.Named && record.NameOf(entry.Data).Label() != entry.Label {
			t.Fatal("a record under a wrong name")
		}
	}
	if entries != x.Len() {
		t.Errorf("%d entries, Len says %d", entries, x.Len())
	}
}

func TestReadEditionRefuses(t *testing.T) {
	w := newWorld(t)
	file, _, _ := packed(t, w)
	if _, err := ReadEdition(bytes.NewReader(file[:len(file)-10]), w.ch, 64<<20); !errors.Is(err, car.ErrTorn) {
		t.Errorf("torn: %v", err)
	}
	if _, err := ReadEdition(bytes.NewReader(file), w.ch, 100<<10); !errors.Is(err, ErrFull) {
		t.Errorf("over the limit: %v", err)
	}
	other := w.ch
	other[3] ^= 1
	if _, err := ReadEdition(bytes.NewReader(file), other, 64<<20); err == nil {
		t.Error("another channel's edition")
	}
}
