package library

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// Has tells for each CID whether its block is stored. It reads no block: one
// that is damaged counts as stored until Block finds out.
func (l *Library) Has(ctx context.Context, cids ...cid.Cid) ([]bool, error) {
	has := make([]bool, len(cids))
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, reason(err)
	}
	defer func() { _ = tx.Rollback() }()
	st, err := tx.PrepareContext(ctx, `SELECT EXISTS(SELECT 1 FROM block WHERE cid = ? AND data IS NOT NULL)`)
	if err != nil {
		return nil, reason(err)
	}
	defer st.Close()
	for i, c := range cids {
		if err := st.QueryRowContext(ctx, c.Bytes()).Scan(&has[i]); err != nil {
			return nil, reason(err)
		}
	}
	return has, nil
}

// Block returns a stored block, hashed again. It wraps transport.ErrNotFound if
// there is none. A block that does not match its CID any more is deleted and
// reported in the same way, so that it will be fetched again.
func (l *Library) Block(ctx context.Context, c cid.Cid) ([]byte, error) {
	var num int64
	var data []byte
	err := l.db.QueryRowContext(ctx, `SELECT num, data FROM block WHERE cid = ? AND data IS NOT NULL`, c.Bytes()).Scan(&num, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("block: %w", transport.ErrNotFound)
	} else if err != nil {
		return nil, reason(err)
	}
	if bundle.CheckBlock(c, data) == nil {
		return data, nil
	}
	l.log.Warn("a stored block was damaged: it will be fetched again", "bytes", len(data))
	// The row stays: it says to which editions the block belongs.
	if _, err := l.db.ExecContext(ctx, `UPDATE block SET data = NULL WHERE num = ?`, num); err != nil {
		return nil, reason(err)
	}
	return nil, fmt.Errorf("block, damaged on this device: %w", transport.ErrNotFound)
}

// PutBlocks stores blocks of one edition in one transaction, durable on return:
// all or none. They were hashed when they came, and are hashed again when they are
// read (Block). A block that is stored already is only noted as belonging to this edition as well, so calls may be
// repeated and editions may share blocks. Putting 16 to 64 blocks at once is several
// times faster than one by one: a call costs a sync of the disk.
func (l *Library) PutBlocks(ctx context.Context, ch channel.ID, edition uint64, blocks []bundle.Checked) error {
	if edition > math.MaxInt64 {
		return fmt.Errorf("edition %d is out of range", edition)
	}
	for _, b := range blocks {
		if !b.CID().Defined() {
			return errors.New("put block: there is none")
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	return l.update(ctx, func(tx *sql.Tx) error {
		num, err := ensureChannel(ctx, tx, ch)
		if err != nil {
			return err
		}
		block, err := tx.PrepareContext(ctx, `INSERT INTO block(cid, data) VALUES(?, ?)
			ON CONFLICT(cid) DO UPDATE SET data = excluded.data WHERE data IS NULL`)
		if err != nil {
			return err
		}
		defer block.Close()
		part, err := tx.PrepareContext(ctx, `INSERT OR IGNORE INTO part SELECT ?, ?, num FROM block WHERE cid = ?`)
		if err != nil {
			return err
		}
		defer part.Close()
		for _, b := range blocks {
			key := b.CID().Bytes()
			if _, err := block.ExecContext(ctx, key, b.Data()); err != nil {
				return err
			}
			if _, err := part.ExecContext(ctx, num, int64(edition), key); err != nil {
				return err
			}
		}
		return nil
	})
}

// EditionBlocks yields the stored blocks of an edition in the order in which
// they came, each read and checked when its turn comes. Damaged ones are left
// out (see Block). An error is the last value. The loop's body may call any
// other method.
func (l *Library) EditionBlocks(ctx context.Context, ch channel.ID, edition uint64) iter.Seq2[transport.Block, error] {
	return func(yield func(transport.Block, error) bool) {
		cids, err := l.editionCIDs(ctx, ch, edition)
		if err != nil {
			yield(transport.Block{}, err)
			return
		}
		for _, c := range cids {
			data, err := l.Block(ctx, c)
			if errors.Is(err, transport.ErrNotFound) {
				continue
			}
			if !yield(transport.Block{CID: c, Data: data}, err) || err != nil {
				return
			}
		}
	}
}

func (l *Library) editionCIDs(ctx context.Context, ch channel.ID, edition uint64) ([]cid.Cid, error) {
	if edition > math.MaxInt64 {
		return nil, nil
	}
	rows, err := l.db.QueryContext(ctx, `SELECT cid FROM part JOIN block ON block.num = part.block
		WHERE part.channel = (SELECT num FROM channel WHERE id = ?) AND part.edition = ? ORDER BY block.num`,
		ch[:], int64(edition))
	if err != nil {
		return nil, reason(err)
	}
	defer rows.Close()
	var cids []cid.Cid
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, reason(err)
		}
		c, err := cid.Cast(b)
		if err != nil {
			return nil, fmt.Errorf("%w: a block has no proper name", ErrDamaged)
		}
		cids = append(cids, c)
	}
	return cids, reason(rows.Err())
}

// DropEdition deletes the blocks of an edition that no other edition needs, to
// make room. Headlines stay.
func (l *Library) DropEdition(ctx context.Context, ch channel.ID, edition uint64) error {
	if edition > math.MaxInt64 {
		return nil
	}
	return l.update(ctx, func(tx *sql.Tx) error {
		num, err := channelNum(ctx, tx, ch)
		if errors.Is(err, transport.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return dropEdition(ctx, tx, num, edition)
	})
}

func dropEdition(ctx context.Context, tx *sql.Tx, ch int64, edition uint64) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM block WHERE num IN (SELECT block FROM part WHERE channel = ?1 AND edition = ?2)
		AND num NOT IN (SELECT block FROM part WHERE channel <> ?1 OR edition <> ?2)`, ch, int64(edition)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM part WHERE channel = ? AND edition = ?`, ch, int64(edition))
	return err
}
