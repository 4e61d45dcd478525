package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// openTimeout bounds the reading of head/<channel>.
	openTimeout = time.Minute
	// maxNotes bounds the root notes that are kept of one opening, maxChannels the
	// openings: one reader follows few channels on one mirror.
	maxNotes    = 256
	maxChannels = 8
	// maxTag bounds an ETag or a date that is sent back.
	maxTag = 256
)

// mirror reads heads from head/<channel> of a static mirror (FORMAT.md, section
// 11). All small things are in that file or a block away, so it keeps what it
// last read of it, and asks whether it has changed.
type mirror struct {
	c *Client

	mu   sync.Mutex
	last map[channel.ID]*opening
}

var (
	_ transport.Heads  = (*mirror)(nil)
	_ transport.Opener = (*mirror)(nil)
)

// opening is what was read of head/<channel>. It isn't changed once it is kept.
type opening struct {
	tag, modified string
	notes         [][]byte
	head          []byte
	// size and root are those of the head, 0 and undefined if it does not verify:
	// then it is for the caller to say so.
	size uint64
	root cid.Cid
	// folders are the edition's folder and that of its grants, as far as they
	// were there.
	folders map[cid.Cid][]byte
}

// errSame says that head/<channel> is what it was. It never leaves the package.
var errSame = errors.New("not modified")

// Head implements transport.Heads. A mirror never waits.
func (m *mirror) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	o, changed, err := m.load(ctx, ch)
	if err != nil {
		return nil, err
	}
	// A head of the same size may be a newer one, signed again.
	if have > 0 && o.size > 0 && (o.size < have || o.size == have && !changed) {
		return nil, transport.ErrNoNewer
	}
	return o.head, nil
}

// RootNote implements transport.Heads.
func (m *mirror) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	return m.small(ctx, ch, func(o *opening) ([]byte, error) {
		if version == 0 || version > uint64(len(o.notes)) {
			return nil, transport.ErrNotFound
		}
		return o.notes[version-1], nil
	})
}

// Grant implements transport.Heads.
func (m *mirror) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	return m.small(ctx, ch, func(o *opening) ([]byte, error) {
		c, err := m.grantCID(ctx, o, name)
		if err != nil {
			return nil, err
		}
		return m.c.block(ctx, transport.Want{CID: c, Layer: bundle.LayerGrants}, nil)
	})
}

// small looks into the opening read last, and into a newer one if it isn't
// there: a start asks for several small things in a row.
func (m *mirror) small(ctx context.Context, ch channel.ID, get func(*opening) ([]byte, error)) ([]byte, error) {
	if o := m.kept(ch); o != nil {
		if b, err := get(o); !errors.Is(err, transport.ErrNotFound) {
			return b, err
		}
		o, changed, err := m.load(ctx, ch)
		if err != nil {
			return nil, err
		}
		if !changed {
			return nil, transport.ErrNotFound
		}
		return get(o)
	}
	o, _, err := m.load(ctx, ch)
	if err != nil {
		return nil, err
	}
	return get(o)
}

// grantCID walks from the edition's folder to a grant; the blocks that the
// opening did not bring are fetched.
func (m *mirror) grantCID(ctx context.Context, o *opening, name string) (cid.Cid, error) {
	if !o.root.Defined() {
		return cid.Undef, fmt.Errorf("no head that verifies: %w", transport.ErrNotFound)
	}
	b, err := m.folder(ctx, o, o.root)
	if err != nil {
		return cid.Undef, err
	}
	d, err := bundle.ParseDirectory(o.root, b)
	if err != nil {
		return cid.Undef, err
	}
	if !d.Grants.Defined() {
		return cid.Undef, transport.ErrNotFound
	}
	if b, err = m.folder(ctx, o, d.Grants); err != nil {
		return cid.Undef, err
	}
	links, err := bundle.ParseFolder(d.Grants, b)
	if err != nil {
		return cid.Undef, err
	}
	for _, l := range links {
		if l.Name == name && l.CID.Type() == cid.Raw {
			return l.CID, nil
		}
	}
	return cid.Undef, transport.ErrNotFound
}

func (m *mirror) folder(ctx context.Context, o *opening, c cid.Cid) ([]byte, error) {
	if b, ok := o.folders[c]; ok {
		return b, nil
	}
	return m.c.block(ctx, transport.Want{CID: c, Node: true}, nil)
}

