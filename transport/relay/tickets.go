package relay

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	"tamizdat/bundle/channel"
)

// Sessions keeps what lets a returning reader ask in the first flight: TLS
// session tickets and their keys. They are secrets of the reader's device, and
// show which relays he visits: keep them encrypted. Both methods may be called
// at once, and are called while a connection is being made: they return soon.
// What is lost costs a round trip and nothing else.
type Sessions interface {
	// Load returns what was stored last under key, nil if there is nothing.
	Load(key string) []byte
	// Store keeps value, at most 64 KiB, under key, about 40 characters of ASCII.
	// An empty value forgets the key.
	Store(key string, value []byte)
}

const (
	// maxTickets is how many sessions of one relay are kept. A relay gives one a
	// connection, and each is used once, so two readers of the same library can
	// both have one.
	maxTickets = 2
	// maxTicket bounds one ticket and one session's state, each. A state holds the
	// chains of certificates, which behind a CDN are 4 KiB each.
	maxTicket = 16 << 10
)

// tickets are the resumable sessions of one path. Each is used once
// (RFC 8446, appendix C.4): who watches the network would otherwise recognise
// a reader by his ticket, and early data under one ticket could be replayed as
// often as he connects.
type tickets struct {
	keep Sessions // nil: in memory only
	key  string

	mu     sync.Mutex
	loaded bool
	all    []*tls.ClientSessionState // newest last
	others map[string]*tickets       // see also
}

var _ tls.ClientSessionCache = (*tickets)(nil)

// newTickets are those of one relay over one protocol. They are kept under a
// hash: the store's keys then name no relay.
func newTickets(keep Sessions, kind string, r channel.Relay) *tickets {
	sum := sha256.Sum256([]byte(kind + " " + nameOf(r)))
	return &tickets{keep: keep, key: "tls/" + hex.EncodeToString(sum[:16])}
}

// also are those of the same path when it is gone another way, apart from these;
// the same ones for the same name, or two connections might use one ticket.
func (t *tickets) also(name string) *tickets {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.others[name]
	if o == nil {
		o = &tickets{keep: t.keep, key: t.key + "/" + name}
		if t.others == nil {
			t.others = map[string]*tickets{}
		}
		t.others[name] = o
	}
	return o
}

// nameOf tells a relay's doors for one batch from all others. It holds a secret.
func nameOf(r channel.Relay) string {
	return fmt.Sprintf("%s %d %s %s", r.Host, r.Port, r.Pin, r.Prefix.Path())
}

// Get implements tls.ClientSessionCache: it takes the newest session out. The
// name that crypto/tls asks for is always this relay's.
func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	n := len(t.all)
	if n == 0 {
		return nil, false
	}
	cs := t.all[n-1]
	t.all = t.all[:n-1]
	t.store()
	return cs, true
}

// Put implements tls.ClientSessionCache. nil says that the session taken last
// was of no use; it is gone already.
func (t *tickets) Put(_ string, cs *tls.ClientSessionState) {
	if cs == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	t.all = append(t.all, cs)
	t.all = t.all[max(0, len(t.all)-maxTickets):]
	t.store()
}

// load reads what an earlier run stored; what can't be read counts as absent.
func (t *tickets) load() {
	if t.loaded || t.keep == nil {
		return
	}
	t.loaded = true
	b := t.keep.Load(t.key)
	for len(t.all) < maxTickets {
		ticket, rest, ok1 := cut(b)
		raw, rest, ok2 := cut(rest)
		if !ok1 || !ok2 {
			return
		}
		b = rest
		state, err := tls.ParseSessionState(raw)
		if err != nil {
			return
		}
		cs, err := tls.NewResumptionState(ticket, state)
		if err != nil {
			return
		}
		t.all = append(t.all, cs)
	}
}

// store writes the sessions as lengths (two bytes each) and bytes.
func (t *tickets) store() {
	if t.keep == nil {
		return
	}
	var b []byte
	for _, cs := range t.all {
		ticket, state, err := cs.ResumptionState()
		if err != nil || state == nil {
			continue
		}
		raw, err := state.Bytes()
		if err != nil || len(ticket) > maxTicket || len(raw) > maxTicket {
			continue
		}
		for _, part := range [][]byte{ticket, raw} {
			b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
			b = append(b, part...)
		}
	}
	t.keep.Store(t.key, b)
}

func cut(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || n > maxTicket || len(b)-2 < n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}
