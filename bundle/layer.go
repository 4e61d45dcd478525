package bundle

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"tamizdat/bundle/channel"
)

// Sizes of an age v1 file as layers use it (age-encryption.org/v1).
const (
	// HeaderSize is the length of a header with one scrypt stanza of work
	// factor 1: any other length is refused before any work.
	HeaderSize = 149
	nonceSize  = 16
	// PrologueSize is header and nonce: with it, any chunk can be decrypted
	// without the layer's first block.
	PrologueSize = HeaderSize + nonceSize
	chunkSize    = 64 << 10
	chunkTag     = chacha20poly1305.Overhead
	sealedChunk  = chunkSize + chunkTag
	firstBlock   = PrologueSize + sealedChunk

	// MaxBlock is the largest block of an edition in bytes.
	MaxBlock = firstBlock
	// MaxLayer bounds the size of one layer's file.
	MaxLayer = 1 << 30

	workFactor = 1
)

// ErrLayer is wrapped by every refusal of a layer's bytes.
var ErrLayer = errors.New("layer refused")

// Passphrase is what opens a layer with stock age: base64url of 32 bytes
// derived from the epoch key, the channel, the edition and the layer's name, so
// that no layer can stand in for another.
func Passphrase(key channel.EpochKey, ch channel.ID, edition uint64, layer string) string {
	info := append([]byte("tamizdat/v1/layer\n"), ch[:]...)
	info = binary.BigEndian.AppendUint64(info, edition)
	info = append(info, layer...)
	b, err := hkdf.Key(sha256.New, key[:], nil, string(info), 32)
	if err != nil {
		panic(err) // only for lengths out of range
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// seal encrypts a layer's padded plaintext as one age file.
func seal(plain []byte, passphrase string) ([]byte, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	// The passphrase has 256 bits of entropy: stretching protects nothing.
	r.SetWorkFactor(workFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if len(plain) > 0 && int64(out.Len()) != sealedSize(int64(len(plain))) {
		return nil, fmt.Errorf("age file of %d bytes for %d", out.Len(), len(plain))
	}
	return out.Bytes(), nil
}

// sealedSize is the size of the age file of n bytes.
func sealedSize(n int64) int64 {
	chunks := max(1, (n+chunkSize-1)/chunkSize)
	return PrologueSize + n + chunks*chunkTag
}

// unsealer decrypts the chunks of one age file one by one, from the blocks at
// hand: age's own readers would need the first and the last block for any byte.
type unsealer struct {
	aead cipher.AEAD
	last int64 // index of the last chunk
}

// newUnsealer checks the header before any work: exactly one scrypt stanza of
// work factor 1. size is that of the whole age file.
func newUnsealer(prologue []byte, passphrase string, size int64) (*unsealer, error) {
	if len(prologue) < PrologueSize || !plainHeader(prologue[:HeaderSize]) {
		return nil, fmt.Errorf("%w: not one scrypt stanza of work factor 1", ErrLayer)
	}
	if size <= PrologueSize+chunkTag || size > MaxLayer {
		return nil, fmt.Errorf("%w: size out of range", ErrLayer)
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	id.SetMaxWorkFactor(workFactor)
	fileKey, err := age.DecryptHeader(prologue[:HeaderSize], id)
	if err != nil {
		return nil, fmt.Errorf("%w: wrong key", ErrLayer)
	}
	key, err := hkdf.Key(sha256.New, fileKey, prologue[HeaderSize:PrologueSize], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, err
	}
	return &unsealer{aead: aead, last: (size - PrologueSize - 1) / sealedChunk}, nil
}

// plainHeader reports whether h has the shape of the one header that layers
// have, by the fixed places of its lines.
func plainHeader(h []byte) bool {
	const intro, args = "age-encryption.org/v1\n-> scrypt ", " 1\n"
	body := len(intro) + 22 + len(args)
	mac := body + 43 + len("\n--- ")
	return len(h) == HeaderSize && string(h[:len(intro)]) == intro && string(h[len(intro)+22:body]) == args &&
		string(h[body+43:mac]) == "\n--- " && bytes.Count(h, []byte{'\n'}) == 4 && h[HeaderSize-1] == '\n'
}

// chunk decrypts chunk i of the STREAM construction: the nonce is an 11-byte
// counter and a byte that marks the last chunk, so a cut file does not pass.
func (u *unsealer) chunk(i int64, sealed []byte) ([]byte, error) {
	var nonce [chacha20poly1305.NonceSize]byte
	binary.BigEndian.PutUint64(nonce[3:11], uint64(i))
	if i == u.last {
		nonce[11] = 1
	}
	plain, err := u.aead.Open(nil, nonce[:], sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %d does not decrypt", ErrLayer, i)
	}
	switch {
	case i != u.last && len(plain) != chunkSize, len(plain) > chunkSize:
		return nil, fmt.Errorf("%w: chunk of another size", ErrLayer)
	case len(plain) == 0 && i > 0: // age-encryption.org/v1: only an empty file ends so
		return nil, fmt.Errorf("%w: empty last chunk", ErrLayer)
	}
	return plain, nil
}

// openFrame decrypts a whole layer that is one zstd frame, padded, of at most limit
// bytes of content.
func openFrame(passphrase string, file []byte, limit int) ([]byte, error) {
	u, err := newUnsealer(file, passphrase, int64(len(file)))
	if err != nil {
		return nil, err
	}
	var plain []byte
	rest := file[PrologueSize:]
	for i := range u.last + 1 {
		n := min(len(rest), sealedChunk)
		c, err := u.chunk(i, rest[:n])
		if err != nil {
			return nil, err
		}
		plain, rest = append(plain, c...), rest[n:]
	}
	n, _, err := frameSize(plain)
	if err != nil {
		return nil, err
	}
	if err := unpadded(plain[n:]); err != nil {
		return nil, err
	}
	return decompress(plain[:n], limit)
}

// The plaintext sizes of small fronts: their age files are 4, 8 and 16 KiB.
var frontSizes = []int{3915, 8011, 16203}

// pad appends the final zero-filled zstd skippable frame (RFC 8878, 3.1.2),
// which stock tools skip. It needs 8 bytes at least, so a gap of 1 to 7 takes
// the next size.
func pad(plain []byte, layer string) []byte {
	size := paddedSize(len(plain), layer)
	for gap := size - len(plain); gap > 0 && gap < skippableHeader; gap = size - len(plain) {
		size = paddedSize(size+1, layer)
	}
	gap := size - len(plain)
	if gap == 0 {
		return plain
	}
	plain = binary.LittleEndian.AppendUint32(plain, skippableMagic)
	plain = binary.LittleEndian.AppendUint32(plain, uint32(gap-skippableHeader))
	return append(plain, make([]byte, gap-skippableHeader)...)
}

const (
	skippableMagic  = 0x184D2A50
	skippableHeader = 8
)

func paddedSize(n int, layer string) int {
	if layer == LayerFront {
		for _, s := range frontSizes {
			if n <= s {
				return s
			}
		}
	}
	return padme(n)
}

// padme rounds n up so that its size leaks O(log log n) bits, at a cost of at
// most 12 % for tiny and about 3 % for real sizes (Padmé, PURBs paper, 2019).
func padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<max(0, e-s) - 1
	return (n + mask) &^ mask
}

// unpadded checks that what follows the last frame is one zero-filled
// skippable frame or nothing.
func unpadded(tail []byte) error {
	if len(tail) == 0 {
		return nil
	}
	if len(tail) < skippableHeader || binary.LittleEndian.Uint32(tail) != skippableMagic ||
		int64(binary.LittleEndian.Uint32(tail[4:])) != int64(len(tail)-skippableHeader) {
		return fmt.Errorf("%w: malformed padding", ErrLayer)
	}
	for _, b := range tail[skippableHeader:] {
		if b != 0 {
			return fmt.Errorf("%w: padding is not zero", ErrLayer)
		}
	}
	return nil
}