// Open implements transport.Opener. It never waits for a newer head. A grant is
// not among the pieces: it is a block of its own.
func (m *mirror) Open(ctx context.Context, ask transport.Ask) iter.Seq2[transport.Piece, error] {
	return func(yield func(transport.Piece, error) bool) {
		// Who holds less than what was read last wants all of it again.
		known := m.kept(ask.Channel)
		if known != nil && (ask.Have == 0 || known.size == 0 || known.size > ask.Have) {
			known = nil
		}
		note, same := uint64(0), false
		_, err := m.read(ctx, ask.Channel, known, func(p transport.Piece) bool {
			if p.Kind == transport.PieceRootNote {
				if note++; note <= ask.Root {
					return true
				}
			}
			if same = p.Kind == transport.PieceHead && known != nil && bytes.Equal(p.Data, known.head); same {
				return false
			}
			return yield(p, nil)
		})
		switch {
		case same, errors.Is(err, errSame):
			yield(transport.Piece{}, transport.ErrNoNewer)
		case errors.Is(err, errStop):
		case err != nil:
			yield(transport.Piece{}, err)
		}
	}
}

// errStop: whoever gets the pieces wants no more of them.
var errStop = errors.New("enough")

// load reads head/<channel>, unless it is what it was.
func (m *mirror) load(ctx context.Context, ch channel.ID) (o *opening, changed bool, err error) {
	known := m.kept(ch)
	o, err = m.read(ctx, ch, known, func(transport.Piece) bool { return true })
	if errors.Is(err, errSame) {
		return known, false, nil
	}
	return o, err == nil && (known == nil || !bytes.Equal(o.head, known.head)), err
}

// read reads head/<channel>, keeps what small will want, and hands on each
// piece as it comes. The error wraps errSame if the file is what known says.
func (m *mirror) read(ctx context.Context, ch channel.ID, known *opening, each func(transport.Piece) bool) (*opening, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var field, value string
	switch {
	case known == nil:
	case known.tag != "":
		field, value = "If-None-Match", known.tag
	case known.modified != "":
		field, value = "If-Modified-Since", known.modified
	}
	resp, err := m.c.ask(ctx, "/head/"+ch.String(), "*/*", field, value)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	o := &opening{folders: map[cid.Cid][]byte{}}
	if tag, date := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified"); len(tag)+len(date) <= maxTag && settled(resp.Header) {
		o.tag, o.modified = tag, date
	}
	var grants cid.Cid
	for p, err := range Opening(resp.Body) {
		if err != nil {
			return nil, err
		}
		switch {
		case p.Kind == transport.PieceRootNote && len(o.notes) < maxNotes:
			o.notes = append(o.notes, p.Data)
		case p.Kind == transport.PieceHead && o.head == nil:
			o.head = p.Data
			o.verify(ch)
			m.keep(ch, o)
		case p.Kind == transport.PieceBlock && p.CID.Equals(o.root):
			if d, err := bundle.ParseDirectory(p.CID, p.Data); err == nil {
				grants = d.Grants
				o = o.with(p)
				m.keep(ch, o)
			}
		case p.Kind == transport.PieceBlock && p.CID.Equals(grants):
			o = o.with(p)
			m.keep(ch, o)
		}
		if !each(p) {
			return nil, errStop
		}
	}
	if o.head == nil {
		return nil, fmt.Errorf("opening: no head in it: %w", transport.ErrNotFound)
	}
	return o, nil
}

// settled reports whether ETag and Last-Modified tell this file from the next
// one. Plain web servers make both of the second in which a file was written: in
// that second the file may change once more without them (RFC 9110, section
// 8.8.2.2).
func settled(h http.Header) bool {
	modified := h.Get("Last-Modified")
	if modified == "" {
		return true
	}
	then, err := http.ParseTime(modified)
	now, err2 := http.ParseTime(h.Get("Date"))
	return err == nil && err2 == nil && now.Sub(then) >= 2*time.Second
}

// verify sees what edition the head is of, if it is sound: only then does the
// mirror's word on it count for anything.
func (o *opening) verify(ch channel.ID) {
	roots, err := channel.ParseRoots(ch, o.notes)
	if err != nil {
		return
	}
	if h, err := roots.Head(o.head); err == nil {
		o.size, o.root = h.Size, h.Root
	}
}

// with returns a copy that holds one folder's block more.
func (o *opening) with(p transport.Piece) *opening {
	c := *o
	c.folders = map[cid.Cid][]byte{p.CID: p.Data}
	for k, b := range o.folders {
		c.folders[k] = b
	}
	return &c
}

func (m *mirror) kept(ch channel.ID) *opening {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[ch]
}

func (m *mirror) keep(ch channel.ID, o *opening) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil || len(m.last) >= maxChannels && m.last[ch] == nil {
		m.last = map[channel.ID]*opening{}
	}
	m.last[ch] = o
}

// isPage reports whether an answer is a page for people: what some hosts show,
// with status 200, for files that they don't have.
func isPage(resp *http.Response) bool {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && t == "text/html"
}
