package dns

import (
	"encoding/binary"
	"errors"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// question is a parsed query.
type question struct {
	raw    []byte // the question section as it came, to be echoed with its letter case; empty if there is none
	labels []string
	starts []int // offset of each label in raw
	qtype  dnsmessage.Type
	tsig   bool

	edns      bool
	size      int    // UDP payload size that the client takes
	dnssec    bool   // the DO bit, which goes back as it came (RFC 3225 section 3)
	cookie    []byte // the COOKIE option (RFC 7873): 8 bytes, or 16 to 40
	keepalive bool   // the edns-tcp-keepalive option (RFC 7828)
}

var (
	errDrop    = errors.New("not a query")
	errFormat  = errors.New("no query to look up")
	errVersion = errors.New("unknown edns version")
)

// Types and options that dnsmessage doesn't name.
const (
	typeTSIG  = dnsmessage.Type(mdns.TypeTSIG) // RFC 8945
	typeIXFR  = dnsmessage.Type(mdns.TypeIXFR) // RFC 1995
	optCookie = 10
	optAlive  = 11
)

// parseQuery reads a query strictly enough to never answer nonsense. With
// errFormat, rcode is the whole answer.
func parseQuery(req []byte) (q question, rcode dnsmessage.RCode, err error) {
	if len(req) < headerLen || req[2]&0x80 != 0 {
		return q, 0, errDrop
	}
	q.size = plainSize
	bad := dnsmessage.RCodeFormatError
	otherOp := req[2]>>3&15 != 0 // whose questions may be no questions
	if otherOp {
		bad = dnsmessage.RCodeNotImplemented
	}
	off := headerLen
	if n := binary.BigEndian.Uint16(req[4:]); n > 1 { // RFC 9619
		return q, bad, errFormat
	} else if n == 1 {
		if off = q.parseName(req); off < 0 || off+4 > len(req) {
			return q, bad, errFormat
		}
		q.qtype = dnsmessage.Type(binary.BigEndian.Uint16(req[off:]))
		off += 4
		q.raw = req[headerLen:off]
	}
	err = q.parseRecords(req, off)
	switch {
	case errors.Is(err, errFormat):
		q.edns, q.cookie, q.keepalive = false, nil, false
		return q, bad, err
	case err != nil:
		return q, 0, err
	case otherOp:
		return q, bad, errFormat
	case len(q.raw) == 0 && len(q.cookie) > 0:
		return q, dnsmessage.RCodeSuccess, errFormat // who wants a cookie and nothing else (RFC 7873 section 5.4)
	case len(q.raw) == 0:
		return q, bad, errFormat
	case binary.BigEndian.Uint16(req[off-2:]) != uint16(dnsmessage.ClassINET):
		return q, dnsmessage.RCodeRefused, errFormat
	}
	return q, 0, nil
}

// parseName reads the name that is asked for, which is never compressed, and
// returns where it ends; -1 if it is none.
func (q *question) parseName(req []byte) int {
	off := headerLen
	for {
		if off >= len(req) || off-headerLen > 254 {
			return -1
		}
		n := int(req[off])
		if n == 0 {
			return off + 1
		}
		if n > 63 || off+1+n > len(req) {
			return -1
		}
		q.starts = append(q.starts, off-headerLen)
		q.labels = append(q.labels, lowerASCII(string(req[off+1:off+1+n])))
		off += 1 + n
	}
}

// parseRecords goes through the records behind the question for EDNS (RFC 6891)
// and a signature, which is the last. Nothing may stand behind them.
func (q *question) parseRecords(req []byte, off int) error {
	const fixed = 10 // type, class, TTL, length
	additional := int(binary.BigEndian.Uint16(req[10:]))
	var unknown error
	for left := int(binary.BigEndian.Uint16(req[6:])) + int(binary.BigEndian.Uint16(req[8:])) + additional; left > 0; left-- {
		root := off < len(req) && req[off] == 0
		if off = skipName(req, off); off < 0 || off+fixed > len(req) {
			return errFormat
		}
		head, end := req[off:off+fixed], off+fixed+int(binary.BigEndian.Uint16(req[off+8:]))
		if end > len(req) {
			return errFormat
		}
		t := dnsmessage.Type(binary.BigEndian.Uint16(head))
		q.tsig = t == typeTSIG
		if t == dnsmessage.TypeOPT && left <= additional {
			if q.edns || !root || !q.parseOptions(req[off+fixed:end]) {
				return errFormat // one at most, of the root (section 6.1.1)
			}
			q.edns = true
			q.size = min(max(int(binary.BigEndian.Uint16(head[2:])), plainSize), ednsSize)
			q.dnssec = head[6]&0x80 != 0
			if head[5] != 0 {
				unknown = errVersion
			}
		}
		off = end
	}
	if off != len(req) {
		return errFormat
	}
	return unknown
}

// parseOptions reports whether EDNS options are well-formed. Those it doesn't
// know, NSID among them, are passed over.
func (q *question) parseOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; n > len(b) {
			return false
		}
		switch {
		case code == optCookie && q.cookie == nil:
			if n != clientCookie && (n < 16 || n > 40) {
				return false // RFC 7873 section 5.2.2
			}
			q.cookie = b[:n]
		case code == optAlive:
			q.keepalive = true
		}
		b = b[n:]
	}
	return true
}

// skipName returns where a name ends, -1 if it doesn't. Pointers are not
// followed.
func skipName(msg []byte, off int) int {
	for off < len(msg) {
		n := int(msg[off])
		switch {
		case n == 0:
			return off + 1
		case n&0xc0 == 0xc0:
			if off+2 > len(msg) {
				return -1
			}
			return off + 2
		case n > 63:
			return -1
		}
		off += 1 + n
	}
	return -1
}
