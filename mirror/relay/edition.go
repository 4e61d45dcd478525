package relay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

const (
	// maxNotes and maxBlocks bound what an edition makes the relay remember.
	maxNotes  = 256
	maxBlocks = 1 << 18
)

// span is where a block's bytes lie in the edition's CAR, and their CRC-32C.
type span struct {
	off int64
	len int
	sum uint32
}

// Blocks are hashed when an edition is taken in. When they go out again a CRC tells
// whether the disk has rotted meanwhile, for a fifteenth of SHA-256's price: it
// misses one fault in four billion, and that one the reader finds. Nobody but faults
// is to be found out here: who can write to the disk can send what he likes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func spanOf(b car.Block) span {
	return span{b.Offset, len(b.Data), crc32.Checksum(b.Data, castagnoli)}
}

var errRotten = fmt.Errorf("%w: not what was stored", bundle.ErrBlock)

// check reports whether data is what was stored.
func (s span) check(data []byte) error {
	if len(data) != s.len || crc32.Checksum(data, castagnoli) != s.sum {
		return errRotten
	}
	return nil
}

// edition is one stored edition: its CAR, checked once, and what lies where in
// it. It is immutable.
type edition struct {
	kept    backend
	path    string // of the CAR in kept; "" while it is being checked
	size    int64
	roots   *channel.Roots
	head    *channel.Head
	headCID cid.Cid
	seen    int // how many of the channel's witnesses have cosigned the head
	notes   []cid.Cid
	chain   chain           // of roots
	index   map[string]span // by cid.Cid.KeyString
}

// errBad is wrapped by what is wrong with a CAR itself, as opposed to the disk.
var errBad = errors.New("edition refused")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errBad, fmt.Errorf(format, args...))
}

// readFront reads and checks what a CAR begins with: root notes and head. It
// leaves the reader before the first block of the edition.
func readFront(r *car.Reader, ch channel.ID) (*edition, error) {
	roots := r.Roots()
	if len(roots) < 3 || len(roots) > maxNotes+2 {
		return nil, bad("its header names %d roots", len(roots))
	}
	n := len(roots) - 2
	e := &edition{notes: roots[:n], headCID: roots[n], index: map[string]span{}}
	var notes [][]byte
	for _, want := range roots[:n] {
		data, err := e.take(r, want, channel.MaxRootNote)
		if err != nil {
			return nil, fmt.Errorf("root notes: %w", err)
		}
		notes = append(notes, data)
	}
	var err error
	if e.roots, err = channel.ParseRoots(ch, notes); err != nil {
		return nil, bad("%w", err)
	}
	e.chain = chainOf(e.roots)
	data, err := e.take(r, e.headCID, channel.MaxHead)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if e.head, err = e.roots.Head(data); err != nil {
		return nil, bad("%w", err)
	}
	e.seen = e.roots.Witnessed(e.head).Seen
	if !e.head.Root.Equals(roots[n+1]) {
		return nil, bad("header and head name different editions")
	}
	return e, nil
}

// take reads the next block, which must be want, and raw: with its hash in a CID of
// another codec the news would be here, and no reader would open it.
func (e *edition) take(r *car.Reader, want cid.Cid, limit int) ([]byte, error) {
	b, err := r.Next()
	if err != nil {
		return nil, carError(err)
	}
	if !b.CID.Equals(want) || want.Prefix().Codec != cid.Raw || len(b.Data) > limit {
		return nil, bad("not what the header announces")
	}
	e.index[b.CID.KeyString()] = spanOf(b)
	return bytes.Clone(b.Data), nil
}

// carError tells a bad CAR from a bad disk.
func carError(err error) error {
	for _, of := range []error{car.ErrFormat, car.ErrTorn, bundle.ErrBlock} {
		if errors.Is(err, of) {
			return bad("%w", err)
		}
	}
	if errors.Is(err, io.EOF) {
		return bad("%w", car.ErrTorn)
	}
	return err
}

