// Package library is the reader's store: everything that has arrived on this
// device, encrypted, in one folder.
//
// The folder holds three files with names that say nothing. "data" is an SQLite
// database in which every page is encrypted (Adiantum, through the VFS of
// ncruces/go-sqlite3; its write-ahead log "data-wal" too). Its key is 32 random
// bytes which never depend on the passphrase; they lie in "key", the key slot,
// sealed under a key that argon2id makes of the passphrase. So a new passphrase
// rewrites 128 bytes, and destroying those 128 bytes destroys the library: see
// [Wipe]. "lock" is empty and keeps a second process out.
//
// Inside are four kinds of things:
//
//   - trust state: what the reader knows of a channel, as opaque bytes of
//     mirror/sync. Adiantum hides but does not authenticate, hence the state is
//     sealed by an AEAD once more.
//   - blocks: the ciphertext blocks of editions, by CID, each stored once. They
//     are hashed again whenever they are read.
//   - headlines: what the front pages said, with a full-text index.
//   - notes: small values of the engine.
//
// Whatever a method has returned nil for is on disk: it survives kill -9 and
// power loss. All methods may be called from several goroutines at once; they
// take turns. What is not defended: memory and swap of the running program, an
// SSD that keeps an overwritten key slot in spare cells, and an empty passphrase
// against somebody who has the folder.
package library

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"

	"tamizdat/internal/durable"
	"tamizdat/internal/filelock"
)

// Sentinels for decisions.
var (
	// ErrPassphrase: the key slot is sound and the passphrase is not its own.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrDamaged: the key slot or the database can't be read. What is lost can
	// be fetched again after Wipe, with the invite.
	ErrDamaged = errors.New("the library is damaged")
	// ErrInUse: another process (or another Library of this one) has it open.
	ErrInUse = errors.New("the library is in use by another program (close the page first: Ctrl-C in its terminal)")
	// ErrFull: the disk, or this user's share of it, is full.
	ErrFull = errors.New("the disk is full")
	// ErrReadOnly: the folder or a file in it can't be written.
	ErrReadOnly = errors.New("the folder can't be written")
	// ErrNotLibrary: the folder has files of a library's names that are
	// somebody else's. Nothing was touched.
	ErrNotLibrary = errors.New("not a library: the folder holds files of the same names that are not ours")
)

var errInMemory = errors.New("the library is in memory only")

// The names of the files in a library's folder.
const (
	dataName = "data"
	slotName = "key"
	lockName = "lock"
)

// Options says how to open a library. The zero value opens one that has an
// empty passphrase.
type Options struct {
	// Passphrase opens the key slot, or seals it if the library is new. Empty is
	// allowed: the library is then as secret as its folder, and Wipe still works.
	Passphrase []byte
	// Logger hears of damage that was repaired; nil discards.
	Logger *slog.Logger

	cost kdfCost // zero: defaultCost; tests want less
}

// Library is an open library. Close it; but nothing is lost if it is not.
type Library struct {
	db   *sql.DB
	dir  string
	key  []byte      // the data key, 32 bytes
	seal cipher.AEAD // for trust state, under a key derived from key
	lock *filelock.Lock
	log  *slog.Logger
	cost kdfCost
}

// Exists tells whether dir holds a library, whole or damaged.
func Exists(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, slotName))
	return err == nil
}

