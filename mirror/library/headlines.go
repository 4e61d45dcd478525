package library

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Headline is one article as a front page announced it.
type Headline struct {
	Channel channel.ID
	// Entry is the front page's own line, with where the text lies.
	bundle.Entry
	// Read: the reader has opened it. Text: its body has arrived (IndexText was
	// called for this very edition of it).
	Read, Text bool

	num int64
}

// Cursor marks a headline's place in the order of Headlines, for Query.After.
func (h Headline) Cursor() Cursor { return Cursor(h.num) }

// Cursor is a place in the list of headlines. It stays valid while headlines
// come and go. The zero value is the beginning.
type Cursor int64

// String is the exact inverse of ParseCursor.
func (c Cursor) String() string { return strconv.FormatInt(int64(c), 10) }

// ParseCursor reads what String wrote; anything else is an error.
func ParseCursor(s string) (Cursor, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || Cursor(n).String() != s {
		return 0, errors.New("not a place in the list")
	}
	return Cursor(n), nil
}

// A headline's row number is its date in seconds, 20 bits to the left, plus a
// counter. So the newest come first in the table and in the search index alike,
// and neither needs sorting, however many are found.
const (
	dateShift = 20
	maxDate   = 1<<42 - 1
)

func firstNum(date time.Time) int64 { return min(max(date.Unix(), 0), maxDate) << dateShift }

// freeNum returns an unused row number for a date.
func freeNum(ctx context.Context, tx *sql.Tx, date time.Time) (num int64, err error) {
	first := firstNum(date)
	err = tx.QueryRowContext(ctx, `SELECT coalesce(max(num), ?1) + 1 FROM headline WHERE num BETWEEN ?1 AND ?2`,
		first, first+1<<dateShift-2).Scan(&num)
	return num, err
}

// Query selects headlines. The zero value selects all.
type Query struct {
	// Channel, if not zero, is the only one.
	Channel channel.ID
	// Lang is the primary subtag of a BCP 47 tag ("zh" finds "zh-Hans"); empty for all.
	Lang string
	// Unread leaves out what was read.
	Unread bool
	// Search is what somebody typed: all its words must occur, in any order, each
	// whole or as the beginning of a word. Letters that people mix up are the
	// same (see foldWords). Nothing in it is syntax; without a letter or digit
	// it finds nothing.
	Search string
	// Before, if not zero, leaves out what is as new or newer.
	Before time.Time
	// After continues behind a headline.
	After Cursor
	// Limit is how many to yield; 0 for all.
	Limit int
}

// Headlines yields what q selects, newest first. An error is the last value.
// It holds at most 100 in memory, and the loop's body may call any other method.
func (l *Library) Headlines(ctx context.Context, q Query) iter.Seq2[Headline, error] {
	return func(yield func(Headline, error) bool) {
		left := q.Limit
		if left <= 0 {
			left = math.MaxInt
		}
		for {
			n := min(left, 100)
			page, err := l.page(ctx, q, n)
			if err != nil {
				yield(Headline{}, err)
				return
			}
			for _, h := range page {
				if !yield(h, nil) {
					return
				}
			}
			if left -= len(page); len(page) < n || left == 0 {
				return
			}
			q.After = page[len(page)-1].Cursor()
		}
	}
}

const oneHeadline = headlineColumns + ` FROM headline h JOIN channel c ON c.num = h.channel WHERE c.id = ? AND h.id = ?`

const headlineColumns = `SELECT h.num, c.id, h.entry, h.read, h.indexed`

