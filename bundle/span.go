package bundle

import (
	"bytes"
	"fmt"
)

// Span is a stretch of a layer's plaintext in bytes: one zstd frame.
type Span struct {
	Offset int64 `json:"o"`
	Size   int64 `json:"n"`
}

func (s Span) check() error {
	if s.Offset < 0 || s.Size <= 0 || s.Offset > MaxLayer || s.Size > maxSpan {
		return fmt.Errorf("%w: span out of range", ErrFront)
	}
	return nil
}

// chunk is a decrypted one. Texts are short, and the next one to be read lies in the
// same chunk as a rule: without it each would cost the fetching, hashing and
// decrypting of 64 KiB.
type chunk struct {
	layer string
	index int64
	plain []byte
}

// read decrypts one span of a layer's plaintext.
func (v *Volume) read(layer string, s Span) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	first, last := s.Offset/chunkSize, (s.Offset+s.Size-1)/chunkSize
	if c := v.last.Load(); c != nil && c.layer == layer && first == c.index && last == c.index {
		return within(c.plain, s, first)
	}
	leaves, ok, err := v.Layer(layer)
	if err != nil {
		return nil, err
	}
	if !ok || len(leaves) == 0 {
		return nil, fmt.Errorf("%w: the edition has no %s", ErrFront, layer)
	}
	if last >= int64(len(leaves)) {
		return nil, fmt.Errorf("%w: span past the layer's end", ErrFront)
	}
	prologue, sealed, err := v.sealedChunks(layer, leaves, first, last)
	if err != nil {
		return nil, err
	}
	size, err := v.fileSize(leaves)
	if err != nil {
		return nil, err
	}
	u, err := newUnsealer(prologue, Passphrase(v.Key, v.Channel, v.Edition, layer), size)
	if err != nil {
		return nil, err
	}
	var plain []byte
	for i, c := range sealed {
		p, err := u.chunk(first+int64(i), c)
		if err != nil {
			return nil, err
		}
		v.last.Store(&chunk{layer, first + int64(i), p})
		plain = append(plain, p...)
	}
	return within(plain, s, first)
}

// sealedChunks returns chunks first to last of a layer as they are encrypted, and the
// prologue that opens them: if no front page gave it, the first block is needed too.
// All that is missing is named at once.
func (v *Volume) sealedChunks(layer string, leaves []Want, first, last int64) (prologue []byte, chunks [][]byte, err error) {
	missing := &MissingError{}
	get := func(i int64) ([]byte, error) {
		b, err := v.get(leaves[i])
		return b, missing.gather(err)
	}
	prologue, have := v.Prologues[layer]
	if !have && first != 0 {
		if prologue, err = get(0); err != nil {
			return nil, nil, err
		}
	}
	for i := first; i <= last; i++ {
		b, err := get(i)
		if err != nil {
			return nil, nil, err
		}
		if size := leaves[i].Size; b != nil && size != 0 && size != len(b) {
			return nil, nil, fmt.Errorf("%w: a block of another size than its link says", ErrBlock)
		}
		if i == 0 && b != nil {
			if len(b) < PrologueSize {
				return nil, nil, fmt.Errorf("%w: cut off", ErrLayer)
			}
			if err := v.begins(layer, b); err != nil {
				return nil, nil, err
			}
			if !have {
				prologue = b
			}
			b = b[PrologueSize:]
		}
		chunks = append(chunks, b)
	}
	return prologue, chunks, missing.orNil()
}

// begins checks that a layer's first block begins with the prologue that the front page
// names, if one did: stock age reads the file's own, and one edition would have two
// readings. A chunk may open with both.
func (v *Volume) begins(layer string, block []byte) error {
	if prologue, have := v.Prologues[layer]; have && !bytes.HasPrefix(block, prologue) {
		return fmt.Errorf("%w: another prologue than the front page names", ErrLayer)
	}
	return nil
}

// within cuts a span out of the chunks that it lies in, which begin with the first.
func within(plain []byte, s Span, first int64) ([]byte, error) {
	from := s.Offset - first*chunkSize
	if from+s.Size > int64(len(plain)) {
		return nil, fmt.Errorf("%w: span past the layer's end", ErrFront)
	}
	return plain[from : from+s.Size : from+s.Size], nil
}

// fileSize is the size of a layer's file. A file of one block doesn't say its
// size in any link.
func (v *Volume) fileSize(leaves []Want) (int64, error) {
	if len(leaves) == 1 {
		b, err := v.get(leaves[0])
		return int64(len(b)), err
	}
	last := leaves[len(leaves)-1]
	return last.Offset + int64(last.Size), nil
}
