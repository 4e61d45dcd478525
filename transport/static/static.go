// Package static writes static mirrors: relays without a program, which are
// plain files on any web host, object store, CDN or code-hosting page. What
// reads them is transport/gateway. The layout is FORMAT.md, section 11:
//
//	head/<channel>           the newest edition's opening: root notes, head, folders, front page
//	ipfs/<cid>               a block
//	editions/<channel>/<n>   the CIDs of edition n, for whoever removes it again
//
// A [Publisher] knows the layout and the order of writing; a [Store] knows where
// the files lie: [Folder], [S3], [WebDAV] or [Git]. Blocks come before the head
// that names them, so an interrupted push leaves the old head valid, and the
// next one sends only what is not there.
package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Store is where a mirror's files lie. Names are relative, with slashes; nobody
// but the mirror's publishers writes below head, ipfs and editions, and what
// lies beside them is not touched. All methods but Begin may be called at once;
// nobody retries inside. Errors wrap transport.ErrRefused if trying again is of
// no use (a wrong password, a bucket that is not there).
type Store interface {
	// Begin is called before a run of the others, and end after it. What was put
	// and deleted in between is durable, and there for readers, when end has
	// returned nil. done says that all of it was done; what names it in a few
	// words, for stores that keep a log.
	Begin(ctx context.Context) (end func(what string, done bool) error, err error)
	// Get reads a file of at most limit bytes; transport.ErrNotFound if there is
	// none. Between Begin and end it shows what was put; outside, only what
	// readers see.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)
	// List returns the sizes of the files in a folder by name, none if there is
	// no such folder.
	List(ctx context.Context, dir string) (map[string]int64, error)
	// Put writes a file, with the folders above it. In head/ the old file is
	// replaced by the whole new one at once; elsewhere a failure may leave a
	// shorter file.
	Put(ctx context.Context, name string, data []byte) error
	// Delete removes a file; nil if there is none.
	Delete(ctx context.Context, name string) error
}

const (
	headDir    = "head/"
	blockDir   = "ipfs/"
	editionDir = "editions/"

	// maxHead bounds the file in head/ as readers do, maxFront what of it may be
	// the front page (FORMAT.md, section 11).
	maxHead  = 8 << 20
	maxFront = 1 << 20
	// maxList bounds a file in editions/: an edition of all layers at their
	// largest has 50,000 blocks of 64 KiB.
	maxList = 8 << 20
	// parallel is how many files are written at once.
	parallel = 8
)

// Publisher publishes to one mirror. Its methods are not to be called at once.
type Publisher struct{ store Store }

var (
	_ transport.Publisher = (*Publisher)(nil)
	_ transport.Pruner    = (*Publisher)(nil)
	_ io.Closer           = (*Publisher)(nil)
)

// New makes a publisher of the mirror in that store.
func New(s Store) *Publisher { return &Publisher{s} }

// Close ends what the store has open.
func (p *Publisher) Close() error { return closeStore(p.store) }

