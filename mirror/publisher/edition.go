package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// edition is editions/N.json.
type edition struct {
	Leaf  []byte        `json:"leaf"`
	Front *bundle.Front `json:"front"`
	// Packed are the fingerprints of the articles packed into it, by ID.
	Packed map[string][]byte `json:"packed"`
	Sizes  map[string]int64  `json:"sizes"`
	// Hash and Generation stand for Leaf and head where only the log knows of it: then
	// it has no .car, and no Front either unless that could be had.
	Hash       []byte `json:"hash,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	leaf       channel.Leaf
	hash       channel.Hash
	generation uint64 // of the log key that signed its head
}

// hollow reports whether there is nothing of it to hand on.
func (e *edition) hollow() bool { return len(e.Hash) > 0 }

// loadEditions reads editions in order and checks that none is missing.
func (p *Publisher) loadEditions() error {
	for n := uint64(0); ; n++ {
		e, err := p.loadEdition(n)
		if err != nil {
			return err
		}
		if e == nil {
			return p.noGap(n)
		}
		p.editions = append(p.editions, *e)
	}
}

// loadEdition reads edition n, nil if there is none.
func (p *Publisher) loadEdition(n uint64) (*edition, error) {
	damaged := fmt.Errorf("editions/%d.json is damaged; restore it from a backup", n)
	_, err := os.Stat(p.carName(n))
	whole := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	b, err := os.ReadFile(p.jsonName(n))
	switch {
	case errors.Is(err, os.ErrNotExist) && !whole:
		return nil, nil
	case err != nil:
		return nil, err
	}
	var e edition
	if err := json.Unmarshal(b, &e); err != nil {
		if !whole {
			return nil, nil // of an edition that was not finished
		}
		return nil, damaged
	}
	if !whole {
		if !e.hollow() {
			return nil, nil
		}
		if len(e.Hash) != len(e.hash) {
			return nil, damaged
		}
		e.hash, e.generation = channel.Hash(e.Hash), e.Generation
		return &e, nil
	}
	e.Hash = nil // it was hollow once, and has been found
	if e.Front == nil {
		return nil, damaged
	}
	head, err := p.headOf(n)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(head.Leaf.Text(), e.Leaf) {
		return nil, fmt.Errorf("editions/%d.json and .car don't belong together; restore them from a backup", n)
	}
	e.leaf, e.hash, e.generation = head.Leaf, head.Leaf.Hash(), head.Generation
	return &e, nil
}

// noGap refuses to go on where edition n is missing but later ones are there:
// packing it again would sign one index of the log twice.
func (p *Publisher) noGap(n uint64) error {
	names, err := durable.Glob(filepath.Join(p.dir, "editions"), "*.car")
	if err != nil {
		return err
	}
	for _, name := range names {
		if later, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".car"), 10, 64); err == nil && later > n {
			return fmt.Errorf("editions/%d.car is missing though later ones are there; restore it from a backup", n)
		}
	}
	return nil
}

// headOf reads the head of edition n from its file. It may be of a generation of the
// log that has ended since: the root notes in the file, which ours go on from, say
// who could sign it then.
func (p *Publisher) headOf(n uint64) (*channel.Head, error) {
	head, _, err := p.headUnder(n)
	return head, err
}

// headUnder is headOf, with the root notes in the file: of cosignatures it keeps those of
// the witnesses that they name.
func (p *Publisher) headUnder(n uint64) (*channel.Head, *channel.Roots, error) {
	f, err := os.Open(p.carName(n))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	in, err := r.Intro()
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	then := len(in.RootNotes)
	if then > len(p.notes) || !slices.EqualFunc(in.RootNotes, p.notes[:then], bytes.Equal) {
		return nil, nil, fmt.Errorf("editions/%d.car was made under other root notes; restore it from a backup", n)
	}
	roots, err := channel.ParseRoots(p.Channel(), in.RootNotes)
	if err != nil {
		return nil, nil, fmt.Errorf("editions/%d.car: %w", n, err)
	}
	head, err := roots.Head(in.Head)
	return head, roots, err
}

// history is the log as it stood with the first size editions.
func (p *Publisher) history(size uint64) *channel.Log {
	log := channel.NewLog(nil)
	for i := range p.editions[:size] {
		log.Append(p.editions[i].hash)
	}
	return log
}

// commit writes an edition whose head there is: first what describes it, then, by one
// rename, the file that makes it exist.
func (p *Publisher) commit(e edition, head *channel.Head, blocks []bundle.Block) (int64, error) {
	if err := p.describe(head.Edition, e); err != nil {
		return 0, err
	}
	return p.writeCar(head, blocks)
}

// writeCar writes the file that makes an edition exist.
func (p *Publisher) writeCar(head *channel.Head, blocks []bundle.Block) (int64, error) {
	var size counter
	err := durable.WriteFile(p.carName(head.Edition), 0o600, func(f io.Writer) error {
		w, err := car.NewEdition(io.MultiWriter(f, &size), car.Intro{RootNotes: p.notes, Head: head.Text(), Root: head.Root})
		if err != nil {
			return err
		}
		return putAll(w, blocks)
	})
	return int64(size), err
}

// writeBlocks writes the blocks of an edition that is not signed yet.
func (p *Publisher) writeBlocks(made *bundle.Packed) error {
	return durable.WriteFile(p.blocksName(made.Leaf.Edition), 0o600, func(f io.Writer) error {
		w, err := car.NewWriter(f, []cid.Cid{made.Leaf.Root})
		if err != nil {
			return err
		}
		return putAll(w, made.Blocks)
	})
}

func putAll(w *car.Writer, blocks []bundle.Block) error {
	for _, b := range blocks {
		if err := w.Put(b.CID, b.Data); err != nil {
			return err
		}
	}
	return nil
}

// readBlocks is the inverse of writeBlocks.
func (p *Publisher) readBlocks(n uint64) (root cid.Cid, blocks []bundle.Block, err error) {
	f, err := os.Open(p.blocksName(n))
	if err != nil {
		return root, nil, err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return root, nil, err
	}
	if roots := r.Roots(); len(roots) == 1 {
		root = roots[0]
	}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root, blocks, nil
		}
		if err != nil {
			return root, nil, err
		}
		blocks = append(blocks, bundle.Block{CID: b.CID, Data: bytes.Clone(b.Data)})
	}
}

// finishStaged finishes the edition that a crash has cut off if its leaf is on disk:
// what is signed for its number may have been signed already. The leaf waits where the
// log key is missing. Blocks without a leaf, or of one that a newer root note or other
// editions have passed, are removed.
func (p *Publisher) finishStaged() error {
	names, err := durable.Glob(filepath.Join(p.dir, "editions"), "*.blocks")
	if err != nil {
		return err
	}
	for _, name := range names {
		n := p.Size()
		e, ok := p.staged(n)
		if ok = ok && name == p.blocksName(n); ok && (p.torn() || !p.signs()) {
			continue
		}
		if ok {
			root, blocks, err := p.readBlocks(n)
			if err != nil {
				return fmt.Errorf("editions/%d.blocks: %w; remove it, and pack again", n, err)
			}
			if root == e.leaf.Root {
				if _, err := p.finish(e, blocks); err != nil {
					return err
				}
				continue
			}
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// staged is edition n, which is next, as it is described, if it was made under the root
// notes that there are.
func (p *Publisher) staged(n uint64) (e edition, ok bool) {
	b, err := os.ReadFile(p.jsonName(n))
	if err != nil || json.Unmarshal(b, &e) != nil || e.hollow() || e.Front == nil {
		return e, false
	}
	leaf, err := channel.ParseLeaf(e.Leaf)
	if err != nil || leaf.Channel != p.Channel() || leaf.Edition != n || leaf.RootVersion != p.roots.Version() {
		return e, false
	}
	e.leaf = *leaf
	return e, true
}

// describe writes what this folder knows of edition n, durably; without its file it is
// none yet.
func (p *Publisher) describe(n uint64, e edition) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return durable.Write(p.jsonName(n), 0o600, b)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// Source opens edition n for a push or an export; close it.
func (p *Publisher) Source(n uint64) (*os.File, int64, error) {
	f, err := os.Open(p.carName(n))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (p *Publisher) carName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".car")
}

// blocksName is the file of an edition that is not signed yet.
func (p *Publisher) blocksName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".blocks")
}

func (p *Publisher) jsonName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".json")
}
