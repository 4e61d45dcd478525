package relay

import (
	"errors"
	"slices"
	"testing"
	"time"

	"tamizdat/transport"
)

// TestHeartbeat: an edition whose head was signed again takes the place of itself, and
// who holds it gets the head alone, once.
func TestHeartbeat(t *testing.T) {
	p := newPress(t, "heartbeat")
	p.edition(t, 0)
	edge := p.tree.Edge()
	s := p.edition(t, 0)
	r := start(t, Config{})
	push(t, r, s)
	beat := p.sign(t, s.packed, edge, s.head.Time.Add(24*time.Hour))
	push(t, r, beat)
	push(t, r, beat)
	if h, _ := r.store.Head(p.ch); !h.Time.Equal(beat.head.Time) || len(r.store.snapshot(p.ch)) != 1 {
		t.Fatalf("a head of %v is held, of %d editions", h.Time, len(r.store.snapshot(p.ch)))
	}
	refused(t, r, s, "a newer head of edition 1 is held")
	for _, path := range paths(t, r.cfg.Network, target(t, r, p.ch).Relay(p.batch)) {
		o, ok := path.Heads.(transport.Opener)
		if !ok {
			continue
		}
		for name, c := range map[string]struct {
			ask    transport.Ask
			pieces []transport.PieceKind
		}{
			"who holds the older head":    {transport.Ask{Have: 2, Signed: s.head.Time, Root: 1}, []transport.PieceKind{transport.PieceHead}},
			"who holds it":                {transport.Ask{Have: 2, Signed: beat.head.Time, Root: 1}, nil},
			"who does not say":            {transport.Ask{Have: 2, Root: 1}, nil},
			"who holds more":              {transport.Ask{Have: 3, Signed: s.head.Time, Root: 1}, nil},
			"who holds fewer, has it all": {transport.Ask{Have: 1, Signed: s.head.Time, Root: 1}, []transport.PieceKind{transport.PieceHead, transport.PieceBlock}},
		} {
			c.ask.Channel = p.ch
			var got []transport.PieceKind
			var last error
			for piece, err := range o.Open(t.Context(), c.ask) {
				if last = err; err == nil && !slices.Contains(got, piece.Kind) {
					got = append(got, piece.Kind)
				}
			}
			if !slices.Equal(got, c.pieces) || (c.pieces == nil) != errors.Is(last, transport.ErrNoNewer) {
				t.Errorf("%s, %s: %v, %v", path.Name, name, got, last)
			}
		}
	}
}
