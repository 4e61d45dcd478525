// Package file is the path that needs no network: editions as CAR files on a
// stick, in a mail, in a chat.
//
// [Open] reads one file or all *.car files of a folder once, checks every
// block's hash, and is a [transport.Path] like any other: what it holds is
// untrusted, and the engine verifies it as it would a relay's answer. [Folder]
// is the other end: a publisher's target that keeps one file an edition.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// maxFiles bounds how many files of a folder are looked at, maxBlocks how many
// blocks are indexed in all.
const (
	maxFiles  = 10_000
	maxBlocks = 1 << 20
)

// Source is an opened file or folder. It holds an index in memory and opens
// files when they are read.
type Source struct {
	files  []edition
	blocks map[cid.Cid]place
	damage error
}

// edition is one file's beginning.
type edition struct {
	path  string
	intro *car.Intro
}

// place is where a block's bytes lie.
type place struct {
	file   int
	offset int64
	size   int
}

var (
	_ transport.Heads  = (*Source)(nil)
	_ transport.Blocks = (*Source)(nil)
)

// Open reads a CAR file, or all *.car files of a folder. A torn or damaged file
// gives what stands before the damage; Open fails if nothing does.
func Open(name string) (*Source, error) { return open(name, true) }

// open is Open; without blocks it reads no further than the heads.
func open(name string, blocks bool) (*Source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	names := []string{name}
	if info.IsDir() {
		if names, err = carFiles(name); err != nil {
			return nil, err
		}
	}
	s := &Source{blocks: map[cid.Cid]place{}}
	var failures []error
	for _, n := range names {
		if err := s.add(n, blocks); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", filepath.Base(n), err))
		}
	}
	s.damage = errors.Join(append(failures, s.damage)...)
	if len(s.files) == 0 {
		if len(failures) == 0 {
			return nil, fmt.Errorf("%s: no .car file in it", filepath.Base(name))
		}
		return nil, errors.Join(failures...)
	}
	return s, nil
}

func carFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".car") && len(names) < maxFiles {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// add indexes one file. A file that is cut off after its head is still worth
// what it holds.
func (s *Source) add(name string, blocks bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := car.NewReader(f)
	if err != nil {
		return err
	}
	intro, err := r.Intro()
	if err != nil {
		return err
	}
	s.files = append(s.files, edition{name, intro})
	for blocks && len(s.blocks) < maxBlocks {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.damage = errors.Join(s.damage, fmt.Errorf("%s: %w", filepath.Base(name), err))
			break
		}
		s.blocks[b.CID] = place{len(s.files) - 1, b.Offset, len(b.Data)}
	}
	return nil
}

// Damage says what was wrong with the files; what stands before it is used all
// the same. Nil if all are whole.
func (s *Source) Damage() error { return s.damage }

// Path returns the source as a path under that name.
func (s *Source) Path(name string) transport.Path {
	return transport.Path{
		Name: name, Kind: transport.KindFile, Heads: s, Blocks: s,
		Hints: transport.Hints{Batch: 64, Parallel: 1},
	}
}

// Channels lists whose editions are in the files, as far as a first root note
// says: untrusted, for choosing whom to ask about.
func (s *Source) Channels() []channel.ID {
	var ids []channel.ID
	for _, e := range s.files {
		if id, ok := founder(e.intro); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func founder(in *car.Intro) (channel.ID, bool) {
	if len(in.RootNotes) == 0 {
		return channel.ID{}, false
	}
	id, ok := channel.FoundedBy(in.RootNotes[0])
	if !ok {
		return channel.ID{}, false
	}
	_, err := channel.ParseRoots(id, in.RootNotes[:1])
	return id, err == nil
}

// newest returns the file with the channel's highest head that verifies, so
// that a folder with one damaged or foreign file is not worth less.
func (s *Source) newest(ch channel.ID) (*edition, *channel.Head) {
	var best *edition
	var head *channel.Head
	var notes [][]byte
	var roots *channel.Roots
	for i := range s.files {
		e := &s.files[i]
		if roots == nil || !slices.EqualFunc(notes, e.intro.RootNotes, bytes.Equal) { // they are seldom others than the last file's
			var err error
			notes = e.intro.RootNotes
			if roots, err = channel.ParseRoots(ch, notes); err != nil {
				roots = nil
				continue
			}
		}
		h, err := roots.Head(e.intro.Head)
		if err == nil && (head == nil || h.Newer(head)) {
			best, head = e, h
		}
	}
	return best, head
}

// Head implements transport.Heads. A file never waits.
func (s *Source) Head(_ context.Context, ch channel.ID, have uint64) ([]byte, error) {
	e, h := s.newest(ch)
	if e == nil {
		return nil, fmt.Errorf("no edition of this channel in the file: %w", transport.ErrNotFound)
	}
	if h.Size < have && h.Generation == 0 {
		return nil, transport.ErrNoNewer
	}
	return e.intro.Head, nil
}

// RootNote implements transport.Heads.
func (s *Source) RootNote(_ context.Context, ch channel.ID, version uint64) ([]byte, error) {
	e, _ := s.newest(ch)
	if e == nil || version == 0 || version > uint64(len(e.intro.RootNotes)) {
		return nil, transport.ErrNotFound
	}
	return e.intro.RootNotes[version-1], nil
}

// Grant implements transport.Heads.
func (s *Source) Grant(_ context.Context, ch channel.ID, name string) ([]byte, error) {
	e, h := s.newest(ch)
	if e == nil {
		return nil, transport.ErrNotFound
	}
	vol := &bundle.Volume{Channel: ch, Root: h.Root, Get: s.Block}
	b, ok, err := vol.File(bundle.LayerGrants, name)
	if err == nil && !ok {
		err = transport.ErrNotFound
	}
	return b, err
}

// Block reads and checks one block. The error wraps bundle.ErrMissing if the
// files don't hold it.
func (s *Source) Block(c cid.Cid) ([]byte, error) {
	p, ok := s.blocks[c]
	if !ok {
		return nil, fmt.Errorf("%w: %w", bundle.ErrMissing, transport.ErrNotFound)
	}
	f, err := os.Open(s.files[p.file].path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, p.size)
	if _, err := f.ReadAt(b, p.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, bundle.CheckBlock(c, b)
}

// Fetch implements transport.Blocks.
func (s *Source) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		for i, w := range r.Wants {
			if err := ctx.Err(); err != nil {
				yield(transport.Block{}, err)
				return
			}
			b, err := s.Block(w.CID)
			if err != nil {
				if !yield(transport.Block{}, &transport.WantError{CID: w.CID, Err: err}) {
					return
				}
				continue
			}
			if r.Got != nil {
				r.Got(i, len(b))
			}
			if !yield(transport.Block{CID: w.CID, Data: b}, nil) {
				return
			}
		}
	}
}
