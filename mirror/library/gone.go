package library

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Gone is an article that was here until its publisher took it back. Nothing is
// kept of what it said.
type Gone struct {
	Channel channel.ID
	ID      string
	// Date is when the edition was packed from which this device learned it.
	Date time.Time
}

// Gone returns the articles of a channel that were taken back after they had come
// here, newest first. Those that this device never had are not among them, nor
// those that their publisher has brought back since.
func (l *Library) Gone(ctx context.Context, ch channel.ID) ([]Gone, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT id, date FROM gone WHERE held AND channel = (SELECT num FROM channel WHERE id = ?)
		ORDER BY date DESC, id LIMIT ?`, ch[:], bundle.MaxGone)
	if err != nil {
		return nil, reason(err)
	}
	defer rows.Close()
	var all []Gone
	for rows.Next() {
		g := Gone{Channel: ch}
		var date int64
		if err := rows.Scan(&g.ID, &date); err != nil {
			return nil, reason(err)
		}
		g.Date = time.Unix(date, 0).UTC()
		all = append(all, g)
	}
	return all, reason(rows.Err())
}

// bury notes that a front page says that an article is gone; held: it was here.
// Which edition said so last is what counts, in whatever order they come. An
// article that has come back in a newer one stays.
func bury(ctx context.Context, tx *sql.Tx, ch int64, id string, f *bundle.Front, held bool) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO gone(channel, id, edition, date, held)
		SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS(SELECT 1 FROM headline WHERE channel = ?1 AND id = ?2)
		ON CONFLICT(channel, id) DO UPDATE SET edition = max(edition, ?3), held = max(held, ?5), date = iif(?5, ?4, date)
		WHERE edition < ?3 OR ?5`, ch, id, int64(f.Edition), f.Date.Unix(), held)
	return err
}

// buried reports whether a headline that is not here was taken back by an edition
// that is not older. One that comes back in a newer edition is so no more.
func buried(ctx context.Context, tx *sql.Tx, ch int64, e bundle.Entry) (bool, error) {
	var edition int64
	err := tx.QueryRowContext(ctx, `SELECT edition FROM gone WHERE channel = ? AND id = ?`, ch, e.ID).Scan(&edition)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil || edition >= int64(e.Edition):
		return true, err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM gone WHERE channel = ? AND id = ?`, ch, e.ID)
	return false, err
}

// loosen notes where a headline's text and pictures lie, for it is being deleted.
func loosen(ctx context.Context, tx *sql.Tx, ch int64, entry []byte) error {
	var e bundle.Entry
	if err := json.Unmarshal(entry, &e); err != nil {
		return fmt.Errorf("%w: a headline can't be read", ErrDamaged)
	}
	l := bundle.Entry{Text: e.Text}
	for _, i := range e.Images {
		l.Images = append(l.Images, bundle.ImageEntry{Span: i.Span})
	}
	spans, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO loose(channel, edition, spans) VALUES(?, ?, ?)`, ch, int64(e.Edition), spans)
	return err
}

// maxLoose bounds one answer of Loose: what one front page can take back.
const maxLoose = 2 * bundle.MaxGone

// Loose returns where those articles lay that were deleted or corrected, and whose
// blocks DropLoose has not dropped yet: of each the edition and the spans, and
// nothing else. There may be more when those have been dropped.
func (l *Library) Loose(ctx context.Context, ch channel.ID) ([]bundle.Entry, error) {
	rows, err := l.db.QueryContext(ctx, `SELECT edition, spans FROM loose
		WHERE channel = (SELECT num FROM channel WHERE id = ?) ORDER BY num LIMIT ?`, ch[:], maxLoose)
	if err != nil {
		return nil, reason(err)
	}
	defer rows.Close()
	var all []bundle.Entry
	for rows.Next() {
		var edition int64
		var spans []byte
		if err := rows.Scan(&edition, &spans); err != nil {
			return nil, reason(err)
		}
		var e bundle.Entry
		if err := json.Unmarshal(spans, &e); err != nil {
			return nil, fmt.Errorf("%w: what was deleted can't be read", ErrDamaged)
		}
		e.Edition = uint64(edition)
		all = append(all, e)
	}
	return all, reason(rows.Err())
}

// DropLoose deletes blocks of an edition, which its caller knows to be needed by
// nothing that is left of it, unless another edition has them too, and forgets what
// Loose says of the edition: both or neither, durable on return.
func (l *Library) DropLoose(ctx context.Context, ch channel.ID, edition uint64, cids []cid.Cid) error {
	if edition > math.MaxInt64 {
		return nil
	}
	err := l.update(ctx, func(tx *sql.Tx) error {
		num, err := channelNum(ctx, tx, ch)
		if errors.Is(err, transport.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		for _, c := range cids {
			if _, err := tx.ExecContext(ctx, `DELETE FROM part WHERE channel = ? AND edition = ? AND block = (SELECT num FROM block WHERE cid = ?)`,
				num, int64(edition), c.Bytes()); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM block WHERE cid = ? AND NOT EXISTS(SELECT 1 FROM part WHERE block = num)`, c.Bytes()); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM loose WHERE channel = ? AND edition = ?`, num, int64(edition))
		return err
	})
	if err == nil && len(cids) > 0 {
		l.purge(ctx)
	}
	return err
}
