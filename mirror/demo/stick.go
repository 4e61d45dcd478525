package demo

import (
	"context"
	"iter"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// stickName is the name of that path.
const stickName = "stick"

// stick is the folder of CAR files as a path that the censor can take away. It
// is read anew each time, since editions are added while the demo runs.
type stick struct {
	dir    string
	censor *Switches
}

var (
	_ transport.Heads  = stick{}
	_ transport.Blocks = stick{}
)

func (s stick) open() (*file.Source, error) {
	if s.censor.Blocked(transport.KindFile) {
		return nil, transport.ErrBlocked
	}
	return file.Open(s.dir)
}

// Head implements transport.Heads.
func (s stick) Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.Head(ctx, ch, have)
}

// RootNote implements transport.Heads.
func (s stick) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.RootNote(ctx, ch, version)
}

// Grant implements transport.Heads.
func (s stick) Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error) {
	src, err := s.open()
	if err != nil {
		return nil, err
	}
	return src.Grant(ctx, ch, name)
}

// Fetch implements transport.Blocks.
func (s stick) Fetch(ctx context.Context, r transport.Request) iter.Seq2[transport.Block, error] {
	src, err := s.open()
	if err != nil {
		return func(yield func(transport.Block, error) bool) { yield(transport.Block{}, err) }
	}
	return src.Fetch(ctx, r)
}
