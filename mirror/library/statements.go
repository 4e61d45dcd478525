package library

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/ncruces/go-sqlite3"
	sqlite "github.com/ncruces/go-sqlite3/driver"
)

// keepStatements bounds how many idle statements a connection keeps.
const keepStatements = 64

// openDB is sqlite's Open, but statements stay prepared: parsing one takes
// several times as long as running it, and a library asks the same few dozen
// again and again. init is called for each new connection.
func openDB(dsn string, init func(*sqlite3.Conn) error) (*sql.DB, error) {
	inner, err := (&sqlite.SQLite{}).OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(&connector{inner, init}), nil
}

type connector struct {
	driver.Connector
	init func(*sqlite3.Conn) error
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	dc, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := &conn{Conn: dc.(sqlite.Conn), idle: map[string]*statement{}}
	if err := c.init(conn.Raw()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// conn is one connection. database/sql locks it for each call, and for those of
// its statements.
type conn struct {
	sqlite.Conn
	idle map[string]*statement // by their text
}

var _ driver.ExecerContext = (*conn)(nil)

// ExecContext implements driver.ExecerContext: without arguments it takes any
// number of statements, which are not kept.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 {
		return nil, driver.ErrSkip
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if s := c.idle[query]; s != nil {
		delete(c.idle, query) // while it is in use, another one is another one
		return s, nil
	}
	s, err := c.Conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &statement{preparedStmt: s.(preparedStmt), conn: c, query: query}, nil
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	var errs []error
	for _, s := range c.idle {
		errs = append(errs, s.preparedStmt.Close())
	}
	c.idle = nil
	return errors.Join(append(errs, c.Conn.Close())...)
}

// preparedStmt is what the driver's statements are.
type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

// statement goes back to its connection when it is closed. The driver has reset
// it by then: after each run, or when its rows were closed.
type statement struct {
	preparedStmt
	conn  *conn
	query string
}

var _ preparedStmt = (*statement)(nil)

// Close implements driver.Stmt.
func (s *statement) Close() error {
	if _, ok := s.conn.idle[s.query]; ok || s.conn.idle == nil || len(s.conn.idle) >= keepStatements {
		return s.preparedStmt.Close()
	}
	s.conn.idle[s.query] = s
	return nil
}