func (l *Library) page(ctx context.Context, q Query, limit int) ([]Headline, error) {
	from, where, args := `headline h`, []string{"true"}, []any{}
	and := func(cond string, a ...any) { where, args = append(where, cond), append(args, a...) }
	num := `h.num`
	if q.Search != "" {
		expr := matchExpr(q.Search)
		if expr == "" {
			return nil, nil
		}
		from, num = `find CROSS JOIN headline h ON h.num = find.rowid`, `find.rowid`
		and(`find MATCH ?`, expr)
	}
	if q.Channel != (channel.ID{}) {
		and(`c.id = ?`, q.Channel[:])
	}
	if q.Lang != "" {
		and(`h.lang = ?`, primary(q.Lang))
	}
	if q.Unread {
		and(`NOT h.read`)
	}
	if !q.Before.IsZero() {
		and(num+` < ?`, firstNum(q.Before))
	}
	if q.After != 0 {
		and(num+` < ?`, int64(q.After))
	}
	rows, err := l.db.QueryContext(ctx, headlineColumns+` FROM `+from+` CROSS JOIN channel c ON c.num = h.channel
		WHERE `+strings.Join(where, " AND ")+` ORDER BY `+num+` DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, reason(err)
	}
	defer rows.Close()
	var page []Headline
	for rows.Next() {
		h, err := scanHeadline(rows.Scan)
		if err != nil {
			return nil, err
		}
		page = append(page, h)
	}
	return page, reason(rows.Err())
}

// Headline returns one headline; it wraps transport.ErrNotFound if there is
// none of that ID.
func (l *Library) Headline(ctx context.Context, ch channel.ID, id string) (Headline, error) {
	h, err := scanHeadline(l.db.QueryRowContext(ctx, oneHeadline, ch[:], id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return h, fmt.Errorf("article: %w", transport.ErrNotFound)
	}
	return h, err
}

func scanHeadline(scan func(...any) error) (Headline, error) {
	var h Headline
	var id, entry []byte
	if err := scan(&h.num, &id, &entry, &h.Read, &h.Text); err != nil {
		return h, reason(err)
	}
	if len(id) != len(h.Channel) {
		return h, fmt.Errorf("%w: a channel has no proper name", ErrDamaged)
	}
	h.Channel = channel.ID(id)
	if err := json.Unmarshal(entry, &h.Entry); err != nil {
		return h, fmt.Errorf("%w: a headline can't be read", ErrDamaged)
	}
	return h, nil
}

// SetFront stores a front page in one transaction, durable on return. Its
// headlines are added, or take the place of older editions of themselves;
// what it replaces or says is gone is deleted, from the search index
// too, and no front page brings it back whose headline is of an edition that is not
// newer (see Gone); other headlines stay, so the library grows. An article that takes
// the place of one that was read is read. A front older than what is known changes
// no newer headline, so fronts may come in any order. Where deleted articles lay is
// noted for Loose. The caller has checked the front's signature.
func (l *Library) SetFront(ctx context.Context, ch channel.ID, f *bundle.Front) error {
	if f.Channel != ch {
		return errors.New("the front page is another channel's")
	}
	if f.Edition > math.MaxInt64 || f.Epoch > math.MaxInt64 {
		return fmt.Errorf("edition %d is out of range", f.Edition)
	}
	purge := false
	err := l.update(ctx, func(tx *sql.Tx) error {
		num, err := ensureChannel(ctx, tx, ch)
		if err != nil {
			return err
		}
		langs, err := json.Marshal(append([]string{}, f.Langs...))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE channel SET name = ?, langs = ?, edition = ?, epoch = ?, date = ?
				WHERE num = ? AND (edition IS NULL OR edition <= ?3)`,
			f.Name, string(langs), int64(f.Edition), int64(f.Epoch), f.Date.Unix(), num); err != nil {
			return err
		}
		for _, e := range f.Articles {
			if err := putEntry(ctx, tx, num, e, f.Edition); err != nil {
				return err
			}
		}
		for id, old := range f.Replaces {
			if id == old {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE headline SET read = 1 WHERE channel = ?1 AND id = ?2
				AND EXISTS(SELECT 1 FROM headline WHERE channel = ?1 AND id = ?3 AND read)`, num, id, old); err != nil {
				return err
			}
			n, err := dropEntry(ctx, tx, num, old, f.Edition)
			if err == nil {
				err = bury(ctx, tx, num, old, f, false)
			}
			if err != nil {
				return err
			}
			purge = purge || n
		}
		for _, id := range f.Gone {
			n, err := dropEntry(ctx, tx, num, id, f.Edition)
			if err == nil {
				err = bury(ctx, tx, num, id, f, n)
			}
			if err != nil {
				return err
			}
			purge = purge || n
		}
		if purge {
			return forgetWords(ctx, tx)
		}
		return nil
	})
	if err == nil && purge {
		l.purge(ctx)
	}
	return err
}

// putEntry adds a headline, or replaces an older edition of it; by is the edition
// whose front page it is from.
func putEntry(ctx context.Context, tx *sql.Tx, ch int64, e bundle.Entry, by uint64) error {
	if e.Edition > math.MaxInt64 {
		return fmt.Errorf("edition %d is out of range", e.Edition)
	}
	entry, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var old, edition int64
	var read bool
	var was []byte
	err = tx.QueryRowContext(ctx, `SELECT num, edition, read, entry FROM headline WHERE channel = ? AND id = ?`, ch, e.ID).
		Scan(&old, &edition, &read, &was)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if gone, err := buried(ctx, tx, ch, e); gone || err != nil {
			return err
		}
	case err != nil:
		return err
	case edition > int64(e.Edition):
		return nil
	case edition == int64(e.Edition) && bytes.Equal(was, entry):
		return nil // most of a front page stood on the one before
	case edition == int64(e.Edition):
		// The same text, said by another front page: the newest counts, whichever came first.
		later, err := saidLater(ctx, tx, ch, e.ID, by)
		if later || err != nil {
			return err
		}
		if sameWords(was, e) {
			if _, err := tx.ExecContext(ctx, `UPDATE headline SET entry = ? WHERE num = ?`, entry, old); err != nil {
				return err
			}
			return say(ctx, tx, ch, e.ID, by)
		}
		if _, err := dropEntry(ctx, tx, ch, e.ID, e.Edition); err != nil {
			return err
		}
	default:
		if _, err := dropEntry(ctx, tx, ch, e.ID, e.Edition); err != nil {
			return err
		}
	}
	num, err := freeNum(ctx, tx, e.Date)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO headline(num, channel, id, edition, lang, entry, read) VALUES(?, ?, ?, ?, ?, ?, ?)`,
		num, ch, e.ID, int64(e.Edition), primary(e.Lang), entry, read); err != nil {
		return err
	}
	if err := say(ctx, tx, ch, e.ID, by); err != nil {
		return err
	}
	return indexEntry(ctx, tx, num, e, "")
}

// sameWords reports whether a stored headline is found and sorted as e is.
func sameWords(stored []byte, e bundle.Entry) bool {
	var was bundle.Entry
	return json.Unmarshal(stored, &was) == nil && was.Title == e.Title && was.Lead == e.Lead && was.Lang == e.Lang && was.Date.Equal(e.Date)
}

// saidLater reports whether a headline is from the front page of a later edition than by.
func saidLater(ctx context.Context, tx *sql.Tx, ch int64, id string, by uint64) (bool, error) {
	var edition int64
	err := tx.QueryRowContext(ctx, `SELECT edition FROM said WHERE channel = ? AND id = ?`, ch, id).Scan(&edition)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return edition > int64(by), err
}

// say notes which edition's front page a headline is from.
func say(ctx context.Context, tx *sql.Tx, ch int64, id string, by uint64) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO said(channel, id, edition) VALUES(?, ?, ?)`, ch, id, int64(by))
	return err
}

// dropEntry deletes a headline unless it is of a newer edition than the front
// page that says it is gone.
func dropEntry(ctx context.Context, tx *sql.Tx, ch int64, id string, edition uint64) (bool, error) {
	var num int64
	var entry []byte
	err := tx.QueryRowContext(ctx, `DELETE FROM headline WHERE channel = ? AND id = ? AND edition <= ? RETURNING num, entry`,
		ch, id, int64(edition)).Scan(&num, &entry)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := loosen(ctx, tx, ch, entry); err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM said WHERE channel = ? AND id = ?`, ch, id); err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM find WHERE rowid = ?`, num)
	return true, err
}

// forgetWords rewrites the index without the words of deleted rows, which a
// contentless table only marks.
func forgetWords(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO find(find) VALUES('optimize')`)
	return err
}

