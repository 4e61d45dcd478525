package library

import (
	"database/sql"
	"fmt"
	"testing"
)

// TestStatements sees that statements stay prepared, that one which is in use is
// not given to somebody else, and that not all of them are kept.
func TestStatements(t *testing.T) {
	l, err := Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	idle := func() (n int) {
		t.Helper()
		c, err := l.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Raw(func(dc any) error { n = len(dc.(*conn).idle); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const q = `SELECT value FROM json_each('[1,2,3]') WHERE value > ?`
	sum := func(tx *sql.Tx, above, depth int) (n int) {
		var nest func(above, depth int)
		nest = func(above, depth int) {
			rows, err := tx.QueryContext(t.Context(), q, above)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var v int
				if err := rows.Scan(&v); err != nil {
					t.Fatal(err)
				}
				if n += v; depth > 0 {
					nest(v, depth-1)
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		}
		nest(above, depth)
		return n
	}
	before := idle()
	for range 3 {
		if err := l.update(t.Context(), func(tx *sql.Tx) error {
			// 1+2+3, and within each of them those above it: 2+3, 3, and nothing.
			if got := sum(tx, 0, 1); got != 14 {
				t.Errorf("%d instead of 14", got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n := idle(); n != before+1 {
			t.Errorf("%d statements are kept instead of %d", n, before+1)
		}
	}
	for i := range 2 * keepStatements {
		var n int
		if err := l.db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT ? + %d", i), 1).Scan(&n); err != nil || n != i+1 {
			t.Fatal(n, err)
		}
	}
	if n := idle(); n != keepStatements {
		t.Errorf("%d statements are kept instead of %d", n, keepStatements)
	}
}
