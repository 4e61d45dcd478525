package censor

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// What follows is a censor's view of QUIC version 1: Initial packets can be
// decrypted by whoever sees them (RFC 9001, section 5.2).

const (
	quicV1       = 1
	quicMaxCID   = 20 // RFC 9000, section 17.2
	typeInitial  = 0  // long packet types of version 1
	frameCrypto  = 0x06
	maxDatagrams = 64
)

var quicV1Salt = []byte{
	0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
	0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
}

// isLongHeader reports whether b starts with a QUIC packet with a long header.
func isLongHeader(b []byte) bool { return len(b) >= 7 && b[0]&0xc0 == 0xc0 }

func quicVersion(b []byte) uint32 { return binary.BigEndian.Uint32(b[1:]) }

// longPacket is one packet with a long header of version 1.
type longPacket struct {
	kind   byte
	dcid   []byte
	raw    []byte // the whole packet
	number int    // where its packet number starts
}

// nextPacket cuts the first packet off a datagram (they may be coalesced, RFC
// 9000, section 12.2). ok is false if there is none that can be read.
func nextPacket(b []byte) (p longPacket, rest []byte, ok bool) {
	if !isLongHeader(b) || quicVersion(b) != quicV1 {
		return p, nil, false
	}
	p.kind = b[0] >> 4 & 3
	r := b[5:]
	if p.dcid, r, ok = vector(r, 1); !ok || len(p.dcid) > quicMaxCID {
		return p, nil, false
	}
	if _, r, ok = vector(r, 1); !ok { // source connection ID
		return p, nil, false
	}
	if p.kind == 3 { // Retry has no length: it is alone
		return p, nil, false
	}
	if p.kind == typeInitial {
		n, after, ok := varint(r)
		if !ok || n > uint64(len(after)) {
			return p, nil, false
		}
		r = after[n:] // token
	}
	n, r, ok := varint(r)
	if !ok || n > uint64(len(r)) {
		return p, nil, false
	}
	p.number = len(b) - len(r)
	end := p.number + int(n)
	p.raw = b[:end]
	return p, b[end:], true
}

// varint reads a variable-length integer (RFC 9000, section 16).
func varint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	n := 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, nil, false
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, b[n:], true
}

// initialKeys protect a client's Initial packets.
type initialKeys struct {
	aead cipher.AEAD
	iv   []byte
	hp   cipher.Block
}

// clientKeys derives them from the first destination connection ID.
func clientKeys(dcid []byte) (*initialKeys, error) {
	initial, err := hkdf.Extract(sha256.New, dcid, quicV1Salt)
	if err != nil {
		return nil, err
	}
	secret, err := expandLabel(initial, "client in", 32)
	if err != nil {
		return nil, err
	}
	key, err := expandLabel(secret, "quic key", 16)
	if err != nil {
		return nil, err
	}
	hp, err := expandLabel(secret, "quic hp", 16)
	if err != nil {
		return nil, err
	}
	k := &initialKeys{}
	if k.iv, err = expandLabel(secret, "quic iv", 12); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.hp, err = aes.NewCipher(hp)
	return k, err
}

// expandLabel is HKDF-Expand-Label without context (RFC 8446, section 7.1).
func expandLabel(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	return hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
}

// open removes header protection and decrypts (RFC 9001, sections 5.3 and 5.4).
func (k *initialKeys) open(p longPacket) ([]byte, bool) {
	if len(p.raw) < p.number+4+16 {
		return nil, false
	}
	var mask [aes.BlockSize]byte
	k.hp.Encrypt(mask[:], p.raw[p.number+4:p.number+4+16])
	first := p.raw[0] ^ mask[0]&0x0f
	width := int(first&3) + 1
	header := append([]byte(nil), p.raw[:p.number+width]...)
	header[0] = first
	nonce := append([]byte(nil), k.iv...)
	// The number is taken as it stands: those of Initials are small, and only
	// the low bytes are sent.
	for i := range width {
		header[p.number+i] ^= mask[1+i]
		nonce[len(nonce)-width+i] ^= header[p.number+i]
	}
	plain, err := k.aead.Open(nil, nonce, p.raw[p.number+width:], header)
	return plain, err == nil
}

// cryptoFrames calls f for each CRYPTO frame, until something comes that an
// Initial doesn't hold (RFC 9000, section 17.2.2).
func cryptoFrames(b []byte, f func(offset uint64, data []byte)) {
	for len(b) > 0 {
		kind, r, ok := varint(b)
		if !ok {
			return
		}
		switch kind {
		case 0, 1: // PADDING, PING
			b = r
		case 2, 3: // ACK
			if b, ok = skipACK(r, kind == 3); !ok {
				return
			}
		case frameCrypto:
			offset, r, ok := varint(r)
			if !ok {
				return
			}
			n, r, ok := varint(r)
			if !ok || n > uint64(len(r)) {
				return
			}
			f(offset, r[:n])
			b = r[n:]
		default:
			return
		}
	}
}

func skipACK(b []byte, ecn bool) ([]byte, bool) {
	var v [4]uint64 // largest, delay, range count, first range
	for i := range v {
		var ok bool
		if v[i], b, ok = varint(b); !ok {
			return nil, false
		}
	}
	more := v[2]
	if more > uint64(len(b)) {
		return nil, false
	}
	more *= 2
	if ecn {
		more += 3
	}
	for range more {
		var ok bool
		if _, b, ok = varint(b); !ok {
			return nil, false
		}
	}
	return b, true
}

// initials puts the ClientHello of one flow together from its first datagrams.
type initials struct {
	limit int // how many datagrams are looked at
	n     int
	keys  *initialKeys // of the connection under way
	data  []byte
	have  []bool
}

// add looks at one more datagram from the client and returns what it knows of the
// ClientHello by now. ok is false if it looks no more, or saw nothing.
func (s *initials) add(b []byte) (h hello, ok bool) {
	if s.n >= min(s.limit, maxDatagrams) {
		return h, false
	}
	s.n++
	for len(b) > 0 {
		p, rest, ok := nextPacket(b)
		if !ok {
			break
		}
		b = rest
		if p.kind == typeInitial {
			s.packet(p)
		}
	}
	n := 0
	for n < len(s.have) && s.have[n] {
		n++
	}
	h, ok = readHello(s.data[:n])
	if s.n >= s.limit {
		s.data, s.have, s.keys = nil, nil, nil
	}
	return h, ok
}

func (s *initials) packet(p longPacket) {
	var plain []byte
	ok := false
	if s.keys != nil { // once the server has answered, the ID is another, and the keys remain
		plain, ok = s.keys.open(p)
	}
	if !ok {
		keys, err := clientKeys(p.dcid)
		if err != nil {
			return
		}
		if plain, ok = keys.open(p); !ok {
			return
		}
		s.keys, s.data, s.have = keys, nil, nil // another connection
	}
	cryptoFrames(plain, func(offset uint64, data []byte) {
		if offset > maxHello || uint64(len(data)) > maxHello-offset {
			return
		}
		at, end := int(offset), int(offset)+len(data)
		if end > len(s.data) {
			s.data = append(s.data, make([]byte, end-len(s.data))...)
			s.have = append(s.have, make([]bool, end-len(s.have))...)
		}
		copy(s.data[at:], data)
		for i := at; i < end; i++ {
			s.have[i] = true
		}
	})
}
