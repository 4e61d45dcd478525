package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// editionInfo is where an edition lies and what opens it: enough to read any of
// its articles later, when its front page is long replaced.
type editionInfo struct {
	Number uint64 `json:"n"`
	Epoch  uint64 `json:"epoch"`
	Root   string `json:"root"`
	// By is the edition that said so first, which may be a thief's: his Root is not to
	// be kept. 0 also if it was stored before this was noted.
	By uint64 `json:"by,omitempty"`
	// At names its directory in DNS, without which its texts are not found there.
	At        *bundle.Names     `json:"at,omitempty"`
	Text      *bundle.Names     `json:"text,omitempty"`
	Dict      *bundle.Dict      `json:"dict,omitempty"`
	Prologues map[string][]byte `json:"prologues,omitempty"`
	// Front: its front page was taken in. Images: all its pictures are here.
	Front  bool `json:"front,omitempty"`
	Images bool `json:"images,omitempty"`
}

// keepEditions bounds how many are remembered: the note that holds them is
// small (library.MaxNote).
const keepEditions = 200

// keepPrologues bounds for how many prologues are kept as well: they spare one
// block an article, and are most of the note.
const keepPrologues = 20

func editionsKey(ch channel.ID) string { return ch.String() + "/editions" }

// loadEditions returns what is known, by edition number.
func loadEditions(ctx context.Context, lib Library, ch channel.ID) (map[uint64]editionInfo, error) {
	known := map[uint64]editionInfo{}
	b, err := lib.Note(ctx, editionsKey(ch))
	if errors.Is(err, transport.ErrNotFound) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &known); err != nil {
		return nil, fmt.Errorf("stored editions: %w", err)
	}
	return known, nil
}

// saveEditions adds what the newest front page says about its own edition and
// older ones.
func saveEditions(ctx context.Context, lib Library, ch channel.ID, h *channel.Head, f *bundle.Front) error {
	known, err := loadEditions(ctx, lib, ch)
	if err != nil {
		return err
	}
	for _, p := range f.Past {
		if _, ok := known[p.Edition]; !ok {
			known[p.Edition] = editionInfo{Number: p.Edition, Epoch: p.Epoch, Root: p.Root, By: h.Edition, At: p.Front, Text: p.Text, Dict: p.Dict}
		}
	}
	own := editionInfo{Number: h.Edition, Epoch: h.Epoch, Root: h.Root.String()}
	if old, ok := known[h.Edition]; ok && old.Root == own.Root {
		own = old
	}
	own.By = h.Edition
	known[h.Edition] = own.with(f)
	return storeEditions(ctx, lib, ch, known)
}

// saveEdition replaces what is known of one edition; f, if not nil, is its front
// page.
func saveEdition(ctx context.Context, lib Library, ch channel.ID, info editionInfo, f *bundle.Front) error {
	known, err := loadEditions(ctx, lib, ch)
	if err != nil {
		return err
	}
	if f != nil {
		info = info.with(f)
	}
	known[info.Number] = info
	return storeEditions(ctx, lib, ch, known)
}

// with adds what the edition's own front page says.
func (e editionInfo) with(f *bundle.Front) editionInfo {
	e.Front, e.Prologues, e.Dict = true, map[string][]byte{}, f.Dict
	if f.Text != nil {
		e.Text, e.Prologues[bundle.LayerText] = f.Text.Names, f.Text.Prologue
	}
	if f.Media != nil {
		e.Prologues[bundle.LayerMedia] = f.Media.Prologue
	}
	return e
}

func storeEditions(ctx context.Context, lib Library, ch channel.ID, known map[uint64]editionInfo) error {
	numbers := slices.Sorted(maps.Keys(known))
	for _, n := range numbers[:max(0, len(numbers)-keepEditions)] {
		delete(known, n)
	}
	for _, n := range numbers[:max(0, len(numbers)-keepPrologues)] {
		if e, ok := known[n]; ok {
			e.Prologues = nil
			known[n] = e
		}
	}
	b, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return lib.SetNote(ctx, editionsKey(ch), b)
}

// volume opens the edition; Get is left to the caller.
func (e editionInfo) volume(view *channel.View) (*bundle.Volume, error) {
	key, ok := view.EpochKey(e.Epoch)
	if !ok {
		return nil, fmt.Errorf("edition %d: %w", e.Number, ErrNoKey)
	}
	root, err := cid.Decode(e.Root)
	if err != nil {
		return nil, fmt.Errorf("edition %d: %w", e.Number, err)
	}
	return &bundle.Volume{Channel: view.Channel(), Edition: e.Number, Root: root, Key: key, Prologues: e.Prologues, Dict: e.Dict}, nil
}

// edition is the same for transports.
func (e editionInfo) edition(ch channel.ID) transport.Edition {
	root, err := cid.Decode(e.Root)
	if err != nil {
		root = cid.Undef
	}
	ed := transport.Edition{Channel: ch, Number: e.Number, Root: root, Names: map[string]record.Names{}}
	names := map[string]*bundle.Names{bundle.LayerFront: e.At, bundle.LayerText: e.Text}
	if e.Dict != nil {
		names[bundle.LayerDict] = e.Dict.Names
	}
	for layer, n := range names {
		if n == nil {
			continue
		}
		if r, err := n.Record(); err == nil {
			ed.Names[layer] = r
		}
	}
	return ed
}

// volume reads an edition from the library.
func (s *session) volume(ctx context.Context, e editionInfo) (*bundle.Volume, error) {
	v, err := e.volume(s.view)
	if err != nil {
		return nil, err
	}
	v.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
	v.Holds = func(cs []cid.Cid) ([]bool, error) { return s.Library.Has(ctx, cs...) }
	return v, nil
}

// getBlock is Volume.Get over a library.
func getBlock(ctx context.Context, lib Library, c cid.Cid) ([]byte, error) {
	b, err := lib.Block(ctx, c)
	if errors.Is(err, transport.ErrNotFound) {
		return nil, bundle.ErrMissing
	}
	return b, err
}
