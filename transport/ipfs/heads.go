package ipfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// maxGrant is the larger of a grant's two sizes.
const maxGrant = 8192

// heads reads one channel's IPNS record and the small files of the edition it
// names. Node.Path and GatewayHeads differ only in where the two come from.
type heads struct {
	// resolve returns the newest record the path holds, its signature checked.
	resolve func(ctx context.Context) (*signed, error)
	// block returns the bytes of one block of at most limit, unchecked; root is the
	// edition it belongs to.
	block func(ctx context.Context, root, c cid.Cid, limit int) ([]byte, error)

	mu    sync.Mutex
	last  *signed // the newest record so far
	given []byte  // the compact head that Head returned last
	// folders are the blocks of one edition's folders that were walked: its
	// directory and the two of root notes and grants at most, since a start asks
	// for several files in a row.
	folders map[cid.Cid][]byte
	of      cid.Cid // the root of that edition
}

var _ transport.Heads = (*heads)(nil)

// Head returns the compact head of the newest record. It asks once and at
// once: IPNS has no long poll. A head as large as the caller's is returned the
// first time, since it may be a heartbeat. The record doesn't say for which
// channel it is, only for which key; the caller's check of the head decides.
func (h *heads) Head(ctx context.Context, _ channel.ID, have uint64) ([]byte, error) {
	r, err := h.fresh(ctx)
	if err != nil {
		return nil, tidy(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := channel.ClaimOf(r.compact); ok && have > 0 &&
		c.Generation == 0 && (c.Size < have || c.Size == have && bytes.Equal(r.compact, h.given)) {
		return nil, transport.ErrNoNewer
	}
	h.given = r.compact
	return r.compact, nil
}

// RootNote walks to root/<version> in the edition's directory.
func (h *heads) RootNote(ctx context.Context, _ channel.ID, version uint64) ([]byte, error) {
	return h.file(ctx, bundle.LayerRoot, strconv.FormatUint(version, 10), channel.MaxRootNote)
}

// Grant walks to grants/<name> in the edition's directory.
func (h *heads) Grant(ctx context.Context, _ channel.ID, name string) ([]byte, error) {
	return h.file(ctx, bundle.LayerGrants, name, maxGrant)
}

// fresh asks for the record anew. One that is older than what was seen before
// is not believed to be the newest: peers lag, and the key signs no number twice.
func (h *heads) fresh(ctx context.Context) (*signed, error) {
	r, err := h.resolve(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil || r.newer(h.last) {
		h.last = r
	}
	return h.last, nil
}

// file reads one small file of the edition that the newest record names. The
// record seen last is used as long as the file is in its edition: root notes
// and grants stay where they were, and a start asks for several in a row.
func (h *heads) file(ctx context.Context, folder, name string, limit int) (_ []byte, err error) {
	defer func() { err = tidy(err) }()
	h.mu.Lock()
	r := h.last
	h.mu.Unlock()
	if r != nil {
		b, err := h.walk(ctx, r.root, folder, name, limit)
		if err == nil || !errors.Is(err, transport.ErrNotFound) {
			return b, err
		}
	}
	now, err := h.fresh(ctx)
	if err != nil {
		return nil, err
	}
	if r != nil && now.root.Equals(r.root) {
		return nil, fmt.Errorf("%s/%s: %w", folder, name, transport.ErrNotFound)
	}
	return h.walk(ctx, now.root, folder, name, limit)
}

func (h *heads) walk(ctx context.Context, root cid.Cid, folder, name string, limit int) ([]byte, error) {
	c := root
	for _, step := range []string{folder, name} {
		b, err := h.folder(ctx, root, c)
		if err != nil {
			return nil, fmt.Errorf("edition directory: %w", err)
		}
		if c, err = entry(b, step); err != nil {
			return nil, fmt.Errorf("edition directory: %w", err)
		}
	}
	if c.Type() != cid.Raw { // a small file is one bare leaf
		return nil, fmt.Errorf("file in %s is not a raw block", folder)
	}
	b, err := h.checked(ctx, root, c, limit)
	if err != nil {
		return nil, fmt.Errorf("file in %s: %w", folder, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("file in %s has %d bytes: more than %d", folder, len(b), limit)
	}
	return b, nil
}

// folder gets a folder's block, from memory if it was walked before.
func (h *heads) folder(ctx context.Context, root, c cid.Cid) ([]byte, error) {
	h.mu.Lock()
	if !h.of.Equals(root) {
		h.of, h.folders = root, make(map[cid.Cid][]byte)
	}
	b, ok := h.folders[c]
	h.mu.Unlock()
	if ok {
		return b, nil
	}
	b, err := h.checked(ctx, root, c, bundle.MaxBlock)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of.Equals(root) { // no other edition was walked meanwhile
		h.folders[c] = b
	}
	return b, nil
}

// checked gets a block and compares its hash, since the next step parses it.
func (h *heads) checked(ctx context.Context, root, c cid.Cid, limit int) ([]byte, error) {
	b, err := h.block(ctx, root, c, limit)
	if err != nil {
		return nil, err
	}
	return b, bundle.CheckBlock(c, b)
}

// entry finds a name in a UnixFS folder of one block. Sharded folders are not
// read: an edition has none.
func entry(block []byte, name string) (cid.Cid, error) {
	n, err := merkledag.DecodeProtobuf(block)
	if err != nil {
		return cid.Undef, fmt.Errorf("not a dag-pb node: %w", err)
	}
	fs, err := unixfs.FSNodeFromBytes(n.Data())
	if err != nil {
		return cid.Undef, fmt.Errorf("not a unixfs node: %w", err)
	}
	if fs.Type() != unixfs.TDirectory {
		return cid.Undef, errors.New("not a unixfs folder")
	}
	for _, l := range n.Links() {
		if l.Name == name {
			return l.Cid, nil
		}
	}
	return cid.Undef, transport.ErrNotFound
}
