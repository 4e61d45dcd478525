package dns

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

func TestEverythingComes(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	ctx := testContext(t)
	w.heads(ctx, c)
	w.fetchAll(ctx, c)
	if n := w.nw.tcp.Load(); n != 0 {
		t.Errorf("%d TCP connections, want none: all fits UDP", n)
	}
}

func TestHeadOnlyIfNewer(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	ctx := testContext(t)
	if _, err := c.Head(ctx, w.ch, 1); !errors.Is(err, transport.ErrNoNewer) {
		t.Errorf("have 1 of 1: %v", err)
	}
	w.publish(1, random("directory 2", 900), random("front 2", 4096))
	if raw, err := c.Head(ctx, w.ch, 1); err != nil || !bytes.Equal(raw, w.head.Compact()) {
		t.Errorf("have 1 of 2: %v", err)
	}
}

func TestNotFound(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	ctx := testContext(t)
	other := w.ch
	other[0] ^= 1
	if _, err := c.Head(ctx, other, 0); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("head of another channel: %v", err)
	}
	if _, err := c.RootNote(ctx, w.ch, 2); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("root note 2: %v", err)
	}
	for _, name := range []string{"", "x", "../../etc", w.grant[:25] + "a"} {
		if name == w.grant {
			continue
		}
		if _, err := c.Grant(ctx, w.ch, name); !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("grant %q: %v", name, err)
		}
	}
	good := wantOf(bundle.LayerText, w.e.Text[1].Data, false, 0)
	bad := []transport.Want{
		wantOf(bundle.LayerMedia, []byte("a picture"), false, 0),
		wantOf(bundle.LayerText, w.e.Text[1].Data, false, 12345),
		wantOf(bundle.LayerText, w.e.Text[1].Data, false, firstBlock+5*nextBlock),
		wantOf(bundle.LayerText, w.e.Text[1].Data, false, -1),
		wantOf(bundle.LayerRoot, []byte("folder"), true, 0),
	}
	found := 0
	for b, err := range c.Fetch(ctx, transport.Request{Edition: w.edition(), Wants: append(bad, good)}) {
		var we *transport.WantError
		switch {
		case errors.As(err, &we):
			if !errors.Is(err, transport.ErrNotFound) {
				t.Errorf("%v", err)
			}
		case err != nil:
			t.Fatal(err)
		case !b.CID.Equals(good.CID):
			t.Errorf("unexpected block")
		default:
			found++
		}
	}
	if found != 1 {
		t.Errorf("the good want came %d times", found)
	}
}

// An opening holds everything down to the front page, in the promised order,
// and each piece is the published one.
func TestOpen(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	var kinds []transport.PieceKind
	for p, err := range c.Open(testContext(t), transport.Ask{Channel: w.ch, Grant: w.grant}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, p.Kind)
		want := map[int][]byte{1: w.note, 2: w.head.Compact(), 3: w.e.Grants[w.grant].Data, 4: w.e.Front[0].Data, 5: w.e.Front[1].Data}[len(kinds)]
		if !bytes.Equal(p.Data, want) {
			t.Errorf("piece %d is not what was published", len(kinds))
		}
		if p.Kind == transport.PieceBlock && bundle.CheckBlock(p.CID, p.Data) != nil {
			t.Errorf("piece %d has the wrong CID", len(kinds))
		}
	}
	if len(kinds) != 5 || kinds[0] != transport.PieceRootNote || kinds[2] != transport.PieceGrant || kinds[4] != transport.PieceBlock {
		t.Errorf("kinds %v", kinds)
	}
	// Who has that head hears that there is nothing newer, and nothing else.
	for p, err := range c.Open(testContext(t), transport.Ask{Channel: w.ch, Have: 1, Root: 1}) {
		if !errors.Is(err, transport.ErrNoNewer) {
			t.Errorf("kind %d, %v", p.Kind, err)
		}
	}
}

func TestOpenLongFront(t *testing.T) {
	w := newWorld(t)
	w.publish(1, random("dir", 1500), random("node", 150), random("f0", firstBlock), random("f1", 5000))
	w.serve()
	c := w.client()
	blocks := 0
	for p, err := range c.Open(testContext(t), transport.Ask{Channel: w.ch, Root: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if p.Kind == transport.PieceRootNote {
			t.Error("a root note that the asker has")
		}
		if p.Kind == transport.PieceBlock {
			if !bytes.Equal(p.Data, w.e.Front[blocks].Data) || bundle.CheckBlock(p.CID, p.Data) != nil {
				t.Errorf("block %d", blocks)
			}
			blocks++
		}
	}
	if blocks != 4 {
		t.Errorf("%d blocks", blocks)
	}
}

// Index records are fetched once for all blocks; leaves once each.
func TestNothingTwice(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	w.fetchAll(testContext(t), c)
	seen := map[string]bool{}
	for p, err := range w.e.records() {
		if err != nil {
			t.Fatal(err)
		}
		if p.label == "" && p.bytes[0]&16 == 0 {
			seen[string(p.name[:])] = true
		}
	}
	const grantLeaves = 4 // nobody fetches those here
	if got, want := w.stats.records.Load(), int64(len(seen)-grantLeaves); got > want+want/20 {
		t.Errorf("%d queries for %d records", got, want)
	}
}

func TestFetchStops(t *testing.T) {
	w := newWorld(t).serve()
	c := w.client()
	wants, _ := w.allWants()
	for range c.Fetch(testContext(t), transport.Request{Edition: w.edition(), Wants: wants}) {
		break
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	n := 0
	for _, err := range c.Fetch(ctx, transport.Request{Edition: w.edition(), Wants: wants}) {
		if n++; n > 1 || !errors.Is(err, context.Canceled) {
			t.Fatalf("yield %d: %v", n, err)
		}
	}
}

func TestClientConfig(t *testing.T) {
	for _, cfg := range []ClientConfig{
		{},
		{Network: &loopback{}, Zone: "ok.test"},
		{Network: &loopback{}, Zone: "bad zone", Resolvers: []string{"127.0.0.1:53"}},
		{Network: &loopback{}, Zone: "this-zone-name-is-longer-than-thirty.three", Resolvers: []string{"127.0.0.1:53"}},
	} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
}

// The longest names that are asked for are as long as FORMAT.md says (section 12.3),
// and get past resolvers that drop those of more than 72 characters.
func TestLongestNames(t *testing.T) {
	w := newWorld(t)
	for zone, want := range map[int]struct{ record, large, small int }{30: {57, 66, 68}, maxName - 27: {maxName, 69, 71}} {
		c, err := NewClient(ClientConfig{Network: w.nw, Zone: strings.Repeat("z", zone), Resolvers: []string{"192.0.2.1"}})
		if err != nil {
			t.Fatal(err)
		}
		length := func(label string) int { return len(label) + 1 + len(c.zone) }
		for _, label := range []string{w.ch.RootLabel(1), w.grant} {
			plain, large, small := length(label), length(c.fresh(label, true)), length(c.fresh(smallLabel(label), true))
			if plain != want.record || large != want.large || small != want.small || small > 72 {
				t.Errorf("a zone of %d: %d, %d and %d characters", zone, plain, large, small)
			}
		}
		if n := length(c.fresh(partLabel(w.ch.Label(), record.MaxParts-1), true)); n >= want.record {
			t.Errorf("a zone of %d: a part of a head has %d characters", zone, n)
		}
	}
}
