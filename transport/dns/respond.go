package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

const (
	ttlContent = 86400
	ttlNamed   = 60
	ttlZone    = 3600
	// ttlNegative is the SOA minimum (RFC 2308): a name that is missing now may
	// be published in the next minute.
	ttlNegative = 60

	// When other name servers ask whether there is something new, in seconds; and
	// when they give up on it.
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 7 * 86400
)

// Zone is a zone that a Server answers for, or that WriteZone writes.
type Zone struct {
	// Name is the zone's name, at most 33 characters of letters, digits,
	// hyphens, underscores and dots.
	Name string
	// NS are its name servers; empty: ns.<zone> without an address, which does
	// where resolvers are told the address.
	NS []NS
	// Serial is the SOA serial; 0: the store's if it is Versioned, else the time
	// in Unix seconds when the zone was set up.
	Serial uint32
}

// Unplaced are the name servers that lie in the zone and have no address there, so that
// resolvers which ask the zone for it get no further.
func (z Zone) Unplaced() []string {
	checked, err := newZone(z, nil)
	if err != nil {
		return nil
	}
	var out []string
	for _, ns := range checked.ns {
		if len(ns.Addrs) == 0 && inZone(ns.Host, checked.name) {
			out = append(out, ns.Host)
		}
	}
	return out
}

// NS is one name server of a zone.
type NS struct {
	// Host is its full name.
	Host string
	// Addrs are given out when Host lies in the zone (and should stand as glue
	// in the parent zone).
	Addrs []netip.Addr
}

// ParseNS reads NAME or NAME=ADDRESS. With an error, which the address is to blame
// for, the name is returned all the same. It is checked with the zone.
func ParseNS(text string) (NS, error) {
	host, addr, given := strings.Cut(text, "=")
	ns := NS{Host: host}
	if given {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return ns, errors.New("give NAME or NAME=ADDRESS")
		}
		ns.Addrs = []netip.Addr{a}
	}
	return ns, nil
}

// zone is a Zone, checked and prepared.
type zone struct {
	name     string // lower case, no dot at the end
	store    Store
	versions Versioned // the store, if it knows its serial; else nil
	ns       []NS
	soa      []byte   // RDATA
	nsRR     [][]byte // RDATA of each NS record
}

func newZone(z Zone, store Store) (*zone, error) {
	name, err := checkZone(z.Name)
	if err != nil {
		return nil, err
	}
	out := &zone{name: name, store: store}
	if len(z.NS) == 0 {
		z.NS = []NS{{Host: "ns." + name}}
	}
	for _, ns := range z.NS {
		host := lowerASCII(strings.TrimSuffix(ns.Host, "."))
		if err := checkHost(host); err != nil {
			return nil, fmt.Errorf("name server: %w", err)
		}
		out.ns = append(out.ns, NS{host, ns.Addrs})
		out.nsRR = append(out.nsRR, appendName(nil, host))
	}
	serial := z.Serial
	if serial == 0 {
		out.versions, _ = store.(Versioned)
		serial = uint32(time.Now().Unix())
	}
	out.soa = appendName(nil, out.ns[0].Host)
	out.soa = appendName(out.soa, "hostmaster."+name)
	for _, v := range []uint32{serial, soaRefresh, soaRetry, soaExpire, ttlNegative} {
		out.soa = binary.BigEndian.AppendUint32(out.soa, v)
	}
	return out, nil
}

// serialAt is how far from its end the serial stands in the RDATA of a SOA.
const serialAt = 20

// serialNow is the zone's serial.
func (z *zone) serialNow() uint32 {
	if z.versions != nil {
		serial, _ := z.versions.Version()
		return serial
	}
	return binary.BigEndian.Uint32(z.soa[len(z.soa)-serialAt:])
}

// peer is who asks, and how.
type peer struct {
	addr netip.Addr // invalid where there is none: then there are no cookies and no limit
	// stream: over TCP, which nobody can open from another's address.
	stream bool
	// limit is the largest response; 0 for what the query says.
	limit int
	// idle is how long the connection may be silent.
	idle time.Duration
}

// badCookie and badVersion are RCODEs that only EDNS can tell.
const (
	badVersion = 16
	badCookie  = 23
)

