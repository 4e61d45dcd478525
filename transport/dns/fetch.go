package dns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

const (
	// firstBlock and nextBlock are where encrypted layers are cut: along age's
	// chunks, header and nonce in front of the first one. The log has no header.
	firstBlock = 65717
	nextBlock  = 65552
	logBlock   = 65536
	// nodeWidth is how many links a UnixFS node has at most.
	nodeWidth = 174
	// fetchAtOnce is how many wants of one request are worked on at once. The
	// windows of the resolvers bound the queries.
	fetchAtOnce = 8
)

// Fetch implements transport.Blocks. It finds a want by its layer's tree in
// Edition.Names ("front", which also holds the directory, "text", "dict", "log") and
// its offset; other layers are not in DNS, and their wants fail with
// transport.ErrNotFound. If no resolver answers at all, that is the last error.
func (c *Client) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		c.enter()
		defer c.leave()
		ctx, cancel := context.WithCancel(ctx)
		type result struct {
			block transport.Block
			err   error
		}
		results := make(chan result)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		var gotMu sync.Mutex
		came := false // something did: silence is no reason to end the rest
		answered := func() bool {
			gotMu.Lock()
			defer gotMu.Unlock()
			return came
		}
		wants := make(chan int)
		wg.Go(func() {
			defer close(wants)
			for i := range r.Wants {
				select {
				case wants <- i:
				case <-ctx.Done():
					return
				}
			}
		})
		for range min(fetchAtOnce, len(r.Wants)) {
			wg.Go(func() {
				for i := range wants {
					got := func(n int) {
						gotMu.Lock()
						defer gotMu.Unlock()
						came = true
						if r.Got != nil && ctx.Err() == nil {
							r.Got(i, n)
						}
					}
					data, err := c.fetch(ctx, r.Edition, r.Wants[i], r.Once, got)
					select {
					case results <- result{transport.Block{CID: r.Wants[i].CID, Data: data}, err}:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		for range r.Wants {
			var res result
			select {
			case res = <-results:
			case <-ctx.Done():
				yield(transport.Block{}, ctx.Err())
				return
			}
			switch {
			case res.err == nil:
				if !yield(res.block, nil) {
					return
				}
			case ctx.Err() != nil:
				yield(transport.Block{}, ctx.Err())
				return
			case fatal(res.err) && !(errors.Is(res.err, errSilent) && answered()):
				yield(transport.Block{}, fmt.Errorf("dns: %w", res.err))
				return
			default:
				if !yield(transport.Block{}, &transport.WantError{CID: res.block.CID, Err: res.err}) {
					return
				}
			}
		}
	}
}

// fatal reports whether other wants would fare no better.
func fatal(err error) bool {
	return errors.Is(err, errSilent) || errors.Is(err, errSpoiled) || errors.Is(err, errUnsent) ||
		errors.Is(err, transport.ErrUnsupported) || errors.Is(err, transport.ErrBlocked)
}

// fetch fetches one block.
func (c *Client) fetch(ctx context.Context, e transport.Edition, want transport.Want, once bool, got func(int)) ([]byte, error) {
	tree := want.Layer
	if tree == bundle.LayerDirectory {
		tree = bundle.LayerFront
	}
	names, ok := e.Names[tree]
	if !ok || tree != bundle.LayerFront && tree != bundle.LayerText && tree != bundle.LayerDict && tree != bundle.LayerLog {
		return nil, transport.ErrNotFound
	}
	var data []byte
	err := c.bothClasses(func(class record.Class) error {
		w := &walker{c: c, class: class, got: got, once: once}
		l, err := w.list(ctx, nameIn(names, class))
		if err != nil {
			return err
		}
		places, err := place(want, l.count)
		if err != nil {
			return err
		}
		for _, i := range places { // more than one only for nodes at offset 0
			if data, err = l.piece(ctx, i); err != nil {
				return err
			}
			if isBlock(want, data) {
				break
			}
		}
		if !isBlock(want, data) {
			return fmt.Errorf("another block lies there: %w", transport.ErrNotFound)
		}
		return nil
	})
	return data, err
}

// isBlock reports whether data has the want's hash.
func isBlock(want transport.Want, data []byte) bool {
	sum := sha256.Sum256(data)
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	return err == nil && bytes.Equal(mh, want.CID.Hash())
}

// place says which piece of its tree a want is; two if it may be either.
func place(want transport.Want, count int) ([]int, error) {
	skip := 0
	switch want.Layer {
	case bundle.LayerDirectory:
		return []int{0}, nil
	case bundle.LayerFront:
		skip = 1
	}
	f, err := layout(count - skip)
	if err != nil {
		return nil, err
	}
	k, ok := leafAtOffset(want.Layer, want.Offset)
	switch {
	case !ok || k >= f.leaves:
		return nil, fmt.Errorf("no block starts there: %w", transport.ErrNotFound)
	case !want.Node:
		return []int{skip + f.leaf(k)}, nil
	case f.inner > 0 && k == 0:
		return []int{skip, skip + 1}, nil
	case f.inner > 0 && k%nodeWidth == 0:
		return []int{skip + f.leaf(k) - 1}, nil
	case f.leaves > 1 && k == 0:
		return []int{skip}, nil
	}
	return nil, fmt.Errorf("no node starts there: %w", transport.ErrNotFound)
}

// leafAtOffset is the inverse of cutting a layer's file into blocks.
func leafAtOffset(layer string, offset int64) (k int, ok bool) {
	size := int64(nextBlock)
	switch {
	case offset < 0:
		return 0, false
	case layer == bundle.LayerLog:
		size = logBlock
	case offset == 0:
		return 0, true
	case offset < firstBlock:
		return 0, false
	default:
		k, offset = 1, offset-firstBlock
	}
	return k + int(offset/size), offset%size == 0
}

// fileShape is how a file's blocks lie in their list (see the package comment).
type fileShape struct {
	leaves int
	inner  int // nodes below the first one
}

func layout(blocks int) (fileShape, error) {
	const run = nodeWidth + 1
	switch {
	case blocks == 1:
		return fileShape{leaves: 1}, nil
	case blocks >= 3 && blocks <= run:
		return fileShape{leaves: blocks - 1}, nil
	case blocks > run+2 && blocks <= 1+nodeWidth*run && (blocks-1)%run != 1:
		inner := (blocks - 1 + run - 1) / run
		return fileShape{leaves: blocks - 1 - inner, inner: inner}, nil
	}
	return fileShape{}, fmt.Errorf("%w: no file has %d blocks", record.ErrBad, blocks)
}

// leaf returns where leaf k lies.
func (f fileShape) leaf(k int) int {
	switch {
	case f.inner > 0:
		return 2 + k + k/nodeWidth
	case f.leaves > 1:
		return 1 + k
	}
	return 0
}

// isNode reports whether block i of the file is a node.
func (f fileShape) isNode(i int) bool {
	return f.leaves > 1 && (i == 0 || f.inner > 0 && (i-1)%(nodeWidth+1) == 0)
}
