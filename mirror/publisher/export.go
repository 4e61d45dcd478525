package publisher

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/internal/durable"
	"tamizdat/transport/file"
)

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