// respond appends the response to req to out; nil if there is to be none.
func (s *Server) respond(ctx context.Context, req, out []byte, from peer) []byte {
	q, rcode, err := parseQuery(req)
	if errors.Is(err, errDrop) {
		return nil
	}
	w := reply{buf: append(out[:0], make([]byte, headerLen)...), q: &q}
	w.buf = append(w.buf, q.raw...)
	copy(w.buf[:2], req)
	w.buf[2] = 0x80 | req[2]&0x79 // QR; opcode and RD as they came
	if len(q.raw) > 0 {
		w.buf[5] = 1
	}
	known := w.options(s.cookies, from)
	over := !known && !from.stream && from.addr.IsValid() && !s.rates.allow(from.addr)
	if q.tsig && len(s.keys) > 0 {
		if !over {
			return s.respondSigned(ctx, req, out, from)
		}
		if resp := s.cutSigned(req); resp != nil {
			return resp
		}
	}
	switch {
	case over:
		// Nothing is sent that is larger than what came, but for this server's half of
		// a cookie. With that the client may come again at once, without over TCP.
		if len(q.cookie) > 0 {
			return w.finish(badCookie, from.limit)
		}
		w.cut()
		return w.finish(0, from.limit)
	case errors.Is(err, errVersion):
		return w.finish(badVersion, from.limit)
	case len(q.raw) == 0 && len(q.cookie) > clientCookie && !known && rcode == dnsmessage.RCodeSuccess:
		return w.finish(badCookie, from.limit)
	case err != nil:
		return w.finish(int(rcode), from.limit)
	}
	z, depth := s.find(q.labels)
	if z == nil || q.qtype == dnsmessage.TypeAXFR || q.qtype == typeIXFR {
		return w.finish(int(dnsmessage.RCodeRefused), from.limit)
	}
	w.buf[2] |= 0x04 // AA
	w.zoneAt = headerLen
	if depth < len(q.starts) {
		w.zoneAt += q.starts[depth]
	}
	rcode, err = w.fill(ctx, z, depth)
	if err != nil {
		s.log.Warn("dns store failed", "err", err)
		rcode, w.answers = dnsmessage.RCodeServerFailure, 0
		w.buf = w.buf[:headerLen+len(q.raw)]
	} else if w.answers == 0 {
		w.soa(w.zoneAt, ttlNegative, z)
		w.authority = 1
	}
	return w.finish(int(rcode), from.limit)
}

// cutSigned is what goes over the rate to who has a key: TC, signed, since secondaries
// pass over what is not. So nobody who asks in their name keeps the serial from them.
// It is nil for all others, who get no more than without a signature.
func (s *Server) cutSigned(req []byte) []byte {
	m := new(mdns.Msg)
	if m.Unpack(req) != nil || len(m.Question) != 1 {
		return nil
	}
	k, mac, _ := s.keys.check(req, m)
	if k == nil {
		return nil
	}
	resp := new(mdns.Msg).SetReply(m)
	resp.Truncated = true
	raw, _, err := k.sign(resp, mac, false)
	if err != nil {
		return nil
	}
	return raw
}

// options prepares the EDNS options of the response. known: by a good cookie, the
// query came from where it says.
func (w *reply) options(c *cookies, from peer) (known bool) {
	if len(w.q.cookie) > 0 && from.addr.IsValid() {
		w.opts = append(w.opts, 0, optCookie, 0, clientCookie+serverCookie)
		w.opts, known = c.answer(w.opts, w.q.cookie, from.addr, time.Now())
	}
	if w.q.keepalive && from.stream && from.idle > 0 {
		w.opts = append(w.opts, 0, optAlive, 0, 2)
		w.opts = binary.BigEndian.AppendUint16(w.opts, uint16(from.idle/(100*time.Millisecond)))
	}
	return known
}

// find returns the zone that a name lies in and how many labels are in front of
// it.
func (s *Server) find(labels []string) (*zone, int) {
	name := strings.Join(labels, ".")
	for i, l := range labels {
		if z := s.zones[name]; z != nil && !dotted(labels[i:]) {
			return z, i
		}
		name = name[min(len(l)+1, len(name)):]
	}
	return nil, 0
}

// dotted reports whether a label holds a dot of its own, as on the wire it may:
// joined, it would pass for two.
func dotted(labels []string) bool {
	return slices.ContainsFunc(labels, func(l string) bool { return strings.Contains(l, ".") })
}

// reply is a response in the making, as wire bytes: the one thing that must be
// cheap is a TXT answer, and escaping it for a library costs eight times the work.
type reply struct {
	buf                []byte
	q                  *question
	zoneAt             int // where the zone's name starts, for compression
	answers, authority byte
	opts               []byte // EDNS options
}

// rr appends a resource record whose owner is the name at offset ptr.
func (w *reply) rr(ptr int, t dnsmessage.Type, ttl uint32, rdata []byte) {
	w.rrHead(ptr, t, ttl)
	w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(len(rdata)))
	w.buf = append(w.buf, rdata...)
}

// soa appends the zone's SOA of this moment.
func (w *reply) soa(ptr int, ttl uint32, z *zone) {
	w.rr(ptr, dnsmessage.TypeSOA, ttl, z.soa)
	binary.BigEndian.PutUint32(w.buf[len(w.buf)-serialAt:], z.serialNow())
}

func (w *reply) rrHead(ptr int, t dnsmessage.Type, ttl uint32) {
	w.buf = binary.BigEndian.AppendUint16(w.buf, 0xc000|uint16(ptr))
	w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(t))
	w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(dnsmessage.ClassINET))
	w.buf = binary.BigEndian.AppendUint32(w.buf, ttl)
}

