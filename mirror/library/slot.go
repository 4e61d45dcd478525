package library

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"tamizdat/internal/durable"
)

// The key slot is 128 bytes:
//
//	 0  version, 1
//	 1  argon2id passes
//	 2  argon2id lanes
//	 3  zero
//	 4  argon2id memory in KiB, 4 bytes, big endian
//	 8  salt, 16 bytes
//	24  nonce, 24 bytes
//	48  the data key under XChaCha20-Poly1305, 32 + 16 bytes;
//	    additional data: bytes 0 to 24
//	96  SHA-256 of bytes 0 to 96
//
// The hash adds no secrecy. It tells a damaged slot from a wrong passphrase, two
// things that want opposite advice.
const (
	slotSize    = 128
	slotVersion = 1
	saltAt      = 8
	nonceAt     = 24
	sealedAt    = 48
	sumAt       = 96
)

// kdfCost is what argon2id may spend on a guess at the passphrase.
type kdfCost struct {
	passes, lanes uint8
	memory        uint32 // KiB
}

// defaultCost is RFC 9106's second recommended option: 64 MiB, three passes,
// four lanes.
var defaultCost = kdfCost{passes: 3, lanes: 4, memory: 64 << 10}

// maxMemory bounds what a slot may ask for, in KiB: a hostile one must not
// take the machine down before its authenticity is known.
const maxMemory = 1 << 20

func (c kdfCost) key(passphrase, salt []byte) []byte {
	return argon2.IDKey(passphrase, salt, uint32(c.passes), c.memory, c.lanes, chacha20poly1305.KeySize)
}

func sealSlot(key, passphrase []byte, c kdfCost) ([]byte, error) {
	s := make([]byte, sealedAt, slotSize)
	s[0], s[1], s[2] = slotVersion, c.passes, c.lanes
	binary.BigEndian.PutUint32(s[4:], c.memory)
	copy(s[saltAt:], randomBytes(sealedAt-saltAt))
	aead, err := chacha20poly1305.NewX(c.key(passphrase, s[saltAt:nonceAt]))
	if err != nil {
		return nil, err
	}
	s = aead.Seal(s, s[nonceAt:sealedAt], key, s[:nonceAt])
	sum := sha256.Sum256(s)
	return append(s, sum[:]...), nil
}

func openSlot(s, passphrase []byte) ([]byte, error) {
	if len(s) != slotSize {
		return nil, fmt.Errorf("%w: its key slot has the wrong size", ErrDamaged)
	}
	if sum := sha256.Sum256(s[:sumAt]); [sha256.Size]byte(s[sumAt:]) != sum {
		return nil, fmt.Errorf("%w: its key slot has changed", ErrDamaged)
	}
	if s[0] != slotVersion {
		return nil, fmt.Errorf("the library is of version %d: this program knows version %d", s[0], slotVersion)
	}
	c := kdfCost{passes: s[1], lanes: s[2], memory: binary.BigEndian.Uint32(s[4:])}
	if c.passes == 0 || c.passes > 32 || c.lanes == 0 || c.lanes > 16 || c.memory > maxMemory || s[3] != 0 {
		return nil, fmt.Errorf("%w: its key slot asks for too much", ErrDamaged)
	}
	aead, err := chacha20poly1305.NewX(c.key(passphrase, s[saltAt:nonceAt]))
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, s[nonceAt:sealedAt], s[sealedAt:sumAt], s[:nonceAt])
	if err != nil {
		return nil, ErrPassphrase
	}
	return key, nil
}

// looksLikeSlot tells whether s is a slot, sound or with some bytes changed.
func looksLikeSlot(s []byte) bool {
	if len(s) != slotSize {
		return false
	}
	return s[0] == slotVersion && s[3] == 0 || sha256.Sum256(s[:sumAt]) == [sha256.Size]byte(s[sumAt:])
}

// readSlot reads at most one byte more than a slot has.
func readSlot(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, fmt.Errorf("read key slot: %w", osReason(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, slotSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: its key slot can't be read: %w", ErrDamaged, err)
	}
	return b, nil
}

// replaceSlot puts a slot in place durably: at every moment the old or the new
// one is whole. The old one's bytes are then overwritten through a handle taken
// before the move.
func replaceSlot(path string, slot []byte) error {
	var old *os.File
	if runtime.GOOS != "windows" { // which moves nothing onto an open file
		old, _ = os.OpenFile(path, os.O_WRONLY, 0)
	}
	if old != nil {
		defer old.Close()
	}
	if err := durable.Write(path, 0o600, slot); err != nil || old == nil {
		return err
	}
	if _, err := old.WriteAt(randomBytes(slotSize), 0); err != nil {
		return err
	}
	return old.Sync()
}

// shred overwrites a small file with noise, syncs, and unlinks it. It unlinks
// even if it could not overwrite. A file that does not exist is no error.
func shred(path string) error {
	var errs []error
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		errs = append(errs, err)
	default:
		_, err = f.Write(randomBytes(slotSize))
		errs = append(errs, err, f.Sync(), f.Close())
	}
	return errors.Join(append(errs, os.Remove(path))...)
}
