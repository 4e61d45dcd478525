package library

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Limits on small values, in bytes.
const (
	MaxState = 16 << 20  // leaf hashes of 500,000 editions
	MaxNote  = 128 << 10 // what is known of 200 editions
	MaxKey   = 256       // of a note's key
)

// Channels returns the channels that have a trust state, in the order in which
// they were added.
func (l *Library) Channels(ctx context.Context) ([]channel.ID, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT id FROM channel WHERE state IS NOT NULL ORDER BY num`)
	if err != nil {
		return nil, reason(err)
	}
	defer rows.Close()
	var ids []channel.ID
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, reason(err)
		}
		if len(b) != len(channel.ID{}) {
			return nil, fmt.Errorf("%w: a channel has no proper name", ErrDamaged)
		}
		ids = append(ids, channel.ID(b))
	}
	return ids, reason(rows.Err())
}

// State returns the trust state last stored for ch. It wraps
// transport.ErrNotFound if there is none, and ErrDamaged if its seal is broken:
// never bytes that SetState was not given for this channel in this library.
func (l *Library) State(ctx context.Context, ch channel.ID) ([]byte, error) {
	var sealed []byte
	err := l.db.QueryRowContext(ctx, `SELECT state FROM channel WHERE id = ? AND state IS NOT NULL`, ch[:]).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("state of the channel: %w", transport.ErrNotFound)
	} else if err != nil {
		return nil, reason(err)
	}
	n := l.seal.NonceSize()
	if len(sealed) < n {
		return nil, fmt.Errorf("%w: the state of a channel is cut short", ErrDamaged)
	}
	state, err := l.seal.Open(nil, sealed[:n], sealed[n:], ch[:])
	if err != nil {
		return nil, fmt.Errorf("%w: the state of a channel has changed", ErrDamaged)
	}
	return state, nil
}

// SetState stores the trust state of ch, at most MaxState bytes, and adds ch to
// Channels. It is durable on return.
func (l *Library) SetState(ctx context.Context, ch channel.ID, state []byte) error {
	if len(state) > MaxState {
		return fmt.Errorf("state of %d bytes: at most %d", len(state), MaxState)
	}
	nonce := randomBytes(l.seal.NonceSize())
	sealed := l.seal.Seal(nonce, nonce, state, ch[:])
	_, err := l.db.ExecContext(ctx, `INSERT INTO channel(id, state) VALUES(?1, ?2)
		ON CONFLICT(id) DO UPDATE SET state = ?2`, ch[:], sealed)
	return reason(err)
}

// Remove deletes all that is known of ch: state, headlines, index, the blocks
// that no other channel needs, and the notes whose keys begin with its ID and
// a slash. Removing an unknown channel is no error.
func (l *Library) Remove(ctx context.Context, ch channel.ID) error {
	err := l.update(ctx, func(tx *sql.Tx) error {
		num, err := channelNum(ctx, tx, ch)
		if errors.Is(err, transport.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM find WHERE rowid IN (SELECT num FROM headline WHERE channel = ?1)`,
			`DELETE FROM headline WHERE channel = ?1`,
			`DELETE FROM block WHERE num IN (SELECT block FROM part WHERE channel = ?1)
				AND num NOT IN (SELECT block FROM part WHERE channel <> ?1)`,
			`DELETE FROM part WHERE channel = ?1`,
			`DELETE FROM gone WHERE channel = ?1`,
			`DELETE FROM loose WHERE channel = ?1`,
			`DELETE FROM said WHERE channel = ?1`,
			`DELETE FROM channel WHERE num = ?1`,
		} {
			if _, err := tx.ExecContext(ctx, q, num); err != nil {
				return err
			}
		}
		prefix := ch.String() + "/"
		if _, err := tx.ExecContext(ctx, `DELETE FROM note WHERE substr(key, 1, ?) = ?`, len(prefix), prefix); err != nil {
			return err
		}
		return forgetWords(ctx, tx)
	})
	if err == nil {
		l.purge(ctx)
	}
	return err
}