// wants reports whether the question asks for a type. ANY gets one RRset, as
// RFC 8482 section 4.1 allows.
func (w *reply) wants(t dnsmessage.Type) bool {
	return w.answers == 0 && (w.q.qtype == t || w.q.qtype == dnsmessage.TypeALL)
}

// fill answers the first depth labels of the question in zone z.
func (w *reply) fill(ctx context.Context, z *zone, depth int) (dnsmessage.RCode, error) {
	if depth == 0 {
		if w.wants(dnsmessage.TypeSOA) {
			w.soa(headerLen, ttlZone, z)
			w.answers = 1
		}
		if w.wants(dnsmessage.TypeNS) {
			for _, rdata := range z.nsRR {
				w.rr(headerLen, dnsmessage.TypeNS, ttlZone, rdata)
			}
			w.answers = byte(len(z.nsRR))
		}
		return dnsmessage.RCodeSuccess, nil
	}
	if exists := w.host(z); exists {
		return dnsmessage.RCodeSuccess, nil
	}
	label := w.q.labels[depth-1]
	if dotted(w.q.labels[depth-1 : depth]) {
		return dnsmessage.RCodeNameError, nil
	}
	rec, named, err := z.linked(ctx, w.q.labels[:depth])
	if errors.Is(err, transport.ErrNotFound) {
		rec, named, err = z.lookup(ctx, label, depth > 1)
	}
	if errors.Is(err, transport.ErrNotFound) {
		return dnsmessage.RCodeNameError, nil
	}
	if err != nil {
		return 0, err
	}
	if w.wants(dnsmessage.TypeTXT) {
		ttl, class := uint32(ttlContent), record.ClassOf(rec)
		if named {
			ttl, class = ttlNamed, record.Large
			if isSmall(label) {
				class = record.Small
			}
		}
		w.rrHead(headerLen, dnsmessage.TypeTXT, ttl)
		w.buf = appendTXT(w.buf, txtData(class, rec))
		w.answers = 1
	}
	return dnsmessage.RCodeSuccess, nil
}

// host answers for the name servers that lie in the zone, and for the empty
// names above them.
func (w *reply) host(z *zone) (exists bool) {
	if dotted(w.q.labels) {
		return false
	}
	name := strings.Join(w.q.labels, ".")
	for _, ns := range z.ns {
		if ns.Host != name {
			exists = exists || strings.HasSuffix(ns.Host, "."+name)
			continue
		}
		exists = true
		for _, a := range ns.Addrs {
			t := dnsmessage.TypeAAAA
			if a = a.Unmap(); a.Is4() {
				t = dnsmessage.TypeA
			}
			if w.q.qtype == t || w.q.qtype == dnsmessage.TypeALL {
				w.rr(headerLen, t, ttlZone, a.AsSlice())
				w.answers++
			}
		}
	}
	return exists
}

// linked finds the DNSLink of a label, which stands before the wildcard there.
func (z *zone) linked(ctx context.Context, labels []string) (rec []byte, named bool, err error) {
	if len(labels) < 2 || labels[len(labels)-2] != dnslink {
		return nil, false, transport.ErrNotFound
	}
	rec, err = z.store.Named(ctx, linkLabel(labels[len(labels)-1]))
	return rec, true, err
}

// lookup finds what stands under a label; below marks a name further down,
// where only the wildcards are.
func (z *zone) lookup(ctx context.Context, label string, below bool) (rec []byte, named bool, err error) {
	if !below {
		if name, err := record.ParseLabel(label); err == nil {
			rec, err = z.store.Record(ctx, name)
			if err == nil || !errors.Is(err, transport.ErrNotFound) {
				return rec, false, err
			}
		}
	}
	rec, err = z.store.Named(ctx, label)
	return rec, true, err
}

// cut leaves nothing but the question, and TC.
func (w *reply) cut() {
	w.buf = w.buf[:headerLen+len(w.q.raw)]
	w.buf[2] |= 0x02
	w.answers, w.authority = 0, 0
}

// finish sets counts and rcode, and cuts the response down if it is larger than
// what the client takes.
func (w *reply) finish(rcode, limit int) []byte {
	if limit == 0 {
		limit = max(w.q.size, plainSize)
	}
	optLen := 0
	if w.q.edns {
		optLen = 11 + len(w.opts)
	}
	if len(w.buf)+optLen > limit {
		w.cut()
	}
	w.buf[3] = byte(rcode & 15)
	w.buf[7], w.buf[9] = w.answers, w.authority
	if !w.q.edns {
		return w.buf
	}
	w.buf[11] = 1
	w.buf = appendOPT(w.buf, byte(rcode>>4))
	if w.q.dnssec {
		w.buf[len(w.buf)-4] = 0x80
	}
	binary.BigEndian.PutUint16(w.buf[len(w.buf)-2:], uint16(len(w.opts)))
	w.buf = append(w.buf, w.opts...)
	return w.buf
}
