package pkarr

import (
	"errors"
	"strconv"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

const (
	// maxMessage is the largest message read, in bytes: an item of 1,000 and sixteen
	// nodes are 2,000.
	maxMessage = 2500
	// maxDepth is how deep lists and dictionaries may nest; four levels are in use.
	maxDepth = 8
)

var errMessage = errors.New("not a message of the dht")

// parse reads an answer. Whatever is no answer, questions of others among it, is an error.
func parse(b []byte) (m krpc.Msg, err error) {
	if end := skip(b, 0); end == 0 || end != len(b) || b[0] != 'd' {
		return m, errMessage
	}
	// The decoder panics at some of what is well-formed: at an address of one byte, say.
	defer func() {
		if recover() != nil {
			m, err = krpc.Msg{}, errMessage
		}
	}()
	if err := bencode.Unmarshal(b, &m); err != nil {
		return krpc.Msg{}, errMessage
	}
	if m.T == "" || m.Y != krpc.YResponse && m.Y != krpc.YError || m.Y == krpc.YResponse && m.R == nil {
		return krpc.Msg{}, errMessage
	}
	return m, nil
}

// skip returns where the bencoded value (BEP 3) at the beginning of b ends, 0 if there is
// none. So nothing is allocated for lengths that are not there.
func skip(b []byte, depth int) int {
	if len(b) == 0 || depth > maxDepth {
		return 0
	}
	switch c := b[0]; {
	case c == 'i':
		n := number(b[1:], 'e', true)
		if n == 0 {
			return 0
		}
		return 1 + n
	case c >= '0' && c <= '9':
		n := number(b, ':', false)
		if n == 0 {
			return 0
		}
		length, err := strconv.Atoi(string(b[:n-1]))
		if err != nil || length > len(b)-n {
			return 0
		}
		return n + length
	case c != 'l' && c != 'd':
		return 0
	}
	off := 1
	for off < len(b) && b[off] != 'e' {
		n := skip(b[off:], depth+1)
		if n == 0 {
			return 0
		}
		off += n
	}
	if off >= len(b) {
		return 0
	}
	return off + 1
}

// number returns how long a number with its end is, 0 if there is none.
func number(b []byte, end byte, signed bool) int {
	const longest = 20
	for i, c := range b[:min(len(b), longest+1)] {
		switch {
		case c == end && i > 0 && (i > 1 || b[0] != '-'):
			return i + 1
		case c >= '0' && c <= '9' || signed && i == 0 && c == '-':
		default:
			return 0
		}
	}
	return 0
}
