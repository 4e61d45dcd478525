package reader

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path"
	"slices"
	"sync"
	"time"

	"tamizdat/mirror/library"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/relay"
)

const (
	// Relays' sessions, and what was learned over DNS: the note that lists the keys
	// of the others, oldest first, and how many of each kind are kept, the newest ones.
	sessionIndex = "tls/index"
	maxSessions  = 64
	dnsIndex     = "dns/index"
	maxDNS       = 48 // networks' resolvers, and as many blocks of which a part has come
	// gather is how long what is to be stored waits for more: to use a session up
	// and to get the next one then cost one write.
	gather = time.Second
)

// sessions keeps small values that paths would do without, relays' TLS sessions
// say, in the library's notes, where they are as
// encrypted as the rest. Writing waits for the disk, so it is done behind the
// connection's back; a program that is killed forgets the last second.
type sessions struct {
	lib  *library.Library
	log  *slog.Logger
	name string // of the index's note
	max  int

	mu     sync.Mutex
	loaded bool
	// index are the keys that have a value, as Load sees it, the newest last;
	// written is what the index's note says.
	index, written []string
	// pending are values that are not written yet, nil for those to be deleted;
	// batch are those that are being written.
	pending, batch map[string][]byte
	writing        bool // a goroutine is at it
	closed         bool

	closing chan struct{}
	writer  sync.WaitGroup
}

var (
	_ relay.Sessions = (*sessions)(nil)
	_ dns.Keeper     = (*sessions)(nil)
)

func newSessions(lib *library.Library, log *slog.Logger) *sessions {
	return newKeep(lib, log, sessionIndex, maxSessions)
}

func newKeep(lib *library.Library, log *slog.Logger, name string, limit int) *sessions {
	return &sessions{lib: lib, log: log, name: name, max: limit, pending: map[string][]byte{}, closing: make(chan struct{})}
}

// Load implements relay.Sessions. It reads the disk once for a key that is
// known: relay asks once for each relay.
func (s *sessions) Load(key string) []byte {
	s.mu.Lock()
	s.load()
	value, waits := s.pending[key]
	if !waits {
		value, waits = s.batch[key]
	}
	known := !s.closed && slices.Contains(s.index, key)
	s.mu.Unlock()
	if waits || !known {
		return slices.Clone(value)
	}
	value, err := s.lib.Note(context.Background(), key)
	if err != nil && !errors.Is(err, transport.ErrNotFound) {
		s.log.Info("a session can't be read", "error", err)
	}
	return value
}

// load reads the index once; s.mu is held. What can't be read counts as empty.
func (s *sessions) load() {
	if s.loaded || s.closed {
		return
	}
	s.loaded = true
	b, err := s.lib.Note(context.Background(), s.name)
	if err != nil {
		return
	}
	var keys []string
	if json.Unmarshal(b, &keys) == nil {
		s.index, _ = s.newest(keys)
		s.written = slices.Clone(s.index)
	}
}

// newest divides keys, the newest last, into those to be kept and those that are too
// many. Each kind, told by what stands before the last slash, has places of its own:
// blocks come and go by the dozen, and a network's resolvers take a scan of hours.
func (s *sessions) newest(keys []string) (kept, old []string) {
	count := map[string]int{}
	for _, key := range slices.Backward(keys) {
		if kind := path.Dir(key); count[kind] < s.max {
			count[kind]++
			kept = append(kept, key)
		} else {
			old = append(old, key)
		}
	}
	slices.Reverse(kept)
	return kept, old
}

// Store implements relay.Sessions. It doesn't wait for the disk.
func (s *sessions) Store(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(value) > library.MaxNote {
		return
	}
	s.load()
	had := len(s.index)
	s.index = slices.DeleteFunc(s.index, func(k string) bool { return k == key })
	switch {
	case len(value) > 0:
		s.index = append(s.index, key)
		s.pending[key] = slices.Clone(value)
	case len(s.index) < had:
		s.pending[key] = nil
	}
	var old []string
	s.index, old = s.newest(s.index)
	for _, key := range old {
		s.pending[key] = nil
	}
	if len(s.pending) > 0 && !s.writing {
		s.writing = true
		s.writer.Go(s.write)
	}
}

// write stores what is pending, until nothing is.
func (s *sessions) write() {
	for {
		timer := time.NewTimer(gather)
		select {
		case <-timer.C:
		case <-s.closing:
			timer.Stop()
		}
		s.mu.Lock()
		if len(s.pending) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		batch, index := s.pending, slices.Clone(s.index)
		s.pending, s.batch = map[string][]byte{}, batch
		changed := !slices.Equal(index, s.written)
		s.mu.Unlock()
		err := s.put(batch, index, changed)
		s.mu.Lock()
		s.batch = nil
		if err != nil { // a full disk, say: with what is stored next
			for key, value := range s.pending {
				batch[key] = value
			}
			s.pending, s.writing = batch, false
			s.mu.Unlock()
			s.log.Warn("sessions are not kept", "error", err)
			return
		}
		s.written = index
		s.mu.Unlock()
	}
}

// put writes a batch so that no value is ever without its place in the index.
func (s *sessions) put(batch map[string][]byte, index []string, changed bool) error {
	ctx := context.Background()
	for key, value := range batch {
		if value == nil {
			if err := s.lib.SetNote(ctx, key, nil); err != nil {
				return err
			}
		}
	}
	if changed {
		b, err := json.Marshal(index)
		if err != nil {
			return err
		}
		if err := s.lib.SetNote(ctx, s.name, b); err != nil {
			return err
		}
	}
	for key, value := range batch {
		if value != nil {
			if err := s.lib.SetNote(ctx, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// close writes what is left. Nothing is stored or found afterwards.
func (s *sessions) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.writer.Wait()
}