// Open opens the library in dir, and makes the folder and the library if there
// is none. Errors wrap ErrPassphrase, ErrDamaged, ErrInUse, ErrFull,
// ErrReadOnly or ErrNotLibrary where one of them is the reason. On a full disk
// a library opens all the same, to be read. It takes about a fifth of a
// second and 64 MiB, both of which argon2id wants. It turns off core dumps
// for the whole process.
func Open(ctx context.Context, dir string, o Options) (_ *Library, err error) {
	l := &Library{dir: dir, log: o.Logger, cost: o.cost}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.cost == (kdfCost{}) {
		l.cost = defaultCost
	}
	if err := noCoreDumps(); err != nil {
		l.log.Warn("core dumps could not be turned off", "error", err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open library: %w", osReason(err))
	}
	if !Exists(dir) && foreign(dir) { // a new library would take the place of what lies there
		return nil, fmt.Errorf("open library: %w", ErrNotLibrary)
	}
	if l.lock, err = filelock.Acquire(filepath.Join(dir, lockName)); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("open library: %w", osReason(err))
	}
	durable.Sweep(dir)
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	slot, err := readSlot(filepath.Join(dir, slotName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = l.create(ctx, o.Passphrase)
	case err == nil:
		err = l.unlock(ctx, slot, o.Passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("open library: %w", err)
	}
	return l, nil
}

// Memory opens a library that is nowhere but in memory and gone when it is
// closed: for a reader who must leave nothing on the device, and for
// simulations with many readers. It has no passphrase.
func Memory(ctx context.Context, log *slog.Logger) (*Library, error) {
	l := &Library{log: log}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if err := noCoreDumps(); err != nil {
		l.log.Warn("core dumps could not be turned off", "error", err)
	}
	err := l.useKey(randomBytes(chacha20poly1305.KeySize))
	if err == nil {
		err = l.connect(ctx, "file::memory:", true, "")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open library: %w", err), l.Close())
	}
	return l, nil
}

// create makes a library. The slot comes last: a slot therefore always has a
// database, and a database without a slot is unreadable rubbish of an earlier
// attempt or of Wipe.
func (l *Library) create(ctx context.Context, passphrase []byte) error {
	if err := l.useKey(randomBytes(chacha20poly1305.KeySize)); err != nil {
		return err
	}
	if err := removeData(l.dir); err != nil {
		return osReason(err)
	}
	if err := l.openData(ctx, true); err != nil {
		return err
	}
	if err := durable.SyncDir(l.dir); err != nil {
		return osReason(err)
	}
	return l.ChangePassphrase(passphrase)
}

func (l *Library) unlock(ctx context.Context, slot, passphrase []byte) error {
	key, err := openSlot(slot, passphrase)
	if err != nil {
		return err
	}
	if err := l.useKey(key); err != nil {
		return err
	}
	return l.openData(ctx, false)
}

func (l *Library) useKey(key []byte) error {
	sub, err := hkdf.Key(sha256.New, key, nil, "tamizdat/v1/library state", chacha20poly1305.KeySize)
	if err != nil {
		return err
	}
	l.key = key
	l.seal, err = chacha20poly1305.NewX(sub)
	return err
}

// ChangePassphrase seals the data key anew, durably, and overwrites the old
// slot as well as the file system lets it. A library in memory has none.
func (l *Library) ChangePassphrase(passphrase []byte) error {
	if l.dir == "" {
		return errInMemory
	}
	slot, err := sealSlot(l.key, passphrase, l.cost)
	if err != nil {
		return err
	}
	if err := replaceSlot(filepath.Join(l.dir, slotName), slot); err != nil {
		return fmt.Errorf("write key slot: %w", osReason(err))
	}
	return nil
}

// Close closes the library and lets others open it. Calls after it fail.
func (l *Library) Close() error {
	var errs []error
	if l.db != nil {
		errs = append(errs, reason(l.db.Close()))
	}
	clear(l.key)
	if l.lock != nil {
		errs = append(errs, l.lock.Release())
	}
	return errors.Join(errs...)
}

// Wipe destroys the library in dir: first the key slot, which is overwritten,
// synced and unlinked, so that the rest is noise; then the rest. It works
// without the passphrase, on a damaged library, and beside a running program
// (which then fails). It goes on after an error and returns all of them. A
// folder without a library is no error; one in which files of the same names
// belong to somebody else is ErrNotLibrary and stays as it is.
func Wipe(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case foreign(dir):
		return fmt.Errorf("wipe library: %w", ErrNotLibrary)
	case !ours(dir):
		return nil
	}
	var errs []error
	stray, _ := durable.Glob(dir, ".tmp-*") // half-written slots, see package durable
	for _, path := range append([]string{filepath.Join(dir, slotName)}, stray...) {
		errs = append(errs, shred(path))
	}
	errs = append(errs, durable.SyncDir(dir), removeData(dir))
	if err := os.Remove(filepath.Join(dir, lockName)); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	_ = os.Remove(dir) // only if nothing else is in it
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("wipe library: %w", osReason(err))
	}
	return nil
}

// ours tells whether dir has the marks of a library: a key slot, or the empty
// lock file, which is the first to be made and the last to go. So it holds for
// a library that is damaged, half made or half wiped.
func ours(dir string) bool {
	if fi, err := os.Lstat(filepath.Join(dir, lockName)); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
		return true
	}
	fi, err := os.Stat(filepath.Join(dir, slotName))
	if err != nil || !fi.Mode().IsRegular() { // opening a pipe would block
		return false
	}
	slot, err := readSlot(filepath.Join(dir, slotName))
	return err == nil && looksLikeSlot(slot)
}

// foreign tells whether dir has files of a library's names without being one.
func foreign(dir string) bool {
	for _, name := range []string{slotName, dataName, dataName + "-wal", dataName + "-journal", dataName + "-shm"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return !ours(dir)
		}
	}
	return false
}

// removeData removes the database and whatever SQLite keeps beside it.
func removeData(dir string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, dataName+suffix)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand stops the program instead
	return b
}
