package reader

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/mirror/library"
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
		held := map[cid.Cid]bool{} // editions share blocks: those of a dictionary, for one
		for i, vol := range vols {
			err := vol.Walk(func(w bundle.Want, data []byte) error {
				if held[w.CID] {
					return nil
				}
				held[w.CID] = true
				return out.Put(w.CID, data)
			})
			var m *bundle.MissingError
			if errors.As(err, &m) {
				n, err := r.countNeeded(ctx, vol, m.Wants, i == 0)
				if err != nil {
					return err
				}
				missing += n
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return missing, err
}

// PassphrasesFile is what ExportLayers writes passphrases to: a line for each layer,
// the file's name and what opens it.
const PassphrasesFile = "passphrases.txt"

// ErrExportDir: there is something already where a folder is to be made.
var ErrExportDir = errors.New("there is something of that name already; name a folder that does not exist")

// layers are those that hold something to read, in the order in which they are read.
var layers = []string{bundle.LayerDict, bundle.LayerFront, bundle.LayerText, bundle.LayerMedia}

// ExportLayers makes the folder dir, whole or not at all, with each layer of the
// editions that Export would write as the age file that it is, EDITION/LAYER.age,
// and their passphrases in PassphrasesFile, so that age, zstd and tar open the news
// without this program. It says how many files, and how many layers were left out
// since not all of them was here. Whoever gets the folder can read it; other
// editions don't open with these passphrases.
func (r *Reader) ExportLayers(ctx context.Context, ch channel.ID, dir string) (files, missing int, err error) {
	_, vols, err := r.Shelf().Editions(ctx, ch)
	if err != nil {
		return 0, 0, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return 0, 0, ErrExportDir
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(part) // what could not be written may not be removable either
		}
	}()
	var passphrases []byte
	for _, vol := range vols {
		d, err := vol.Directory()
		if err != nil {
			return 0, 0, err
		}
		edition := strconv.FormatUint(vol.Edition, 10)
		if err := durable.MkdirAll(filepath.Join(part, edition), 0o700); err != nil {
			return 0, 0, err
		}
		for _, layer := range layers {
			if !d.Layers[layer].Defined() {
				continue
			}
			name := edition + "/" + layer + ".age"
			err := durable.WriteFile(filepath.Join(part, filepath.FromSlash(name)), 0o600, func(w io.Writer) error {
				_, err := vol.Copy(w, layer)
				return err
			})
			if errors.As(err, new(*bundle.MissingError)) {
				missing++
				continue
			}
			if err != nil {
				return 0, 0, err
			}
			files++
			made := vol.Edition
			if layer == bundle.LayerDict && vol.Dict != nil {
				made = vol.Dict.Edition // its file may be that of an older edition
			}
			passphrases = fmt.Appendf(passphrases, "%s %s\n", name, bundle.Passphrase(vol.Key, ch, made, layer))
		}
	}
	if err := durable.Write(filepath.Join(part, PassphrasesFile), 0o600, passphrases); err != nil {
		return 0, 0, err
	}
	if err := os.Rename(part, dir); err != nil {
		return 0, 0, err
	}
	return files, missing, durable.SyncDir(filepath.Dir(dir))
}

// countNeeded counts wants that a reader of the file would miss: of an older
// edition only what the articles lie in that are left of it.
func (r *Reader) countNeeded(ctx context.Context, vol *bundle.Volume, wants []bundle.Want, newest bool) (n int, err error) {
	if newest {
		return len(wants), nil
	}
	var texts, images []bundle.Span
	for h, err := range r.lib.Headlines(ctx, library.Query{Channel: vol.Channel}) {
		if err != nil {
			return 0, err
		}
		if h.Edition != vol.Edition {
			continue
		}
		texts = append(texts, h.Entry.Text)
		for _, img := range h.Images {
			images = append(images, img.Span)
		}
	}
	needed := map[cid.Cid]bool{}
	for layer, spans := range map[string][]bundle.Span{bundle.LayerText: texts, bundle.LayerMedia: images} {
		blocks, err := vol.BlocksOf(layer, spans)
		if err != nil { // of a layer that can't even be listed all that is missing counts
			for _, w := range wants {
				needed[w.CID] = needed[w.CID] || w.Layer == layer
			}
		}
		for _, w := range blocks {
			needed[w.CID] = true
		}
	}
	for _, w := range wants {
		if needed[w.CID] || w.Layer == bundle.LayerDirectory || w.Layer == bundle.LayerFront || w.Layer == bundle.LayerDict && len(texts) > 0 {
			n++
		}
	}
	return n, nil
}