// Meta is what the newest front page says of its channel.
type Meta struct {
	Channel channel.ID
	// Name is plain text chosen by the publisher; empty before the first front.
	Name string
	// Langs are BCP 47 tags.
	Langs []string
	// Edition and Epoch are those of the front, Date is when it was packed: the
	// zero time before the first front.
	Edition, Epoch uint64
	Date           time.Time
	// Headlines counts what is kept, Unread those not read yet, GoneLately what was
	// here and was taken back in the week before Date.
	Headlines, Unread, GoneLately int
}

// Meta returns what is known of a channel; it wraps transport.ErrNotFound if
// nothing is.
func (l *Library) Meta(ctx context.Context, ch channel.ID) (Meta, error) {
	m := Meta{Channel: ch}
	var langs string
	var edition, epoch, date sql.NullInt64
	err := l.db.QueryRowContext(ctx, `SELECT name, langs, edition, epoch, date,
			(SELECT count(*) FROM headline h WHERE h.channel = c.num),
			(SELECT count(*) FROM headline h WHERE h.channel = c.num AND NOT read),
			(SELECT count(*) FROM gone g WHERE g.channel = c.num AND held AND g.date >= c.date - 7 * 86400)
		FROM channel c WHERE id = ?`, ch[:]).
		Scan(&m.Name, &langs, &edition, &epoch, &date, &m.Headlines, &m.Unread, &m.GoneLately)
	if errors.Is(err, sql.ErrNoRows) {
		return m, fmt.Errorf("channel: %w", transport.ErrNotFound)
	} else if err != nil {
		return m, reason(err)
	}
	m.Edition, m.Epoch = uint64(edition.Int64), uint64(epoch.Int64)
	if date.Valid {
		m.Date = time.Unix(date.Int64, 0).UTC()
	}
	if err := json.Unmarshal([]byte(langs), &m.Langs); err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return m, nil
}

// Note returns the value stored under key; it wraps transport.ErrNotFound if
// there is none.
func (l *Library) Note(ctx context.Context, key string) ([]byte, error) {
	var v []byte
	err := l.db.QueryRowContext(ctx, `SELECT value FROM note WHERE key = ?`, key).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("note: %w", transport.ErrNotFound)
	}
	return v, reason(err)
}

// SetNote stores a small value, durably; nil deletes it. Keys are at most
// MaxKey bytes of UTF-8, values at most MaxNote bytes. A key that begins with a
// channel's ID and a slash goes when the channel is removed.
func (l *Library) SetNote(ctx context.Context, key string, value []byte) error {
	if len(key) == 0 || len(key) > MaxKey || strings.ToValidUTF8(key, "") != key {
		return fmt.Errorf("a note's key is 1 to %d bytes of text", MaxKey)
	}
	if len(value) > MaxNote {
		return fmt.Errorf("note of %d bytes: at most %d", len(value), MaxNote)
	}
	var err error
	if value == nil {
		_, err = l.db.ExecContext(ctx, `DELETE FROM note WHERE key = ?`, key)
	} else {
		_, err = l.db.ExecContext(ctx, `INSERT OR REPLACE INTO note VALUES(?, ?)`, key, value)
	}
	return reason(err)
}

// channelNum returns the row of a channel, or wraps transport.ErrNotFound.
func channelNum(ctx context.Context, tx *sql.Tx, ch channel.ID) (num int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT num FROM channel WHERE id = ?`, ch[:]).Scan(&num)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("channel: %w", transport.ErrNotFound)
	}
	return num, err
}

// ensureChannel is channelNum that makes the row if there is none.
func ensureChannel(ctx context.Context, tx *sql.Tx, ch channel.ID) (int64, error) {
	if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO channel(id) VALUES(?)`, ch[:]); err != nil {
		return 0, err
	}
	return channelNum(ctx, tx, ch)
}
