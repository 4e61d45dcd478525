package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// question is a parsed query.
type question struct {
	raw    []byte // the question section as it came, to be echoed with its letter case
	labels []string
	starts []int // offset of each label in raw
	qtype  dnsmessage.Type
	edns   bool
	tsig   bool
	size   int // UDP payload size that the client takes
}

var (
	errDrop   = errors.New("not a query")
	errFormat = errors.New("malformed query")
)

// parseQuery reads a query strictly enough to never answer nonsense. rcode is
// meaningful if err is errFormat.
func parseQuery(req []byte) (q question, rcode dnsmessage.RCode, err error) {
	if len(req) < headerLen || req[2]&0x80 != 0 {
		return q, 0, errDrop
	}
	if req[2]>>3&15 != 0 {
		return q, dnsmessage.RCodeNotImplemented, errFormat
	}
	if binary.BigEndian.Uint16(req[4:]) != 1 {
		return q, dnsmessage.RCodeFormatError, errFormat
	}
	off := headerLen
	for {
		if off >= len(req) || off-headerLen > 254 {
			return q, dnsmessage.RCodeFormatError, errFormat
		}
		n := int(req[off])
		if n == 0 {
			off++
			break
		}
		if n > 63 || off+1+n > len(req) {
			return q, dnsmessage.RCodeFormatError, errFormat
		}
		q.starts = append(q.starts, off-headerLen)
		q.labels = append(q.labels, lowerASCII(string(req[off+1:off+1+n])))
		off += 1 + n
	}
	if off+4 > len(req) {
		return q, dnsmessage.RCodeFormatError, errFormat
	}
	q.qtype = dnsmessage.Type(binary.BigEndian.Uint16(req[off:]))
	class := binary.BigEndian.Uint16(req[off+2:])
	q.raw = req[headerLen : off+4]
	q.size = plainSize
	if err := q.parseOPT(req); err != nil {
		return q, dnsmessage.RCodeFormatError, err
	}
	if class != uint16(dnsmessage.ClassINET) {
		return q, dnsmessage.RCodeRefused, errFormat
	}
	return q, 0, nil
}

// parseOPT looks for EDNS in the additional section.
func (q *question) parseOPT(req []byte) error {
	if len(req) == headerLen+len(q.raw) {
		return nil // the common case without EDNS
	}
	var p dnsmessage.Parser
	if _, err := p.Start(req); err != nil {
		return errFormat
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return errFormat
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return errFormat
		}
		q.tsig = h.Type == typeTSIG
		if h.Type == dnsmessage.TypeOPT {
			if q.edns {
				return errFormat // RFC 6891 section 6.1.1
			}
			q.edns = true
			q.size = min(max(int(h.Class), plainSize), ednsSize)
			if h.TTL>>16&0xff != 0 {
				return errVersion
			}
		}
		if p.SkipAdditional() != nil {
			return errFormat
		}
	}
}

// typeTSIG is RFC 8945's, which dnsmessage doesn't name.
const typeTSIG = dnsmessage.Type(mdns.TypeTSIG)

var errVersion = errors.New("unknown edns version")

// respond appends the response to req to out; nil if there is to be none. limit
// is the largest response, 0 for what the query says (UDP).
func (s *Server) respond(ctx context.Context, req, out []byte, limit int) []byte {
	q, rcode, err := parseQuery(req)
	if errors.Is(err, errDrop) {
		return nil
	}
	if q.tsig && len(s.keys) > 0 {
		return s.respondSigned(ctx, req, out, limit)
	}
	w := reply{buf: append(out[:0], make([]byte, headerLen)...), q: &q}
	w.buf = append(w.buf, q.raw...)
	copy(w.buf[:2], req)
	w.buf[2] = 0x80 | req[2]&0x79 // QR; opcode and RD as they came
	if len(q.raw) > 0 {
		w.buf[5] = 1
	}
	switch {
	case errors.Is(err, errVersion):
		return w.finish(16, limit) // BADVERS
	case err != nil:
		q.edns = false
		return w.finish(int(rcode), limit)
	}
	z, depth := s.find(q.labels)
	if z == nil || q.qtype == dnsmessage.TypeAXFR || q.qtype == typeIXFR {
		return w.finish(int(dnsmessage.RCodeRefused), limit)
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
	return w.finish(int(rcode), limit)
}

// find returns the zone that a name lies in and how many labels are in front of
// it; of nested zones the inner one.
func (s *Server) find(labels []string) (*zone, int) {
	for i := range labels {
		if z := s.zones[strings.Join(labels[i:], ".")]; z != nil {
			return z, i
		}
	}
	return nil, 0
}

// reply is a response in the making, as wire bytes: the one thing that must be
// cheap is a TXT answer, and escaping it for a library costs eight times the work.
type reply struct {
	buf                []byte
	q                  *question
	zoneAt             int // where the zone's name starts, for compression
	answers, authority byte
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
	rec, named, err := z.lookup(ctx, label, depth > 1)
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

// finish sets counts and rcode, and cuts the response down to TC if it is
// larger than what the client takes.
func (w *reply) finish(rcode, limit int) []byte {
	if limit == 0 {
		limit = max(w.q.size, plainSize)
	}
	optLen := 0
	if w.q.edns {
		optLen = 11
	}
	if len(w.buf)+optLen > limit {
		w.buf = w.buf[:headerLen+len(w.q.raw)]
		w.buf[2] |= 0x02 // TC
		w.answers, w.authority = 0, 0
	}
	w.buf[3] = byte(rcode & 15)
	w.buf[7], w.buf[9] = w.answers, w.authority
	if w.q.edns {
		w.buf = appendOPT(w.buf, byte(rcode>>4))
		w.buf[11] = 1
	}
	return w.buf
}
