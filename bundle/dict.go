package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"tamizdat/bundle/channel"
)

// MaxDictionary is the largest dictionary in bytes, as zstd takes it: a little more
// than what `zstd --train` makes unless told otherwise. Over DNS its file is as many
// queries as it has kilobytes.
const MaxDictionary = 128 << 10

// The first and last ID of dictionaries: in this range RFC 8878 leaves IDs to
// everybody, and a frame says them in two bytes.
const (
	firstDictID = 32768
	lastDictID  = 65535
)

// Dictionary is a zstd dictionary (RFC 8878, section 5) that texts are compressed
// with. It holds pieces of articles, so it is never stored or sent in the clear
// but on the publisher's own disk. It may be used at once.
type Dictionary struct {
	id      uint32
	data    []byte
	decoder *zstd.Decoder
}

// ErrDictionary is wrapped by every refusal of a dictionary's bytes.
var ErrDictionary = errors.New("dictionary refused")

// ParseDictionary takes a dictionary's bytes, which it keeps; at most MaxDictionary.
func ParseDictionary(data []byte) (*Dictionary, error) {
	if len(data) > MaxDictionary {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrDictionary, MaxDictionary)
	}
	// What has no magic number zstd takes for content alone.
	if len(data) < 8 || binary.LittleEndian.Uint32(data) != dictMagic {
		return nil, fmt.Errorf("%w: not a zstd dictionary", ErrDictionary)
	}
	id := binary.LittleEndian.Uint32(data[4:])
	if id < firstDictID || id > lastDictID {
		return nil, fmt.Errorf("%w: ID out of range", ErrDictionary)
	}
	r, err := newDecoder(maxLine, zstd.WithDecoderDicts(data))
	if err != nil {
		return nil, fmt.Errorf("%w: malformed", ErrDictionary)
	}
	return &Dictionary{id: id, data: data, decoder: r}, nil
}

const dictMagic = 0xEC30A437

// ID is the number that a frame names the dictionary by.
func (d *Dictionary) ID() uint32 { return d.id }

// Bytes are the dictionary as `zstd -D` takes it. They must not be changed.
func (d *Dictionary) Bytes() []byte { return d.data }

// encoder compresses with the dictionary, otherwise as compress does.
func (d *Dictionary) encoder() (*zstd.Encoder, error) {
	return newEncoder(zstd.WithEncoderDict(d.data))
}

// decompress opens exactly one zstd frame that names the dictionary and says how
// large its content is, at most maxLine bytes.
func (d *Dictionary) decompress(frame []byte) ([]byte, error) {
	n, h, err := frameSize(frame)
	switch {
	case err != nil:
		return nil, err
	case n != len(frame):
		return nil, fmt.Errorf("%w: bytes after the frame", ErrLayer)
	case h.DictionaryID != d.id:
		return nil, fmt.Errorf("%w: frame of another dictionary", ErrLayer)
	case !h.HasFCS || h.FrameContentSize > maxLine:
		return nil, fmt.Errorf("%w: frame of unknown or too large content", ErrLayer)
	}
	out, err := d.decoder.DecodeAll(frame, nil)
	if err != nil || len(out) > maxLine {
		return nil, fmt.Errorf("%w: damaged or oversized frame", ErrLayer)
	}
	return out, nil
}

// DictFile is the dict.age of an edition.
type DictFile struct {
	// Edition is the one that it was made for, Epoch that one's epoch: they give its
	// passphrase.
	Edition, Epoch uint64
	File           []byte
}

// OpenDictionary decrypts and reads a dictionary. file is the whole dict.age,
// checked against its CIDs already; edition the one that it was made for. Errors
// wrap ErrLayer or ErrDictionary.
func OpenDictionary(key channel.EpochKey, ch channel.ID, edition uint64, file []byte) (*Dictionary, error) {
	data, err := openFrame(Passphrase(key, ch, edition, LayerDict), file, MaxDictionary)
	if err != nil {
		return nil, err
	}
	return ParseDictionary(data)
}

// dictionary is the one that the edition's texts need.
func (v *Volume) dictionary() (*Dictionary, error) {
	if d := v.opened.Load(); d != nil {
		return d, nil
	}
	leaves, ok, err := v.Layer(LayerDict)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: the edition has no %s", ErrFront, LayerDict)
	}
	// Before a gigabyte is asked for.
	if n := len(leaves); n == 0 || leaves[n-1].Offset >= min(v.Dict.Size, maxDictFile) {
		return nil, fmt.Errorf("%w: a larger %s than the front page says", ErrFront, LayerDict)
	}
	file, err := v.join(leaves, maxDictFile)
	if err != nil {
		return nil, err
	}
	if int64(len(file)) != v.Dict.Size {
		return nil, fmt.Errorf("%w: another %s than the front page says", ErrFront, LayerDict)
	}
	d, err := OpenDictionary(v.Key, v.Channel, v.Dict.Edition, file)
	if err == nil {
		v.opened.Store(d)
	}
	return d, err
}

// maxDictFile bounds a dict.age: a dictionary that does not compress, encrypted and
// padded.
const maxDictFile = 2 * MaxDictionary

// DictionaryUses is in how many editions a dictionary is thought to be used. Each
// must save its part of the file that the first one brings; a reader who joins late
// fetches the file once, and then saves with every edition of the window.
const DictionaryUses = 8

// smaller reports whether an edition whose texts take so many bytes is better off
// with the dictionary; file is the size of a new dict.age, 0 if an edition before
// brought it.
func smaller(with, without, file int) bool {
	return padme(with)+file/DictionaryUses < padme(without)
}

// holds reports whether the file is of this dictionary and epoch.
func (f *DictFile) holds(d *Dictionary, in *Input) bool {
	if f == nil || f.Epoch != in.Epoch || f.Edition >= in.Edition {
		return false
	}
	held, err := OpenDictionary(in.Key, in.Channel, f.Edition, f.File)
	return err == nil && bytes.Equal(held.data, d.data)
}

// dictID derives an ID from a dictionary's content, so that two have the same one
// seldom, and the same one always.
func dictID(content []byte) uint32 {
	sum := sha256.Sum256(content)
	return firstDictID + uint32(binary.BigEndian.Uint16(sum[:]))%(lastDictID-firstDictID+1)
}
