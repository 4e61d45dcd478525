package censor

import (
	"net/netip"
	"sync"
	"time"
)

// QUICNames decrypts the Initials in the first Datagrams of each UDP flow, puts
// their CRYPTO frames together, and when the name is listed drops what the
// reader's host sends to that host and port, from any port, For so long, that
// datagram included. What comes back passes.
type QUICNames struct {
	Datagrams int
	For       time.Duration
	// SkipLowPorts leaves flows alone whose source port is at most the
	// destination's, as the GFW does to tell clients from servers.
	SkipLowPorts bool
}

// Name implements Rule.
func (QUICNames) Name() string { return "quic name" }

// Start implements Rule.
func (r QUICNames) Start(m *Map) Box {
	return &quicBox{QUICNames: r, m: m, until: map[quicKey]time.Time{}}
}

type quicKey struct {
	from netip.Addr
	to   netip.AddrPort
}

// maxQUICBlocks bounds what the box remembers; past it the lapsed are forgotten,
// and if there are none it blocks no more.
const maxQUICBlocks = 4096

type quicBox struct {
	QUICNames
	m *Map

	mu    sync.Mutex
	until map[quicKey]time.Time
}

func (b *quicBox) Flow(f Flow) Inspector {
	if f.Proto != UDP {
		return nil
	}
	q := &quicFlow{b: b, key: quicKey{f.Local.Addr(), f.To}, seen: initials{limit: b.Datagrams}}
	if !f.Fresh || b.SkipLowPorts && f.Local.Port() <= f.To.Port() {
		q.seen.limit = 0 // it is not looked into, but a block hits it too
	}
	return q
}

func (b *quicBox) blocks(k quicKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.until[k]
	if ok && !time.Now().Before(until) {
		delete(b.until, k)
		return false
	}
	return ok
}

func (b *quicBox) block(k quicKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.until) >= maxQUICBlocks {
		for k, t := range b.until {
			if !now.Before(t) {
				delete(b.until, k)
			}
		}
		if len(b.until) >= maxQUICBlocks {
			return
		}
	}
	b.until[k] = now.Add(b.For)
}

type quicFlow struct {
	Passing
	b    *quicBox
	key  quicKey
	seen initials
}

func (q *quicFlow) Out(p []byte) Verdict {
	if q.b.blocks(q.key) {
		return Verdict{Action: Drop}
	}
	if h, ok := q.seen.add(p); ok && lists(q.b.m.Names, h.name) {
		q.b.block(q.key)
		return Verdict{Action: Drop}
	}
	return Verdict{}
}

// DropQUIC drops datagrams both ways that start with a long header of that QUIC
// version and have Size bytes of payload or more.
type DropQUIC struct {
	Version uint32
	Size    int
}

// Name implements Rule.
func (DropQUIC) Name() string { return "quic version" }

// Start implements Rule.
func (r DropQUIC) Start(*Map) Box { return r }

// Flow implements Box.
func (r DropQUIC) Flow(f Flow) Inspector {
	if f.Proto != UDP {
		return nil
	}
	return versionFlow{r: r}
}

type versionFlow struct {
	Passing
	r DropQUIC
}

// Out and In implement Inspector.
func (f versionFlow) Out(b []byte) Verdict {
	if len(b) >= f.r.Size && isLongHeader(b) && quicVersion(b) == f.r.Version {
		return Verdict{Action: Drop}
	}
	return Verdict{}
}

func (f versionFlow) In(b []byte) Verdict { return f.Out(b) }
