package censor

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
)

// What follows reads and changes DNS messages in place (RFC 1035, section 4).
// What can't be read is left as it is.

const (
	dnsHeader   = 12
	dnsTypeA    = 1
	dnsTypeTXT  = 16
	dnsServfail = 2
	dnsNoName   = 3
	dnsRefused  = 5
	maxName     = 255
	maxRecords  = 64
)

// question is the one question of a message.
type question struct {
	name        string // lower case, no dot at the end
	kind, class uint16
	end         int // where it ends in the message
}

// readQuestion reads a message's question; response says which sort of message is
// meant. ok is false if there is not exactly one question.
func readQuestion(m []byte, response bool) (q question, ok bool) {
	if len(m) < dnsHeader || m[2]&0x80 != 0 != response || binary.BigEndian.Uint16(m[4:]) != 1 {
		return q, false
	}
	var name strings.Builder
	at := dnsHeader
	for {
		if at >= len(m) {
			return q, false
		}
		n := int(m[at])
		at++
		if n == 0 {
			break
		}
		if n > 63 || at+n > len(m) || name.Len()+n >= maxName { // a pointer has nothing to point to
			return q, false
		}
		if name.Len() > 0 {
			name.WriteByte('.')
		}
		for _, c := range m[at : at+n] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			name.WriteByte(c)
		}
		at += n
	}
	if at+4 > len(m) {
		return q, false
	}
	q.name = name.String()
	q.kind, q.class = binary.BigEndian.Uint16(m[at:]), binary.BigEndian.Uint16(m[at+2:])
	q.end = at + 4
	return q, true
}

// labels calls f with the bytes of each label that is written out at at, and
// returns where the name ends.
func labels(m []byte, at int, f func([]byte)) (end int, ok bool) {
	for at < len(m) {
		n := int(m[at])
		switch {
		case n == 0:
			return at + 1, true
		case n >= 0xc0:
			return at + 2, at+2 <= len(m)
		case n > 63 || at+1+n > len(m):
			return 0, false
		}
		f(m[at+1 : at+1+n])
		at += 1 + n
	}
	return 0, false
}

// answers calls owner with each label of the records' names in the answer section,
// and data with each record's type and RDATA, as far as they can be read.
func answers(m []byte, q question, owner func(label []byte), data func(kind uint16, rdata []byte)) {
	at := q.end
	for range min(int(binary.BigEndian.Uint16(m[6:])), maxRecords) {
		end, ok := labels(m, at, owner)
		if !ok || end+10 > len(m) {
			return
		}
		n := int(binary.BigEndian.Uint16(m[end+8:]))
		if at = end + 10 + n; at > len(m) {
			return
		}
		data(binary.BigEndian.Uint16(m[end:]), m[end+10:at])
	}
}

// mixCase changes the case of letters, each by a throw of a coin.
func mixCase(b []byte, r *rand.Rand) {
	for i, c := range b {
		if c |= 0x20; 'a' <= c && c <= 'z' && r.IntN(2) == 0 {
			b[i] ^= 0x20
		}
	}
}

// spoilTXT replaces bytes over 127 in a TXT record by question marks.
func spoilTXT(rdata []byte) {
	for len(rdata) > 0 {
		n := min(int(rdata[0]), len(rdata)-1)
		for i, c := range rdata[1 : 1+n] {
			if c > 127 {
				rdata[1+i] = '?'
			}
		}
		rdata = rdata[1+n:]
	}
}

// reply starts a response to m with its ID and question and nothing else.
func reply(m []byte, q question, rcode byte) []byte {
	b := append([]byte(nil), m[:q.end]...)
	b[2] = 0x80 | m[2]&0x79 // QR; opcode and RD as they were asked
	b[3] = 0x80 | rcode     // RA
	clear(b[6:dnsHeader])
	return b
}

// answerWith appends a record for the question to a reply.
func answerWith(b []byte, kind uint16, ttl uint32, rdata []byte) []byte {
	binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])+1)
	b = append(b, 0xc0, dnsHeader) // the question's name
	b = binary.BigEndian.AppendUint16(b, kind)
	b = append(b, 0, 1) // IN
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
	return append(b, rdata...)
}

// truncated is a response cut down to its question, with TC set.
func truncated(m []byte, q question) []byte {
	b := append([]byte(nil), m[:q.end]...)
	b[2] |= 2
	clear(b[6:dnsHeader])
	return b
}

// frames cuts one direction of a DNS connection over TCP into messages (RFC
// 1035, section 4.2.2).
type frames struct{ buf []byte }

// next adds a piece of the stream and returns it with each whole message in it
// replaced by what f makes of it; nil drops a message. What is not whole yet
// waits: at most one message of 64 KiB.
func (s *frames) next(b []byte, f func(m []byte) []byte) []byte {
	s.buf = append(s.buf, b...)
	out := []byte{}
	for len(s.buf) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(s.buf))
		if len(s.buf) < n {
			break
		}
		if m := f(s.buf[2:n:n]); m != nil {
			out = binary.BigEndian.AppendUint16(out, uint16(len(m)))
			out = append(out, m...)
		}
		s.buf = s.buf[n:]
	}
	if len(s.buf) == 0 {
		s.buf = nil
	}
	return out
}
