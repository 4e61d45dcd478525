// Package car reads and writes an edition as one CARv1 file, the form in which
// it travels on a stick, in a mail, and to a relay.
//
// The header's roots name, in this order, the root notes from some version on,
// the head in text form (raw blocks all of them), and the edition's directory.
// The blocks come in the same order, so that a receiver can check the keys,
// then the head, then every block below it while reading, and can stop at the
// first thing that is wrong:
//
//	root notes | head | directory | front page | all other blocks
//
// A relay's opening answer is such a file too: it ends after the front page and
// may carry one grant (a raw block of 4,096 or 8,192 bytes) between head and
// directory. Stock tools read these files (`ipfs dag import`).
package car

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

const (
	maxHeader = 64 << 10
	// maxSection is a block and its CID.
	maxSection = bundle.MaxBlock + 64
	maxRoots   = 1000
)

var (
	// ErrTorn means that the file ends in the middle.
	ErrTorn = errors.New("CAR file is cut off")
	// ErrFormat is wrapped by all other refusals.
	ErrFormat = errors.New("not a CAR file of an edition")
)

// Block is one block and where its bytes start in the file.
type Block struct {
	CID    cid.Cid
	Data   []byte
	Offset int64
}

// Reader reads a CARv1 stream block by block and checks each one's hash. It
// holds one block at a time.
type Reader struct {
	in    *counter
	r     *carv2.BlockReader
	end   int64
	intro bool
}

// counter knows how many bytes were consumed past its buffer.
type counter struct {
	*bufio.Reader
	n    int64
	err  error         // of the reader below, io.EOF aside
	head *bytes.Buffer // takes what is read, as long as that is the header
}

func (c *counter) keep(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		c.err = err
	}
	return err
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if c.head != nil {
		c.head.Write(p[:n])
	}
	return n, c.keep(err)
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
		if c.head != nil {
			c.head.WriteByte(b)
		}
	}
	return b, c.keep(err)
}

// pragma begins a CARv2 file: a form that we neither write nor read, and whose
// offsets a hostile file could make anything of.
var pragma = []byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02}

// headerStart begins the header of every CARv1 file: a map of "roots" and "version".
var headerStart = []byte("\xa2\x65roots")

