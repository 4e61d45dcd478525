package dns

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"tamizdat/bundle/record"
)

const (
	// ednsSize is the UDP payload size that both sides announce: what passes
	// every ordinary path without fragments (RFC 9715).
	ednsSize = 1232
	// plainSize is the limit without EDNS (RFC 1035 section 4.2.1).
	plainSize = 512
	// maxMessage bounds any message read, over UDP or TCP.
	maxMessage = 4096
	headerLen  = 12
	// maxCandidates bounds the TXT records looked at in one response.
	maxCandidates = 4
)

var errBadMessage = errors.New("bad dns message")

// lowerASCII folds a label as DNS does (RFC 4343): ASCII letters only.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// appendName appends a name in wire form, uncompressed. name has no trailing
// dot and was checked by checkZone or is made of our own labels.
func appendName(b []byte, name string) []byte {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			continue
		}
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0)
}

// appendTXT appends the RDATA of a TXT record, with its length in front:
// strings of up to 255 bytes, at least one (RFC 1035 section 3.3.14).
func appendTXT(b, data []byte) []byte {
	n := max(1, (len(data)+254)/255)
	b = binary.BigEndian.AppendUint16(b, uint16(n+len(data)))
	for i := range n {
		s := data[i*255 : min(len(data), (i+1)*255)]
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

// txtData is what a record looks like inside its TXT strings.
func txtData(class record.Class, rec []byte) []byte {
	if class == record.Small {
		return base64.StdEncoding.AppendEncode(nil, rec)
	}
	return rec
}

// appendOPT appends an EDNS(0) pseudo-record (RFC 6891).
func appendOPT(b []byte, extendedRcode byte) []byte {
	b = append(b, 0, 0, byte(dnsmessage.TypeOPT))
	b = binary.BigEndian.AppendUint16(b, ednsSize)
	return append(b, extendedRcode, 0, 0, 0, 0, 0)
}

// appendQuery appends a query for TXT. Large records need EDNS; the Small class
// goes without, since it is for resolvers that choke on anything newer than
// RFC 1035.
func appendQuery(b []byte, id uint16, name string, class record.Class) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	arcount := byte(0)
	if class == record.Large {
		arcount = 1
	}
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, arcount) // RD, one question
	b = appendName(b, name)
	b = append(b, 0, byte(dnsmessage.TypeTXT), 0, byte(dnsmessage.ClassINET))
	if class == record.Large {
		b = appendOPT(b, 0)
	}
	return b
}

// paddedTo is what the length of a padded query is a multiple of (RFC 8467,
// section 4.1): nearly all of ours are of one length then.
const paddedTo = 128

// padQuery pads one query made by appendQuery, for ways on which nobody sees the
// inside. It gets EDNS if it has none: who speaks TLS knows it.
func padQuery(msg []byte) []byte {
	const option, head = 12, 4 // RFC 7830
	if msg[headerLen-1] == 0 {
		msg[headerLen-1] = 1
		msg = appendOPT(msg, 0)
	}
	n := (paddedTo - (len(msg)+head)%paddedTo) % paddedTo
	binary.BigEndian.PutUint16(msg[len(msg)-2:], uint16(head+n))
	msg = append(msg, 0, option, byte(n>>8), byte(n))
	return append(msg, make([]byte, n)...)
}

// verdicts on a response whose ID and question match
type answerKind int

const (
	answerRecords   answerKind = iota // TXT records for the question
	answerNone                        // NXDOMAIN or no data
	answerTruncated                   // TC: ask again over TCP
	answerFailed                      // SERVFAIL, REFUSED and the like
	answerJunk                        // well-formed, but not an answer to this
)

type answer struct {
	kind answerKind
	txt  [][]byte // the joined strings of each TXT record
}

// readID returns the ID of a response, or false if the message is none.
func readID(msg []byte) (uint16, bool) {
	if len(msg) < headerLen || msg[2]&0x80 == 0 {
		return 0, false
	}
	return binary.BigEndian.Uint16(msg), true
}

// readAnswer parses a response to a TXT question for name (lower case). An
// error means that it is not a response to this question: whoever waits should
// go on waiting.
func readAnswer(msg []byte, name string) (answer, error) {
	var a answer
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response || h.OpCode != 0 {
		return a, errBadMessage
	}
	q, err := p.Question()
	if err != nil || q.Type != dnsmessage.TypeTXT || q.Class != dnsmessage.ClassINET || !sameName(q.Name, name) {
		return a, fmt.Errorf("%w: another question", errBadMessage)
	}
	if p.SkipAllQuestions() != nil {
		return a, errBadMessage
	}
	switch {
	case h.RCode == dnsmessage.RCodeNameError:
		return answer{kind: answerNone}, nil
	case h.RCode != dnsmessage.RCodeSuccess:
		return answer{kind: answerFailed}, nil
	case h.Truncated:
		return answer{kind: answerTruncated}, nil
	}
	a.kind = answerNone
	for range 16 {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return a, nil
		}
		if err != nil {
			return answer{kind: answerJunk}, nil
		}
		if rh.Type != dnsmessage.TypeTXT || rh.Class != dnsmessage.ClassINET || !sameName(rh.Name, name) {
			if a.kind == answerNone {
				a.kind = answerJunk
			}
			if p.SkipAnswer() != nil {
				return answer{kind: answerJunk}, nil
			}
			continue
		}
		txt, err := p.TXTResource()
		if err != nil {
			return answer{kind: answerJunk}, nil
		}
		a.kind = answerRecords
		if a.txt = append(a.txt, []byte(strings.Join(txt.TXT, ""))); len(a.txt) == maxCandidates {
			return a, nil
		}
	}
	return a, nil
}

// sameName compares a parsed name (with its trailing dot) to one of ours.
func sameName(n dnsmessage.Name, name string) bool {
	got := n.Data[:n.Length]
	if len(got) != len(name)+1 {
		return false
	}
	for i := range len(name) {
		c := got[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// spelled reports whether the question of a response has our name in our own
// spelling.
func spelled(msg []byte, name string) bool {
	return bytes.HasPrefix(msg[headerLen:], appendName(make([]byte, 0, maxName+headerLen), name))
}

// mixedCase spells a name with both kinds of letters, at random: what DNS must
// leave as it is (RFC 4343, section 5.2).
func mixedCase(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rand.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// untext undoes txtData; ok is false if data can't be a record of the class.
func untext(class record.Class, data []byte) (rec []byte, ok bool) {
	if class == record.Large {
		return data, len(data) > 0 && len(data) <= record.MaxRecord
	}
	if len(data) == 0 || len(data) > base64.StdEncoding.EncodedLen(record.Small.Max()) {
		return nil, false
	}
	rec, err := base64.StdEncoding.Strict().AppendDecode(nil, data)
	// The decoder skips line breaks; nothing that does not re-encode is ours.
	return rec, err == nil && base64.StdEncoding.EncodedLen(len(rec)) == len(data)
}
