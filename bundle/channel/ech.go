package channel

import (
	"bytes"
	"encoding/binary"
)

// Numbers of RFC 9849 (ECH) and RFC 9180 (HPKE).
const (
	echVersion = 0xfe0d
	kemX25519  = 0x0020
	kdfSHA256  = 0x0001
	aeadAES128 = 0x0001
	aeadChaCha = 0x0003
	echKeyLen  = 32
	// echKeyAt is where an ECHConfigList of ours has the key.
	echKeyAt = 2 + 2 + 2 + 1 + 2 + 2
)

// ECHConfig is the ECHConfig (RFC 9849, section 4) of a relay with that X25519 key
// behind that outer name of at most 255 bytes: of the suites that crypto/tls has,
// with the key's first byte as its number, and nothing optional. An invite has room
// for key and name, not for all of it.
func ECHConfig(public [echKeyLen]byte, name string) []byte {
	b := []byte{public[0]} // config_id: any that tells keys apart
	b = binary.BigEndian.AppendUint16(b, kemX25519)
	b = binary.BigEndian.AppendUint16(b, echKeyLen)
	b = append(b, public[:]...)
	b = binary.BigEndian.AppendUint16(b, 8)
	for _, aead := range []uint16{aeadAES128, aeadChaCha} {
		b = binary.BigEndian.AppendUint16(b, kdfSHA256)
		b = binary.BigEndian.AppendUint16(b, aead)
	}
	b = append(b, 0, byte(len(name))) // maximum_name_length: no advice
	b = append(b, name...)
	b = append(b, 0, 0) // no extensions
	out := binary.BigEndian.AppendUint16(nil, echVersion)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
}

// ECHList is the ECHConfigList of one configuration.
func ECHList(config []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
}

// shortECH takes a list apart that ECHConfig has made, ok false for any other.
func shortECH(list []byte) (public [echKeyLen]byte, name string, ok bool) {
	const nameAt = echKeyAt + echKeyLen + 2 + 8 + 1
	if len(list) < nameAt+1 || len(list) < nameAt+1+int(list[nameAt]) {
		return public, "", false
	}
	copy(public[:], list[echKeyAt:])
	name = string(list[nameAt+1:][:list[nameAt]])
	return public, name, validDomain(name) && bytes.Equal(ECHList(ECHConfig(public, name)), list)
}
