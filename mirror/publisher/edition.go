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
	names, err := filepath.Glob(filepath.Join(p.dir, "editions", "*.car"))
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

// commit writes the edition: first what describes it, then, by one rename, the
// file that makes it exist.
func (p *Publisher) commit(e edition, head *channel.Head, blocks []bundle.Block) (int64, error) {
	n := e.leaf.Edition
	if err := p.describe(n, e); err != nil {
		return 0, err
	}
	var size counter
	err := durable.WriteFile(p.carName(n), 0o600, func(f io.Writer) error {
		w, err := car.NewEdition(io.MultiWriter(f, &size), car.Intro{RootNotes: p.notes, Head: head.Text(), Root: head.Root})
		if err != nil {
			return err
		}
		for _, b := range blocks {
			if err := w.Put(b.CID, b.Data); err != nil {
				return err
			}
		}
		return nil
	})
	return int64(size), err
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

func (p *Publisher) jsonName(n uint64) string {
	return filepath.Join(p.dir, "editions", strconv.FormatUint(n, 10)+".json")
}
