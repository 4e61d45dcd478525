package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// Store is where a Server finds what it answers. Both methods may be called at
// once and often; they return an error wrapping transport.ErrNotFound if there
// is no such thing (any other error becomes SERVFAIL). The Server does not
// change what they return and does not keep it. Nobody retries.
type Store interface {
	// Record returns the record of that name.
	Record(ctx context.Context, name record.Name) ([]byte, error)
	// Named returns what stands under a label that is no hash: head, root note,
	// grant, in either class, DNSLink (see the package comment). label is in lower
	// case and may be anything a stranger asks for; a DNSLink's is two labels.
	Named(ctx context.Context, label string) ([]byte, error)
}

// ErrFull is returned by Memory when its limit is reached.
var ErrFull = errors.New("dns store is full")

// entryCost is what a record costs besides its bytes, roughly: map entry,
// slice header, name.
const entryCost = 80

// Memory is a Store in memory with a limit on its size. The zero value is not
// usable.
type Memory struct {
	limit int64

	mu      sync.RWMutex
	used    int64
	records map[record.Name][]byte
	named   map[string][]byte
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store that takes up to limit bytes.
func NewMemory(limit int64) *Memory {
	return &Memory{limit: limit, records: map[record.Name][]byte{}, named: map[string][]byte{}}
}

// Record implements Store.
func (m *Memory) Record(_ context.Context, name record.Name) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if rec, ok := m.records[name]; ok {
		return rec, nil
	}
	return nil, transport.ErrNotFound
}

// Named implements Store.
func (m *Memory) Named(_ context.Context, label string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if rec, ok := m.named[label]; ok {
		return rec, nil
	}
	return nil, transport.ErrNotFound
}

// Put adds a record under its own name.
func (m *Memory) Put(rec []byte) error {
	name := record.NameOf(rec)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.records[name]; ok {
		return nil
	}
	if err := m.take(int64(len(rec)) + entryCost); err != nil {
		return err
	}
	m.records[name] = bytes.Clone(rec)
	return nil
}

// PutNamed sets what stands under a label (lower case), replacing what was there.
func (m *Memory) PutNamed(label string, rec []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	cost := int64(len(rec)) + entryCost
	if old, ok := m.named[label]; ok {
		cost = int64(len(rec) - len(old))
	}
	if err := m.take(cost); err != nil {
		return err
	}
	m.named[label] = bytes.Clone(rec)
	return nil
}

func (m *Memory) take(n int64) error {
	if m.used+n > m.limit {
		return fmt.Errorf("%w: limit of %d bytes", ErrFull, m.limit)
	}
	m.used += n
	return nil
}

// PutEdition adds all that an edition puts into DNS. The head goes last, so
// that nobody is sent after records that aren't there yet; after an error the
// old head still stands.
func (m *Memory) PutEdition(e *Edition) error {
	for it, err := range e.records() {
		if err != nil {
			return err
		}
		if it.label != "" {
			err = m.PutNamed(it.label, it.bytes)
		} else {
			err = m.Put(it.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// All yields all that the store holds, in no particular order, for WriteZone.
func (m *Memory) All() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		for name, rec := range m.records {
			if !yield(Entry{Label: name.Label(), Data: rec}, nil) {
				return
			}
		}
		for label, rec := range m.named {
			if !yield(Entry{Label: label, Data: rec, Named: true}, nil) {
				return
			}
		}
	}
}
