package bundle

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// encoder is made once, when first asked for: it clears tens of megabytes for itself,
// which for small frames costs more than compressing them. EncodeAll may be called at
// once.
//
// A goroutine as old as the program makes it. An encoder has a channel inside, and a
// channel that is made in a test's bubble (testing/synctest) is of no use outside: with
// whoever comes first as its maker, it would hang on the order of tests who may pack.
var encoder = func() func() *zstd.Encoder {
	asked, made := make(chan struct{}), make(chan *zstd.Encoder)
	go func() {
		<-asked
		w, err := newEncoder()
		if err != nil {
			panic(err) // only for options that contradict each other
		}
		w.EncodeAll([]byte{0}, nil) // which makes its channel
		made <- w
	}()
	return sync.OnceValue(func() *zstd.Encoder {
		close(asked)
		return <-made
	})
}()

// newEncoder makes an encoder of one goroutine: frames are small and Pack
// compresses one after another.
func newEncoder(more ...zstd.EOption) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, append(more, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))...)
}

// compress makes one zstd frame (RFC 8878). No checksum: age authenticates.
func compress(b []byte) []byte { return encoder().EncodeAll(b, nil) }

// decoders are kept by their limits, since to make one takes longer than most texts.
// They are made at the start: one that is made in a test's bubble (testing/synctest) is
// of no use outside. DecodeAll may be called at once.
var decoders = func() map[int]*zstd.Decoder {
	made := map[int]*zstd.Decoder{}
	for _, limit := range []int{maxFrontJSON, maxLine, maxImage + 4096, MaxDictionary} {
		d, err := newDecoder(limit)
		if err != nil {
			panic(err) // only for options that contradict each other
		}
		made[limit] = d
	}
	return made
}()

func newDecoder(limit int, more ...zstd.DOption) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, append(more, zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderLowmem(true))...)
}

// decompress opens exactly one zstd frame of at most limit bytes of content that
// needs no dictionary.
func decompress(frame []byte, limit int) ([]byte, error) {
	n, h, err := frameSize(frame)
	switch {
	case err != nil:
		return nil, err
	case n != len(frame):
		return nil, fmt.Errorf("%w: bytes after the frame", ErrLayer)
	case h.DictionaryID != 0:
		return nil, fmt.Errorf("%w: frame of a dictionary that nobody named", ErrLayer)
	}
	r := decoders[limit]
	if r == nil {
		if r, err = newDecoder(limit); err != nil {
			return nil, err
		}
		defer r.Close()
	}
	out, err := r.DecodeAll(frame, nil)
	if err != nil || len(out) > limit {
		return nil, fmt.Errorf("%w: damaged or oversized frame", ErrLayer)
	}
	return out, nil
}

// frameSize is the length of the zstd frame at the start of b, and what its header
// says.
func frameSize(b []byte) (size int, h zstd.Header, err error) {
	if err := h.Decode(b); err != nil || h.Skippable {
		return 0, h, fmt.Errorf("%w: not a zstd frame", ErrLayer)
	}
	at := h.HeaderSize
	for {
		if at+3 > len(b) {
			return 0, h, fmt.Errorf("%w: frame cut off", ErrLayer)
		}
		block := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last, kind, size := block&1 == 1, block>>1&3, block>>3
		at += 3
		switch kind {
		case 0, 2: // raw, compressed
			at += size
		case 1: // one byte repeated
			at++
		default:
			return 0, h, fmt.Errorf("%w: malformed frame", ErrLayer)
		}
		if last {
			break
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	if at > len(b) {
		return 0, h, errors.Join(ErrLayer, errors.New("frame cut off"))
	}
	return at, h, nil
}
