package relay

import (
	"bytes"
	"sync"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

const (
	// maxSection is a block as it lies in a CAR, with its length and CID.
	maxSection = bundle.MaxBlock + 64
	// runBytes is how much of an edition's file is read at once.
	runBytes = 4 * maxSection
	// maxRuns is how many clients at once may each take up a buffer of runBytes, 64
	// MiB in all. Those beyond get their blocks one by one: a slow reader keeps what
	// was read for him.
	maxRuns = 256
)

// buffers lends memory for what is on its way from disk to client: else every
// block served would be 64 KiB for the garbage collector. It takes back what was not
// clean by forgetting it: after a write that failed net/http may still be sending it
// (HTTP/2). The zero value works.
type buffers struct {
	ones, runs sync.Pool

	mu   sync.Mutex
	lent int // of runs
}

// one lends room for a section.
func (b *buffers) one() (buf []byte, done func(clean bool)) {
	p, ok := b.ones.Get().(*[maxSection]byte)
	if !ok {
		p = new([maxSection]byte)
	}
	return p[:], func(clean bool) {
		if clean {
			b.ones.Put(p)
		}
	}
}

// run lends room for several sections, if there is any left.
func (b *buffers) run() (buf []byte, done func(clean bool)) {
	if !b.enter() {
		return b.one()
	}
	p, ok := b.runs.Get().(*[runBytes]byte)
	if !ok {
		p = new([runBytes]byte)
	}
	return p[:], func(clean bool) {
		if clean {
			b.runs.Put(p)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lent--
	}
}

func (b *buffers) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lent >= maxRuns {
		return false
	}
	b.lent++
	return true
}

// sections calls put with the sections of a CAR that hold these blocks, in their
// order, some at a time. In an edition's own file neighbours lie side by side in just
// this form, so they are read together and go out as they are, each block checked as
// in Block, and so is what stands before it. What put gets is good until it returns. The error is that of Block, or put's.
func (s *Store) sections(ch channel.ID, cs []cid.Cid, put func([]byte) error) error {
	buf, done := s.buffers.run()
	clean := true
	defer func() { done(clean) }()
	r := &runReader{editions: s.snapshot(ch)}
	defer r.close()
	for len(cs) > 0 {
		n, out := r.read(cs, buf)
		if n == 0 { // lying otherwise, or rotten; another edition may have it
			data, err := s.Block(ch, cs[0])
			if err != nil {
				return err
			}
			n, out = 1, append(car.AppendStart(buf[:0], cs[0], len(data)), data...)
		}
		clean = false // also when it panics
		if err := put(out); err != nil {
			return err
		}
		clean = true
		cs = cs[n:]
	}
	return nil
}

// runReader reads neighbours from editions' files, and keeps the last one open.
type runReader struct {
	editions []*edition
	of       *edition
	file     blob
}

func (r *runReader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// read reads as many of the first blocks as lie side by side and as buf has room
// for; 0 if the first one can't be had in this way.
func (r *runReader) read(cs []cid.Cid, buf []byte) (n int, out []byte) {
	for _, e := range r.editions {
		from, to, n := e.side(cs, int64(len(buf)))
		if n == 0 || !r.open(e) {
			continue
		}
		out := buf[:to-from]
		if _, err := r.file.ReadAt(out, from); err != nil {
			continue
		}
		if n, size := sound(cs[:n], out, e.index); n > 0 {
			return n, out[:size]
		}
	}
	return 0, nil
}

// open makes e's file the one that is open.
func (r *runReader) open(e *edition) bool {
	if r.of == e {
		return true
	}
	r.close()
	var err error
	r.of, r.file = e, nil
	if r.file, err = e.kept.open(e.path); err != nil {
		r.of, r.file = nil, nil
	}
	return err == nil
}

// side is where the sections of the first n blocks lie in the file, which together
// have at most room bytes.
func (e *edition) side(cs []cid.Cid, room int64) (from, to int64, n int) {
	for i, c := range cs {
		at, ok := e.index[c.KeyString()]
		start := at.off - startSize(c, at.len)
		if i == 0 {
			from, to = start, start
		}
		end := at.off + int64(at.len)
		if !ok || start != to || start < 0 || end-from > room {
			return from, to, i
		}
		to = end
	}
	return from, to, len(cs)
}

func startSize(c cid.Cid, size int) int64 {
	return int64(len(car.AppendStart(make([]byte, 0, 64), c, size)))
}

// sound is how many of these sections are what they should be, byte for byte, and
// how many bytes they have.
func sound(cs []cid.Cid, b []byte, index map[string]span) (n, size int) {
	var room [64]byte
	for _, c := range cs {
		at := index[c.KeyString()]
		start := car.AppendStart(room[:0], c, at.len)
		data, ok := bytes.CutPrefix(b[size:], start)
		if !ok || at.check(data[:at.len]) != nil {
			break
		}
		n, size = n+1, size+len(start)+at.len
	}
	return n, size
}