func closeStore(s Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Current implements transport.Publisher. A damaged head is as good as none: the
// next push replaces it.
func (p *Publisher) Current(ctx context.Context, ch channel.ID) ([]byte, error) {
	intro, err := p.opening(ctx, ch)
	if damaged(err) {
		return nil, fmt.Errorf("%w: %w", transport.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	return intro.Head, nil
}

func damaged(err error) bool {
	return errors.Is(err, car.ErrFormat) || errors.Is(err, car.ErrTorn) || errors.Is(err, bundle.ErrBlock)
}

func (p *Publisher) opening(ctx context.Context, ch channel.ID) (*car.Intro, error) {
	return readOpening(ctx, p.store, ch)
}

func readOpening(ctx context.Context, store Store, ch channel.ID) (*car.Intro, error) {
	b, err := store.Get(ctx, headDir+ch.String(), maxHead)
	if err != nil {
		return nil, err
	}
	r, err := car.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("head of the mirror: %w", err)
	}
	intro, err := r.Intro()
	if err != nil {
		return nil, fmt.Errorf("head of the mirror: %w", err)
	}
	return intro, nil
}

// Publish implements transport.Publisher.
func (p *Publisher) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	e, err := readEdition(s)
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	return p.run(ctx, fmt.Sprintf("edition %d", e.head.Edition), func() error {
		return p.publish(ctx, e, s, progress)
	})
}

// run does something between Begin and end.
func (p *Publisher) run(ctx context.Context, what string, do func() error) error {
	end, err := p.store.Begin(ctx)
	if err != nil {
		return err
	}
	err = do()
	return errors.Join(err, end(what, err == nil))
}

func (p *Publisher) publish(ctx context.Context, e *edition, s transport.Source, progress func(held, total int64)) error {
	newest, err := p.isNewest(ctx, e)
	if err != nil {
		return err
	}
	there, err := p.store.List(ctx, strings.TrimSuffix(blockDir, "/"))
	if err != nil {
		return err
	}
	if err := p.putList(ctx, e); err != nil {
		return err
	}
	if err := p.putBlocks(ctx, e, s, there, progress); err != nil {
		return err
	}
	if newest {
		return p.store.Put(ctx, headDir+s.Channel.String(), e.opening)
	}
	return nil
}

// isNewest reports whether the edition's head may replace the one that is
// there. A head that doesn't verify is none.
func (p *Publisher) isNewest(ctx context.Context, e *edition) (bool, error) {
	old, err := p.stands(ctx, e.head.Channel)
	return old == nil || !old.Newer(e.head), err
}

// putList writes editions/<channel>/<n>, before any of the blocks in it.
func (p *Publisher) putList(ctx context.Context, e *edition) error {
	var b bytes.Buffer
	for _, blk := range e.blocks {
		fmt.Fprintln(&b, blk.cid)
	}
	name := listName(e.head.Channel, e.head.Edition)
	old, err := p.store.Get(ctx, name, maxList)
	switch {
	case err == nil && bytes.Equal(old, b.Bytes()):
		return nil
	case err != nil && !errors.Is(err, transport.ErrNotFound):
		return err
	}
	return p.store.Put(ctx, name, b.Bytes())
}

func listName(ch channel.ID, n uint64) string {
	return editionDir + ch.String() + "/" + strconv.FormatUint(n, 10)
}

// putBlocks writes the blocks that are not there. progress hears of bytes of
// the edition's CAR.
func (p *Publisher) putBlocks(ctx context.Context, e *edition, s transport.Source, there map[string]int64, progress func(held, total int64)) error {
	var held atomic.Int64
	tell := func(n int64) {
		if h := held.Add(n); progress != nil {
			progress(h, s.Size)
		}
	}
	tell(s.Size - e.size) // what is in the CAR besides
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, b := range e.blocks {
		if size, ok := there[b.cid.String()]; ok && size == b.size {
			tell(b.size)
			continue
		}
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			data, err := b.read(s.CAR)
			if err != nil {
				return err
			}
			if err := p.store.Put(gctx, blockDir+b.cid.String(), data); err != nil {
				return err
			}
			tell(b.size)
			return nil
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}

// edition is what Publish knows of one before it writes anything.
type edition struct {
	head   *channel.Head
	blocks []place
	size   int64 // of all blocks
	// opening is the file for head/.
	opening []byte
}

// place is where a block lies in the CAR.
type place struct {
	cid          cid.Cid
	offset, size int64
}

// read reads and checks the block.
func (p place) read(from io.ReaderAt) ([]byte, error) {
	b := make([]byte, p.size)
	if _, err := from.ReadAt(b, p.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, bundle.CheckBlock(p.cid, b)
}

// readEdition checks a CAR and builds its opening. An edition that lacks a
// block is refused: what a head names has to be there. What belongs to nothing
// is left out.
func readEdition(s transport.Source) (*edition, error) {
	r, err := car.NewReader(io.NewSectionReader(s.CAR, 0, s.Size))
	if err != nil {
		return nil, err
	}
	intro, err := r.Intro()
	if err != nil {
		return nil, err
	}
	roots, err := channel.ParseRoots(s.Channel, intro.RootNotes)
	if err != nil {
		return nil, err
	}
	e := &edition{}
	if e.head, err = roots.Head(intro.Head); err != nil {
		return nil, err
	}
	// Again from the start: the root notes before the head are files of the
	// edition's folder root.
	if r, err = car.NewReader(io.NewSectionReader(s.CAR, 0, s.Size)); err != nil {
		return nil, err
	}
	at := map[cid.Cid]place{}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		at[b.CID] = place{b.CID, b.Offset, int64(len(b.Data))}
	}
	return e, e.collect(s, intro, at)
}

// collect lists the edition's blocks and builds its opening.
func (e *edition) collect(s transport.Source, intro *car.Intro, at map[cid.Cid]place) error {
	vol := &bundle.Volume{Channel: s.Channel, Edition: e.head.Edition, Root: e.head.Root, Get: func(c cid.Cid) ([]byte, error) {
		p, ok := at[c]
		if !ok {
			return nil, bundle.ErrMissing
		}
		return p.read(s.CAR)
	}}
	d, err := vol.Directory()
	if err != nil {
		return err
	}
	var first, front, last []bundle.Block
	size := 0
	err = vol.Walk(func(w bundle.Want, b []byte) error {
		e.blocks, e.size = append(e.blocks, at[w.CID]), e.size+int64(len(b))
		blk := bundle.Block{CID: w.CID, Data: b}
		switch {
		case w.Layer == bundle.LayerDirectory:
			first = append(first, blk)
		case w.Layer == bundle.LayerFront && size <= maxFront:
			front, size = append(front, blk), size+len(b)
		case w.CID.Equals(d.Grants):
			last = append(last, blk)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if size > maxFront {
		front = nil
	}
	var out bytes.Buffer
	w, err := car.NewEdition(&out, car.Intro{RootNotes: intro.RootNotes, Head: intro.Head, Root: e.head.Root})
	if err != nil {
		return err
	}
	for _, b := range slices.Concat(first, front, last) {
		if err := w.Put(b.CID, b.Data); err != nil {
			return err
		}
	}
	e.opening = out.Bytes()
	return nil
}
