package file

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/transport"
)

// Folder is a publisher's target that keeps one CAR file an edition in a folder
// (a stick, a shared drive).
type Folder struct{ Dir string }

var _ transport.Publisher = Folder{}

// Publish implements transport.Publisher: the file is there whole and synced, or
// not at all.
func (f Folder) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(f.Dir, fmt.Sprintf("edition-%06d.car", s.Edition))
	return durable.WriteFile(name, 0o644, func(w io.Writer) error {
		_, err := io.Copy(&meter{ctx: ctx, w: w, total: s.Size, tell: progress}, io.NewSectionReader(s.CAR, 0, s.Size))
		return err
	})
}

// meter reports what goes through it and stops when ctx ends.
type meter struct {
	ctx         context.Context
	w           io.Writer
	held, total int64
	tell        func(held, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(p)
	m.held += int64(n)
	if m.tell != nil {
		m.tell(m.held, m.total)
	}
	return n, err
}

// Current implements transport.Publisher.
func (f Folder) Current(ctx context.Context, ch channel.ID) ([]byte, error) {
	if _, err := os.Stat(f.Dir); os.IsNotExist(err) {
		return nil, transport.ErrNotFound
	}
	names, err := carFiles(f.Dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, transport.ErrNotFound
	}
	s, err := open(f.Dir, false) // the blocks of many editions are gigabytes
	if err != nil {
		return nil, err
	}
	return s.Head(ctx, ch, 0)
}
