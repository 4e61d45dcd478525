package library

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/ext/fts5"
	_ "github.com/ncruces/go-sqlite3/vfs/adiantum" // registers the VFS "adiantum"

	"tamizdat/internal/durable"
)

// schemaVersion is kept in the database's user_version.
const schemaVersion = 1

// schema. A channel has a row as soon as anything of it is stored; those with
// a state are the ones the reader follows. find holds no text, only the index
// of it (contentless), over words that fold made: its tokenizer just splits at
// spaces.
const schema = `
CREATE TABLE channel(
	num INTEGER PRIMARY KEY,
	id BLOB NOT NULL UNIQUE,
	state BLOB,
	name TEXT NOT NULL DEFAULT '',
	langs TEXT NOT NULL DEFAULT '[]',
	edition INTEGER,
	epoch INTEGER,
	date INTEGER
) STRICT;
CREATE TABLE block(
	num INTEGER PRIMARY KEY,
	cid BLOB NOT NULL UNIQUE,
	data BLOB -- NULL: it was damaged here and must be fetched again
) STRICT;
CREATE TABLE part(
	channel INTEGER NOT NULL,
	edition INTEGER NOT NULL,
	block INTEGER NOT NULL,
	PRIMARY KEY(channel, edition, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_block ON part(block);
CREATE TABLE headline(
	num INTEGER PRIMARY KEY, -- see firstNum
	channel INTEGER NOT NULL,
	id TEXT NOT NULL,
	edition INTEGER NOT NULL,
	lang TEXT NOT NULL,
	entry BLOB NOT NULL,
	read INTEGER NOT NULL DEFAULT 0,
	indexed INTEGER NOT NULL DEFAULT 0,
	UNIQUE(channel, id)
) STRICT;
CREATE VIRTUAL TABLE find USING fts5(head, body, content='', contentless_delete=1, tokenize='ascii');
CREATE TABLE note(
	key TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
`

// additions are tables that came after schema. They are made in libraries that
// lack them, and change nothing for a program that doesn't know them. gone has
// the articles that were taken back, with the newest edition that said so; held:
// the article was here until date, when an edition said so first. loose is where in
// an edition's layers those lay that no headline leads to any more. said has the
// edition whose front page a headline is from, which need not be the one that it lies
// in; headlines of before that table have none.
const additions = `
CREATE TABLE IF NOT EXISTS gone(
	channel INTEGER NOT NULL,
	id TEXT NOT NULL,
	edition INTEGER NOT NULL,
	date INTEGER NOT NULL,
	held INTEGER NOT NULL,
	PRIMARY KEY(channel, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS loose(
	num INTEGER PRIMARY KEY,
	channel INTEGER NOT NULL,
	edition INTEGER NOT NULL,
	spans BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS said(
	channel INTEGER NOT NULL,
	id TEXT NOT NULL,
	edition INTEGER NOT NULL,
	PRIMARY KEY(channel, id)
) STRICT, WITHOUT ROWID;
`

// openData opens the database, making it if create, and proves that it can be
// read and written. One connection is kept for good: it holds the exclusive
// lock, without which a write-ahead log would need shared memory in the clear.
func (l *Library) openData(ctx context.Context, create bool) error {
	path, err := filepath.Abs(filepath.Join(l.dir, dataName))
	if err != nil {
		return err
	}
	if !create {
		if fi, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0 {
			return fmt.Errorf("%w: its database is missing", ErrDamaged)
		}
	}
	for _, name := range []string{path, path + "-wal"} {
		if err := dropTornBlock(name); err != nil {
			return osReason(err)
		}
	}
	for _, name := range []string{path, path + "-wal"} {
		if err := makePrivate(name, os.O_CREATE); err != nil {
			return osReason(err)
		}
	}
	dsn := "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(filepath.ToSlash(path)) + "?vfs=adiantum"
	// synchronous=full: a commit is synced before it returns. Adiantum takes
	// back SQLite's assumption that a torn write leaves its neighbours whole,
	// so each commit is padded to a block of its own.
	if err := l.connect(ctx, dsn, create, `
		PRAGMA hexkey='`+hex.EncodeToString(l.key)+`';
		PRAGMA locking_mode=exclusive;
		PRAGMA secure_delete=on;
		PRAGMA journal_mode=wal;
		PRAGMA synchronous=full;
		PRAGMA journal_size_limit=8388608;`); err != nil {
		return err
	}
	// Beside an empty database SQLite makes its write-ahead log itself.
	return osReason(makePrivate(path+"-wal", 0))
}