// readRest checks every block behind the front: its hash (the CAR reader does),
// that it is part of the edition's DAG, and that nothing of the DAG is missing.
func readRest(r *car.Reader, e *edition) error {
	linked, seen := map[string]bool{e.head.Root.KeyString(): true}, map[string]bool{}
	first := true
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return carError(err)
		}
		if first && !b.CID.Equals(e.head.Root) {
			return bad("the edition's directory does not follow its head")
		}
		if len(e.index) >= maxBlocks {
			return bad("more than %d blocks", maxBlocks)
		}
		if first {
			if _, err := bundle.ParseDirectory(b.CID, b.Data); err != nil {
				return bad("directory: %w", err)
			}
			first = false
		}
		// FORMAT.md, section 4: a node before what it links to, each block once. Root
		// notes are there a second time, having come before the head.
		k := b.CID.KeyString()
		if !linked[k] {
			return bad("it holds blocks that are no part of it, or stand before what links to them")
		}
		if seen[k] {
			return bad("it holds a block twice")
		}
		seen[k] = true
		links, err := bundle.Children(bundle.Block{CID: b.CID, Data: b.Data})
		if err != nil {
			return bad("%w", err)
		}
		for _, l := range links {
			linked[l.KeyString()] = true
		}
		if len(linked) > maxBlocks {
			return bad("more than %d links", maxBlocks)
		}
		if _, twice := e.index[k]; !twice {
			e.index[k] = spanOf(b)
		}
	}
	for k := range linked {
		if !seen[k] {
			return bad("blocks are missing")
		}
	}
	return nil
}

// checkEdition checks a whole CAR. accept decides on the head before the rest
// is read.
func checkEdition(f io.ReaderAt, size int64, ch channel.ID, accept func(*edition) error) (*edition, error) {
	r, err := car.NewReader(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, carError(err)
	}
	e, err := readFront(r, ch)
	if err != nil {
		return nil, err
	}
	e.size = size
	if accept != nil {
		if err := accept(e); err != nil {
			return nil, err
		}
	}
	return e, readRest(r, e)
}

// block reads a block of the edition and checks that it is what was stored: disks
// rot, and what a relay serves it answers for. The error is os.ErrNotExist if the
// edition has no such block.
func (e *edition) block(c cid.Cid) ([]byte, error) { return e.blockInto(c, nil) }

// blockInto is block, in buf if it has room.
func (e *edition) blockInto(c cid.Cid, buf []byte) ([]byte, error) {
	s, ok := e.index[c.KeyString()]
	if !ok {
		return nil, os.ErrNotExist
	}
	f, err := e.kept.open(e.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.read(f, buf)
}

// read reads the block that lies there, into buf if it has room, and checks it.
func (s span) read(f io.ReaderAt, buf []byte) ([]byte, error) {
	data := slices.Grow(buf[:0], s.len)[:s.len]
	if _, err := f.ReadAt(data, s.off); err != nil {
		return nil, err
	}
	return data, s.check(data)
}

// The sidecar index: magic, length of the CAR, the head's CID, the blocks, and
// a SHA-256 over all of it. It saves hashing a whole store at each start.
const indexMagic = "tamizdat relay index 2\n"

func (e *edition) marshalIndex() []byte {
	b := []byte(indexMagic)
	b = binary.BigEndian.AppendUint64(b, uint64(e.size))
	b = appendCID(b, e.headCID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.index)))
	for k, s := range e.index {
		b = append(b, byte(len(k)))
		b = append(b, k...)
		b = binary.BigEndian.AppendUint64(b, uint64(s.off))
		b = binary.BigEndian.AppendUint32(b, uint32(s.len))
		b = binary.BigEndian.AppendUint32(b, s.sum)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func appendCID(b []byte, c cid.Cid) []byte {
	return append(append(b, byte(c.ByteLen())), c.Bytes()...)
}

var errIndex = errors.New("index is torn or of another file")

// parseIndex fills e.index from a sidecar that belongs to e's CAR.
func (e *edition) parseIndex(b []byte) error {
	if len(b) < len(indexMagic)+sha256.Size || string(b[:len(indexMagic)]) != indexMagic {
		return errIndex
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return errIndex
	}
	// The checksum is ours: lengths below can be wrong by a bug only, but are
	// checked all the same.
	body = body[len(indexMagic):]
	take := func(n int) []byte {
		if n > len(body) {
			body = nil
			return make([]byte, n)
		}
		out := body[:n]
		body = body[n:]
		return out
	}
	size := int64(binary.BigEndian.Uint64(take(8)))
	head := take(int(take(1)[0]))
	if size != e.size || !bytes.Equal(head, e.headCID.Bytes()) {
		return errIndex
	}
	n := binary.BigEndian.Uint32(take(4))
	if n > maxBlocks+maxNotes+1 {
		return errIndex
	}
	index := make(map[string]span, n)
	for range n {
		k := string(take(int(take(1)[0])))
		s := span{off: int64(binary.BigEndian.Uint64(take(8))), len: int(binary.BigEndian.Uint32(take(4))), sum: binary.BigEndian.Uint32(take(4))}
		if s.off < 0 || s.len > bundle.MaxBlock || s.off+int64(s.len) > size {
			return errIndex
		}
		index[k] = s
	}
	if len(body) != 0 || len(index) != int(n) {
		return errIndex
	}
	e.index = index
	return nil
}
