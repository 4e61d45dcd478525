package library

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Withdraw deletes all that came with a channel's editions from first on: headlines,
// also those that were read, their words in the index, and the blocks that nothing
// else needs. A headline came with the edition that it lies in, and with the one whose
// front page it is from: who signs that one can name an older one in it, and say of
// an article that was here what he likes. What they say of the channel, and of what
// is gone, counts for nothing any more; the next front page says it anew. An older
// edition's blocks may be among those that went, a dictionary above all, so no text
// counts as having arrived: each is to be tried and indexed again. forged are older
// editions of which only those have said where they lie: their blocks go as well.
// It returns how many headlines went, and is durable on return; an unknown channel is
// no error.
func (l *Library) Withdraw(ctx context.Context, ch channel.ID, first uint64, forged ...uint64) (headlines int, err error) {
	if first > math.MaxInt64 {
		return 0, fmt.Errorf("edition %d is out of range", first)
	}
	err = l.update(ctx, func(tx *sql.Tx) error {
		headlines = 0
		num, err := channelNum(ctx, tx, ch)
		if errors.Is(err, transport.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		const came = ` FROM headline WHERE channel = ?1 AND (edition >= ?2
			OR id IN (SELECT id FROM said WHERE channel = ?1 AND edition >= ?2))`
		if err := tx.QueryRowContext(ctx, `SELECT count(*)`+came, num, int64(first)).Scan(&headlines); err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM find WHERE rowid IN (SELECT num` + came + `)`,
			`DELETE` + came,
			`DELETE FROM said WHERE channel = ?1 AND edition >= ?2`,
			`DELETE FROM block WHERE num IN (SELECT block FROM part WHERE channel = ?1 AND edition >= ?2)
				AND num NOT IN (SELECT block FROM part WHERE channel <> ?1 OR edition < ?2)`,
			`DELETE FROM part WHERE channel = ?1 AND edition >= ?2`,
			`DELETE FROM gone WHERE channel = ?1 AND edition >= ?2`,
			`DELETE FROM loose WHERE channel = ?1 AND edition >= ?2`,
			`UPDATE headline SET indexed = 0 WHERE channel = ?1 AND edition < ?2`,
			`UPDATE channel SET edition = NULL, epoch = NULL, date = NULL WHERE num = ?1 AND edition >= ?2`,
		} {
			if _, err := tx.ExecContext(ctx, q, num, int64(first)); err != nil {
				return err
			}
		}
		for _, edition := range forged {
			if err := dropEdition(ctx, tx, num, edition); err != nil {
				return err
			}
		}
		return forgetWords(ctx, tx)
	})
	if err == nil && (headlines > 0 || len(forged) > 0) {
		l.purge(ctx)
	}
	return headlines, err
}