// connect opens the one connection, makes the tables if create, and proves that
// they can be read and written.
func (l *Library) connect(ctx context.Context, dsn string, create bool, pragmas string) (err error) {
	l.db, err = openDB(dsn, func(c *sqlite3.Conn) error {
		if err := c.Exec(pragmas + `
			PRAGMA busy_timeout=0;
			PRAGMA temp_store=memory;
			PRAGMA trusted_schema=off;
			PRAGMA cell_size_check=on;
			PRAGMA cache_size=-16000;`); err != nil {
			return err
		}
		return fts5.Register(c)
	})
	if err != nil {
		return reason(err)
	}
	l.db.SetMaxOpenConns(1)
	l.db.SetMaxIdleConns(1)
	sound := false
	err = l.update(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
			return err
		}
		switch {
		case create:
			_, err := tx.ExecContext(ctx, schema+additions)
			return err
		case version == 0:
			return fmt.Errorf("%w: its database is empty", ErrDamaged)
		case version != schemaVersion:
			return fmt.Errorf("the library is of version %d: this program knows version %d", version, schemaVersion)
		}
		sound = true
		// A write takes the lock and shows now whether the folder can be written.
		_, err := tx.ExecContext(ctx, additions+`PRAGMA user_version = 1`)
		return err
	})
	if err != nil && sound && errors.Is(err, ErrFull) {
		// What is held can be read, and removing some of it is a way out.
		l.log.Warn("the disk is full: the library can be read, and nothing new stored")
		err = l.addForNow(ctx)
	}
	return err
}

// addForNow makes those additions in memory that a library of before lacks and that
// find no room on its disk. What they take up is lost with the one connection there is.
func (l *Library) addForNow(ctx context.Context) error {
	// An empty one would hide what is in the database.
	var there []string
	rows, err := l.db.QueryContext(ctx, `SELECT name FROM main.sqlite_schema WHERE type = 'table'`)
	if err != nil {
		return reason(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return reason(err)
		}
		there = append(there, name)
	}
	if err := rows.Err(); err != nil {
		return reason(err)
	}
	for table := range strings.SplitSeq(strings.TrimSpace(additions), "CREATE TABLE IF NOT EXISTS ") {
		if name, _, ok := strings.Cut(table, "("); ok && !slices.Contains(there, name) {
			if _, err := l.db.ExecContext(ctx, `CREATE TEMP TABLE `+table); err != nil {
				return reason(err)
			}
		}
	}
	return nil
}

// makePrivate lets nobody but its owner read a file, whatever the umask and
// whoever made it (SQLite would ask for 0666); with os.O_CREATE it makes the
// file if there is none. On Windows permissions are the folder's.
func makePrivate(path string, create int) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|create, 0o600)
	if errors.Is(err, fs.ErrNotExist) && create == 0 {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Mode().Perm() == 0o600 {
		return err
	}
	return f.Chmod(0o600)
}

// dropTornBlock cuts a file to whole 4,096-byte blocks, the unit of encryption.
// A part of one is left by a write that power loss cut short; it can't be
// decrypted, belongs to nothing acknowledged, and would fail every read.
func dropTornBlock(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size()%4096 == 0 {
		return nil
	} else if err != nil {
		return err
	}
	return os.Truncate(path, fi.Size()&^4095)
}

// update runs fn in one transaction. When it returns nil everything fn did is
// on disk; otherwise nothing of it is.
func (l *Library) update(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return reason(err)
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return reason(err)
	}
	return reason(tx.Commit())
}

// purge empties the write-ahead log, in which pages lie as they were before a
// deletion. What was deleted is deleted even if this fails.
func (l *Library) purge(ctx context.Context) {
	if _, err := l.db.ExecContext(ctx, `PRAGMA wal_checkpoint(truncate)`); err != nil {
		l.log.Warn("deleted pages may linger until the library is closed", "error", reason(err))
	}
}

// reason puts the sentinel of this package before what SQLite says.
func reason(err error) error {
	var code sqlite3.ErrorCode
	if !errors.As(err, &code) {
		return err
	}
	switch code {
	case sqlite3.NOTADB, sqlite3.CORRUPT:
		return fmt.Errorf("%w: its database can't be read: %w", ErrDamaged, err)
	case sqlite3.FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.BUSY, sqlite3.LOCKED:
		return fmt.Errorf("%w: %w", ErrInUse, err)
	case sqlite3.READONLY, sqlite3.CANTOPEN, sqlite3.PERM:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case sqlite3.IOERR:
		if errors.Is(err, sqlite3.IOERR_SHORT_READ) || errors.Is(err, sqlite3.IOERR_CORRUPTFS) {
			return fmt.Errorf("%w: its database can't be read: %w", ErrDamaged, err)
		}
		return osReason(err)
	}
	return err
}

// osReason does the same for errors of the operating system.
func osReason(err error) error {
	switch {
	case err == nil:
		return nil
	case durable.Full(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
