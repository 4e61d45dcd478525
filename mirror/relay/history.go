package relay

import (
	"errors"
	"io"
	"iter"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// continues checks that the history of e, whose whole CAR is f, is the one its
// head states and goes on from the head of cur (nil if none is held), or, if cur is
// of an older generation of the log, from the tree that e's began with. Two
// copies of one publisher's folder sign with the same keys, and a higher number
// alone doesn't say that an edition comes after another. Readers who followed
// the one copy would take the other's editions for a fork and stand still.
func (e *edition) continues(f io.ReaderAt, cur *edition) error {
	wrong := bad("its log is not the one that its head was signed for")
	if e.head.Edition > uint64(e.size)/uint64(len(channel.Hash{})) {
		return wrong // a few blocks over and over, to keep us reading
	}
	leaves, err := e.logBlocks(f)
	if err != nil {
		return historyError(err)
	}
	// The log of edition n holds the leaves before it, 0 to n-1.
	var count uint64
	whole := channel.TreeHash(func(yield func(channel.Hash) bool) {
		for h, herr := range e.hashes(f, leaves) {
			if err = herr; err != nil || !yield(h) {
				return
			}
			count++
		}
		yield(e.head.Leaf.Hash())
	})
	switch {
	case err != nil:
		return historyError(err)
	case count != e.head.Edition || whole != e.head.Tree:
		return wrong
	}
	if begun := e.roots.Last().Log; begun.Base > 0 && begun.Base <= count { // its head shows the one tree that is longer
		before, err := e.treeAt(f, leaves, begun.Base)
		switch {
		case err != nil:
			return historyError(err)
		case before != begun.BaseHash:
			return bad("its log is not the one that its generation began with")
		}
	}
	if cur == nil || cur.head.Generation < e.head.Generation || cur.head.Size > count { // the same edition again: acceptable has compared the trees
		return nil
	}
	before, err := e.treeAt(f, leaves, cur.head.Size)
	switch {
	case err != nil:
		return historyError(err)
	case before != cur.head.Tree:
		return bad("it does not continue the history that is held here; was the publisher's folder copied?")
	}
	return nil
}

// treeAt is the hash of the tree of the first size leaves.
func (e *edition) treeAt(f io.ReaderAt, leaves []bundle.Want, size uint64) (_ channel.Hash, err error) {
	left := size
	tree := channel.TreeHash(func(yield func(channel.Hash) bool) {
		for h, herr := range e.hashes(f, leaves) {
			if err = herr; err != nil || left == 0 || !yield(h) {
				return
			}
			left--
		}
	})
	return tree, err
}

// logBlocks lists the blocks of the log layer, none for a first edition.
func (e *edition) logBlocks(f io.ReaderAt) ([]bundle.Want, error) {
	v := &bundle.Volume{
		Channel: e.head.Channel, Edition: e.head.Edition, Root: e.head.Root,
		Get: func(c cid.Cid) ([]byte, error) { return e.blockIn(f, c) },
	}
	leaves, _, err := v.Layer(bundle.LayerLog)
	return leaves, err
}

// hashes reads the leaf hashes out of the log's blocks, one block in memory at
// a time, and no more of them than the head counts.
func (e *edition) hashes(f io.ReaderAt, blocks []bundle.Want) iter.Seq2[channel.Hash, error] {
	return func(yield func(channel.Hash, error) bool) {
		left := e.head.Edition
		for _, w := range blocks {
			data, err := e.blockIn(f, w.CID)
			var hs []channel.Hash
			if err == nil {
				hs, err = channel.SplitHashes(data)
				if err != nil {
					err = bad("log: %w", err)
				}
			}
			if err == nil && uint64(len(hs)) > left {
				err = bad("its log is longer than its head says")
			}
			if err != nil {
				yield(channel.Hash{}, err)
				return
			}
			left -= uint64(len(hs))
			for _, h := range hs {
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}

// blockIn reads a block of e from its CAR while e has no path yet.
func (e *edition) blockIn(f io.ReaderAt, c cid.Cid) ([]byte, error) {
	s, ok := e.index[c.KeyString()]
	if !ok {
		return nil, bundle.ErrMissing
	}
	return s.read(f, nil)
}

// historyError tells a bad log from a bad disk.
func historyError(err error) error {
	for _, of := range []error{bundle.ErrMissing, bundle.ErrLayer, bundle.ErrBlock} {
		if errors.Is(err, of) {
			return bad("log: %w", err)
		}
	}
	return err
}
