package bundle

import (
	"errors"
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
	prologue, have := v.Prologues[layer]
	missing := &MissingError{}
	chunks := make([][]byte, last-first+1)
	fetch := func(i int64) ([]byte, error) {
		b, err := v.get(leaves[i])
		var m *MissingError
		if errors.As(err, &m) {
			missing.Wants = append(missing.Wants, m.Wants...)
			return nil, nil
		}
		return b, err
	}
	if !have && first != 0 {
		if prologue, err = fetch(0); err != nil {
			return nil, err
		}
	}
	for i := first; i <= last; i++ {
		b, err := fetch(i)
		if err != nil {
			return nil, err
		}
		if size := leaves[i].Size; b != nil && size != 0 && size != len(b) {
			return nil, fmt.Errorf("%w: a block of another size than its link says", ErrBlock)
		}
		if i == 0 && b != nil {
			if len(b) < PrologueSize {
				return nil, fmt.Errorf("%w: cut off", ErrLayer)
			}
			if !have {
				prologue = b
			}
			b = b[PrologueSize:]
		}
		chunks[i-first] = b
	}
	if len(missing.Wants) > 0 {
		return nil, missing
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
	for i, c := range chunks {
		p, err := u.chunk(first+int64(i), c)
		if err != nil {
			return nil, err
		}
		v.last.Store(&chunk{layer, first + int64(i), p})
		plain = append(plain, p...)
	}
	return within(plain, s, first)
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