func indexEntry(ctx context.Context, tx *sql.Tx, num int64, e bundle.Entry, body string) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO find(rowid, head, body) VALUES(?, ?, ?)`,
		num, indexText(e.Title+" \n "+e.Lead), indexText(body))
	return err
}

// Text is an article's plain text.
type Text struct{ ID, Plain string }

// IndexTexts adds plain texts to the search index when they have arrived, and
// marks their headlines as having them, in one transaction, durable on return:
// all or none. The library keeps no copy of a text. One whose headline is not
// there (it may be gone by now) is left out. A call costs a sync of the disk, so
// many at once take less time than one by one.
func (l *Library) IndexTexts(ctx context.Context, ch channel.ID, texts []Text) error {
	if len(texts) == 0 {
		return nil
	}
	return l.update(ctx, func(tx *sql.Tx) error {
		for _, t := range texts {
			h, err := scanHeadline(tx.QueryRowContext(ctx, oneHeadline, ch[:], t.ID).Scan)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			} else if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE headline SET indexed = 1 WHERE num = ?`, h.num); err != nil {
				return err
			}
			if err := indexEntry(ctx, tx, h.num, h.Entry, t.Plain); err != nil {
				return err
			}
		}
		return nil
	})
}

// IndexText is IndexTexts for one, but wraps transport.ErrNotFound if there is
// no such headline.
func (l *Library) IndexText(ctx context.Context, ch channel.ID, id, plain string) error {
	if _, err := l.Headline(ctx, ch, id); err != nil {
		return err
	}
	return l.IndexTexts(ctx, ch, []Text{{id, plain}})
}

// SetRead marks a headline as read or unread. An unknown one is no error.
func (l *Library) SetRead(ctx context.Context, ch channel.ID, id string, read bool) error {
	_, err := l.db.ExecContext(ctx, `UPDATE headline SET read = ? WHERE id = ? AND channel = (SELECT num FROM channel WHERE id = ?)`,
		read, id, ch[:])
	return reason(err)
}

// primary returns the lower-case primary subtag of a BCP 47 tag.
func primary(lang string) string {
	p, _, _ := strings.Cut(strings.ToLower(lang), "-")
	return p
}