// NewReader reads the header: at most 64 KiB.
func NewReader(r io.Reader) (*Reader, error) {
	in := &counter{Reader: bufio.NewReaderSize(r, 128<<10), head: &bytes.Buffer{}}
	start, err := in.Peek(len(pragma))
	switch {
	case len(start) == 0 && err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case len(start) < len(pragma):
		return nil, fmt.Errorf("%w: too short", ErrFormat)
	case bytes.Equal(start, pragma):
		return nil, fmt.Errorf("%w: CAR version 2 instead of 1", ErrFormat)
	case !bytes.Contains(start, headerStart):
		return nil, fmt.Errorf("%w: no header", ErrFormat)
	}
	// Trusted: bundle.CheckBlock checks hashes, and of the one kind we allow.
	br, err := carv2.NewBlockReader(in, carv2.WithTrustedCAR(true),
		carv2.MaxAllowedHeaderSize(maxHeader), carv2.MaxAllowedSectionSize(maxSection))
	if err != nil && in.err != nil {
		return nil, in.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, ErrTorn
	}
	if err != nil || br.Version != 1 || len(br.Roots) > maxRoots {
		return nil, fmt.Errorf("%w: malformed header", ErrFormat)
	}
	for _, c := range br.Roots {
		if err := bundle.CheckCID(c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
	}
	// The library takes other CBOR of the same meaning.
	var head bytes.Buffer
	if _, err := NewWriter(&head, br.Roots); err != nil || !bytes.Equal(head.Bytes(), in.head.Bytes()) {
		return nil, fmt.Errorf("%w: header not in its one form", ErrFormat)
	}
	in.head = nil
	return &Reader{in: in, r: br, end: in.n}, nil
}

// Roots are the header's roots.
func (r *Reader) Roots() []cid.Cid { return r.r.Roots }

// Next returns the next block, its hash checked. io.EOF at a clean end, ErrTorn
// at any other, an error wrapping ErrFormat or bundle.ErrBlock for bytes that
// are wrong, and the underlying reader's own errors.
func (r *Reader) Next() (Block, error) {
	b, err := r.r.Next()
	switch {
	case err != nil && r.in.err != nil: // a bad disk or connection, not a bad file
		return Block{}, r.in.err
	case errors.Is(err, io.EOF) && r.in.n == r.end:
		return Block{}, io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Block{}, ErrTorn
	case err != nil:
		return Block{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	data := b.RawData()
	r.end = r.in.n
	if err := bundle.CheckBlock(b.Cid(), data); err != nil {
		return Block{}, err
	}
	return Block{CID: b.Cid(), Data: data, Offset: r.end - int64(len(data))}, nil
}

// End is the offset after the last block read: up to here the file is whole.
func (r *Reader) End() int64 { return r.end }

// Intro is how an edition's file begins.
type Intro struct {
	// RootNotes are signed notes in version order, perhaps not from version 1.
	RootNotes [][]byte
	// Head is in text form, not verified.
	Head []byte
	// Root is the edition's directory by the header; what counts is the head's.
	Root cid.Cid
}

// Intro reads root notes and head. It must come before the first Next. Nothing
// is verified but hashes.
func (r *Reader) Intro() (*Intro, error) {
	roots := r.Roots()
	if r.intro || len(roots) < 2 {
		return nil, fmt.Errorf("%w: no head", ErrFormat)
	}
	r.intro = true
	in := &Intro{Root: roots[len(roots)-1]}
	for i, want := range roots[:len(roots)-1] {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, ErrTorn
		}
		if err != nil {
			return nil, err
		}
		limit := channel.MaxRootNote
		if i == len(roots)-2 {
			limit = channel.MaxHead
		}
		if !b.CID.Equals(want) || b.CID.Prefix().Codec != cid.Raw || len(b.Data) > limit {
			return nil, fmt.Errorf("%w: root notes and head don't come first", ErrFormat)
		}
		if i == len(roots)-2 {
			in.Head = b.Data
		} else {
			in.RootNotes = append(in.RootNotes, b.Data)
		}
	}
	return in, nil
}

// Writer writes a CARv1 stream.
type Writer struct{ w io.Writer }

// NewWriter writes the header.
func NewWriter(w io.Writer, roots []cid.Cid) (*Writer, error) {
	node, err := qp.BuildMap(basicnode.Prototype.Map, 2, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "roots", qp.List(int64(len(roots)), func(l datamodel.ListAssembler) {
			for _, c := range roots {
				qp.ListEntry(l, qp.Link(cidlink.Link{Cid: c}))
			}
		}))
		qp.MapEntry(m, "version", qp.Int(1))
	})
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	if err := dagcbor.Encode(node, &head); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary.AppendUvarint(nil, uint64(head.Len()))); err != nil {
		return nil, err
	}
	_, err = head.WriteTo(w)
	return &Writer{w}, err
}

// Continue adds blocks behind those of a whole CARv1 file.
func Continue(w io.Writer) *Writer { return &Writer{w} }

// Put writes one block: its length, CID and bytes (a CARv1 section).
func (w *Writer) Put(c cid.Cid, data []byte) error {
	if _, err := w.w.Write(AppendStart(nil, c, len(data))); err != nil {
		return err
	}
	_, err := w.w.Write(data)
	return err
}

// AppendStart appends what stands before the bytes of a block of so many: their
// length together with the CID's, and the CID.
func AppendStart(to []byte, c cid.Cid, size int) []byte {
	return append(binary.AppendUvarint(to, uint64(c.ByteLen()+size)), c.Bytes()...)
}

// NewEdition writes header, root notes and head; the directory's block and the
// others must follow by Put.
func NewEdition(w io.Writer, in Intro) (*Writer, error) {
	var roots []cid.Cid
	intro := append(append([][]byte{}, in.RootNotes...), in.Head)
	for _, b := range intro {
		roots = append(roots, bundle.RawCID(b))
	}
	out, err := NewWriter(w, append(roots, in.Root))
	if err != nil {
		return nil, err
	}
	for i, b := range intro {
		if err := out.Put(roots[i], b); err != nil {
			return nil, err
		}
	}
	return out, nil
}
