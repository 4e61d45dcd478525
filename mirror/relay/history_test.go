package relay

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// refused pushes an edition that must not get in, with a reason of one line.
func refused(t *testing.T, r *Relay, s *sheet, reason string) {
	t.Helper()
	before, _ := r.store.Head(s.head.Channel)
	err := pusher(t, r.cfg.Network, target(t, r, s.head.Channel)).Publish(t.Context(), s.source(), nil)
	if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want a refusal that says %q", err, reason)
	}
	if after, _ := r.store.Head(s.head.Channel); after != before {
		t.Error("it took the place of the edition that was held")
	}
}

func TestCopiedFolderDoesNotReplaceHistory(t *testing.T) {
	const copied = "was the publisher's folder copied?"
	p := newPress(t, "copied")
	first := p.edition(t, 0)
	second := p.edition(t, 0)
	// The same folder on another machine, copied after the first edition.
	other := *p
	other.tree = channel.NewLog(append([]channel.Hash(nil), p.tree.Leaves()[:1]...))
	other.front, other.leaf = first.packed.Front, &first.packed.Leaf
	other.edition(t, 77)
	third := other.edition(t, 200_000)
	fourth := other.edition(t, 0)

	r := start(t, Config{})
	push(t, r, first)
	push(t, r, second)
	refused(t, r, third, copied)
	refused(t, r, fourth, copied) // not next in number
	// The copy that was first goes on, also past editions this relay never saw.
	push(t, r, p.edition(t, 0))
	p.edition(t, 0)
	push(t, r, p.edition(t, 0))
	if h, _ := r.store.Head(p.ch); h.Edition != 4 {
		t.Errorf("edition %d is held", h.Edition)
	}
	refused(t, r, other.sign(t, second.packed, channelEdge(p, 1), time.Unix(1_900_000_000, 0)), "older")

	// Another relay, which holds the first edition only, takes either.
	r = start(t, Config{})
	push(t, r, first)
	push(t, r, third)
	refused(t, r, p.edition(t, 0), copied)
}

func TestLogMustBeTheHeads(t *testing.T) {
	p := newPress(t, "log")
	for range 3 {
		p.edition(t, 0)
	}
	pack := func(leaves []channel.Hash) *bundle.Packed {
		n := uint64(len(leaves))
		packed, err := bundle.Pack(bundle.Input{
			Channel: p.ch, Name: "River", Langs: []string{"en"}, Edition: n, Key: channel.EpochKey{1}, RootVersion: 1,
			Date: time.Unix(1_700_009_000, 0), Previous: p.front, PreviousLeaf: p.leaf, Leaves: leaves, RootNotes: p.notes,
			Grants: map[string][]byte{p.batch.GrantName(p.ch): noise(99, 4096)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	leaves := append([]channel.Hash(nil), p.tree.Leaves()...)
	leaves[1] = sha256.Sum256([]byte("something else"))
	r := start(t, Config{})
	refused(t, r, p.sign(t, pack(leaves), p.tree.Edge(), time.Unix(1_800_000_000, 0)), "log")
	push(t, r, p.sign(t, pack(p.tree.Leaves()), p.tree.Edge(), time.Unix(1_800_000_000, 0)))
}
