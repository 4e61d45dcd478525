package censor

import "encoding/binary"

// hello is what a middlebox reads in a ClientHello (RFC 8446, section 4.1.2).
type hello struct {
	name string // server_name, "" if there is none or it was not seen
	ech  bool   // encrypted_client_hello (RFC 9849) was seen
	// whole is true when every extension was seen.
	whole bool
}

const (
	recordHandshake = 22
	typeClientHello = 1
	extServerName   = 0
	extECH          = 0xfe0d
	// maxHello bounds what is put together: post-quantum key shares and
	// certificates' requests fit many times.
	maxHello = 16 << 10
)

// readHello reads as much of a ClientHello as b, the start of a handshake
// stream, holds. ok is false if b is not the start of one.
func readHello(b []byte) (h hello, ok bool) {
	if len(b) < 4 || b[0] != typeClientHello {
		return h, false
	}
	size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	b = b[4:min(len(b), 4+size)]
	if len(b) < 2+32 {
		return h, true
	}
	b = b[2+32:]                           // legacy version, random
	for _, width := range []int{1, 2, 1} { // session ID, cipher suites, compression
		if _, b, ok = vector(b, width); !ok {
			return h, true
		}
	}
	if len(b) < 2 {
		return h, true
	}
	size = int(binary.BigEndian.Uint16(b))
	whole := len(b) >= 2+size
	b = b[2:min(len(b), 2+size)]
	for len(b) >= 4 {
		kind := binary.BigEndian.Uint16(b)
		if kind == extECH {
			h.ech = true
		}
		data, rest, ok := vector(b[2:], 2)
		if !ok {
			return h, true
		}
		if kind == extServerName && h.name == "" {
			h.name = serverName(data)
		}
		b = rest
	}
	h.whole = whole && len(b) == 0
	return h, true
}

// serverName reads the extension (RFC 6066, section 3).
func serverName(b []byte) string {
	list, _, ok := vector(b, 2)
	for ok && len(list) > 0 {
		kind := list[0]
		var name []byte
		if name, list, ok = vector(list[1:], 2); ok && kind == 0 && len(name) <= 255 {
			return string(name)
		}
	}
	return ""
}

// vector reads a length of width bytes and that many bytes; ok is false if they
// are not all there.
func vector(b []byte, width int) (data, rest []byte, ok bool) {
	if len(b) < width {
		return nil, nil, false
	}
	n := 0
	for _, c := range b[:width] {
		n = n<<8 | int(c)
	}
	b = b[width:]
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// isTLS reports whether b starts like a TLS handshake record (RFC 8446, section
// 5.1; the version is 3.1 to 3.3 in practice).
func isTLS(b []byte) bool {
	return len(b) >= 3 && b[0] == recordHandshake && b[1] == 3 && b[2] <= 4
}

// firstRecord returns what b holds of the content of its first TLS record.
func firstRecord(b []byte) ([]byte, bool) {
	if !isTLS(b) || len(b) < 5 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	return b[5:min(len(b), 5+n)], true
}

// handshake joins the content of the TLS records that b holds.
func handshake(b []byte) []byte {
	var out []byte
	for isTLS(b) && len(b) >= 5 && len(out) < maxHello {
		part, _ := firstRecord(b)
		out = append(out, part...)
		b = b[min(len(b), 5+int(binary.BigEndian.Uint16(b[3:]))):]
	}
	return out
}
