package pkarr

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	// maxMessage is the largest message read, in bytes: an item of 1,000 and sixteen
	// nodes are 2,000.
	maxMessage = 2500
	// maxToken is the longest token that is sent back with a put, in bytes.
	maxToken = 256
)

var errMessage = errors.New("not a message of the dht")

// nodeID is the ID of a node, a target, or the distance between two (BEP 5).
type nodeID [20]byte

// question is a message to a node (BEP 5), of one that answers none itself (BEP 43).
func question(t, q string, args map[string]any) []byte {
	return encode(nil, map[string]any{"t": t, "y": "q", "q": q, "a": args, "ro": int64(1)})
}

// answer is what a node says to a question.
type answer struct {
	t       string
	refused bool
	id      nodeID
	token   string
	nodes   []named
	// What it has of an item, unchecked; without a value there is none.
	seq        int64
	value, sig string
}

// named is a node that another one names.
type named struct {
	id   nodeID
	addr netip.AddrPort
}

// parse reads an answer. Whatever is no answer, questions of others among it, is an error.
func parse(b []byte) (a answer, err error) {
	v, rest, ok := decode(b, 0)
	m, dict := v.(map[string]any)
	if !ok || !dict || len(rest) > 0 {
		return answer{}, errMessage
	}
	if a.t, _ = m["t"].(string); a.t == "" {
		return answer{}, errMessage
	}
	r, answered := m["r"].(map[string]any)
	switch y, _ := m["y"].(string); {
	case y == "e":
		a.refused = true
		return a, nil
	case y != "r" || !answered:
		return answer{}, errMessage
	}
	id, _ := r["id"].(string)
	if len(id) != len(a.id) {
		return answer{}, errMessage
	}
	copy(a.id[:], id)
	if a.token, _ = r["token"].(string); len(a.token) > maxToken {
		a.token = ""
	}
	a.value, _ = r["v"].(string)
	a.sig, _ = r["sig"].(string)
	if a.seq, ok = r["seq"].(int64); !ok {
		a.value = "" // without a number it is no mutable item
	}
	four, _ := r["nodes"].(string)
	six, _ := r["nodes6"].(string)
	if a.nodes, ok = nodesIn(a.nodes, four, 4); !ok {
		return answer{}, errMessage
	}
	if a.nodes, ok = nodesIn(a.nodes, six, 16); !ok {
		return answer{}, errMessage
	}
	return a, nil
}

// nodesIn appends nodes in their short form (BEP 5 and 32): ID, address of so many bytes,
// port.
func nodesIn(out []named, s string, size int) ([]named, bool) {
	each := len(nodeID{}) + size + 2
	if len(s)%each != 0 {
		return nil, false
	}
	for ; s != ""; s = s[each:] {
		var n named
		at := len(n.id) + size
		copy(n.id[:], s)
		addr, _ := netip.AddrFromSlice([]byte(s[len(n.id):at])) // of 4 or 16 bytes
		n.addr = netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16([]byte(s[at:])))
		out = append(out, n)
	}
	return out, true
}
