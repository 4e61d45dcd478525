package reader

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// ErrForeign: a file holds nothing of the channels that this reader follows.
var ErrForeign = errors.New("the file is of a channel that you have no invite for")

// ErrPartly: a file is damaged; what stood before the damage was taken in.
var ErrPartly = errors.New("only a part could be taken in; ask for the file again")

// Import takes in a CAR file or a folder of them, for every channel followed
// that it holds news of. It uses no network.
func (r *Reader) Import(ctx context.Context, name string, each func(channel.ID, *newsync.Result)) error {
	src, err := file.Open(name)
	if err != nil {
		return err
	}
	followed, err := r.lib.Channels(ctx)
	if err != nil {
		return err
	}
	if len(followed) == 0 {
		return ErrNoChannel
	}
	found := false
	for _, ch := range followed {
		if _, err := src.Head(ctx, ch, 0); err != nil {
			continue
		}
		found = true
		only, err := r.fileOnly(ctx, ch, src)
		if err != nil {
			return err
		}
		res, err := r.fromFile(ctx, ch, only)
		if errors.Is(err, newsync.ErrIncomplete) {
			err = nil // the file is what it is; Damage says if it should hold more
		}
		if err != nil {
			return errors.Join(err, src.Damage())
		}
		if each != nil {
			each(ch, res)
		}
	}
	if !found {
		return errors.Join(ErrForeign, src.Damage())
	}
	if err := src.Damage(); err != nil {
		return fmt.Errorf("%w: %w", ErrPartly, err)
	}
	return nil
}

// fileOnly is the one path of an import that can be used. The others are there by
// name alone, so that what was learned of them is kept.
type fileOnly struct{ paths []transport.Path }

var _ newsync.Ways = fileOnly{}

func (r *Reader) fileOnly(ctx context.Context, ch channel.ID, src *file.Source) (fileOnly, error) {
	only := fileOnly{[]transport.Path{src.Path("file")}}
	reports, err := newsync.Reports(ctx, r.lib, ch)
	for _, p := range reports {
		if p.Name != only.paths[0].Name {
			only.paths = append(only.paths, transport.Path{Name: p.Name, Kind: p.Kind})
		}
	}
	return only, err
}

// Paths implements sync.Ways.
func (f fileOnly) Paths(channel.ID, ed25519.PublicKey, channel.Places) []transport.Path {
	return f.paths
}

// Export writes what the reader holds of a channel's newest edition, and of the
// older ones that its headlines lie in, as one CAR file, whole or not at all,
// for somebody with an invite of their own. It says how many blocks were not
// here (images that were not fetched, say).
func (r *Reader) Export(ctx context.Context, ch channel.ID, name string) (missing int, err error) {
	view, vols, err := r.Shelf().Editions(ctx, ch)
	if err != nil {
		return 0, err
	}
	h := view.Head()
	err = durable.WriteFile(name, 0o600, func(w io.Writer) error {
		out, err := car.NewEdition(w, car.Intro{RootNotes: view.Roots().Notes(), Head: h.Text(), Root: h.Root})
		if err != nil {
			return err
		}
		for i, vol := range vols {
			err := vol.Walk(func(w bundle.Want, data []byte) error { return out.Put(w.CID, data) })
			var m *bundle.MissingError
			if errors.As(err, &m) {
				missing += countNeeded(m.Wants, i == 0)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return missing, err
}

// countNeeded counts wants that a reader of the file would miss: of an older
// edition only its articles.
func countNeeded(wants []bundle.Want, newest bool) (n int) {
	for _, w := range wants {
		if newest || w.Layer == bundle.LayerDirectory || w.Layer == bundle.LayerFront || w.Layer == bundle.LayerText || w.Layer == bundle.LayerMedia {
			n++
		}
	}
	return n
}

// proof is what Proof writes.
type proof struct {
	V       int        `json:"v"`
	Channel channel.ID `json:"channel"`
	// RootNotes lead from the channel's ID to the keys that signed the heads.
	RootNotes []string    `json:"root_notes"`
	Forks     []forkProof `json:"forks"`
}

type forkProof struct {
	Ours   string `json:"ours"`
	Theirs string `json:"theirs"`
}

// ErrNoProof: there is nothing to prove.
var ErrNoProof = errors.New("there is nothing to prove: nobody showed this device two histories of this channel")

// Proof writes what shows anybody that two histories of a channel were signed
// with its keys, whole or not at all: the root notes and each pair of
// contradicting heads, as text in one JSON file. It says how many pairs. The file
// names the channel's ID and holds nothing of the reader's invite.
func (r *Reader) Proof(ctx context.Context, ch channel.ID, name string) (int, error) {
	view, err := newsync.View(ctx, r.lib, ch)
	if err != nil {
		return 0, err
	}
	p := proof{V: 1, Channel: ch}
	for _, e := range view.Evidence() {
		p.Forks = append(p.Forks, forkProof{string(e.Ours), string(e.Theirs)})
	}
	if len(p.Forks) == 0 {
		return 0, ErrNoProof
	}
	for _, n := range view.Roots().Notes() {
		p.RootNotes = append(p.RootNotes, string(n))
	}
	return len(p.Forks), durable.WriteFile(name, 0o600, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	})
}
