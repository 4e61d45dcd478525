package relay

import (
	"crypto/ecdh"
	"crypto/tls"
	"errors"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of RFC 9849 (ECH) and RFC 9180 (HPKE).
const (
	echVersion = 0xfe0d
	kemX25519  = 0x0020
	kdfSHA256  = 0x0001
	aeadAES128 = 0x0001
	aeadChaCha = 0x0003
)

// NewECH makes a relay's ECH key (RFC 9849): readers who have list, an
// ECHConfigList, encrypt the name that they ask for, and a watcher sees
// publicName, which the relay should have a website for. key is an X25519 key; the
// same one gives the same list, so that grants stay good. Who has another list, or
// none and only seems to hide a name (section 6.2), is not told this one, as he
// would be by section 7.1: few websites have any, and it would say that this is one
// of them, and for which name. Our readers take no list from a server.
func NewECH(publicName string, key *ecdh.PrivateKey) (k tls.EncryptedClientHelloKey, list []byte, err error) {
	if key.Curve() != ecdh.X25519() || !validHost(publicName) || len(publicName) > 255 {
		return k, nil, errors.New("ech: it takes an X25519 key and a domain name")
	}
	public := key.PublicKey().Bytes()
	var b cryptobyte.Builder
	b.AddUint16(echVersion)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(public[0]) // config_id: any that tells keys apart
		b.AddUint16(kemX25519)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(public) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, aead := range []uint16{aeadAES128, aeadChaCha} {
				b.AddUint16(kdfSHA256)
				b.AddUint16(aead)
			}
		})
		b.AddUint8(0) // maximum_name_length: no advice
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(publicName)) })
		b.AddUint16(0) // no extensions
	})
	config, err := b.Bytes()
	if err != nil {
		return k, nil, err
	}
	var l cryptobyte.Builder
	l.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(config) })
	list, err = l.Bytes()
	return tls.EncryptedClientHelloKey{Config: config, PrivateKey: key.Bytes()}, list, err
}

// ECHFor is tls.Config.GetEncryptedClientHelloKeys for key: it has one for clients
// who show its outer name, as all do who have its configuration. crypto/tls answers
// an extension that it can't make sense of otherwise when there is any key, and
// browsers send some to every server.
func ECHFor(publicName string, key tls.EncryptedClientHelloKey) func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
	keys, none := []tls.EncryptedClientHelloKey{key}, []tls.EncryptedClientHelloKey{}
	return func(hello *tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
		if !strings.EqualFold(hello.ServerName, strings.TrimSuffix(publicName, ".")) {
			return none, nil
		}
		return keys, nil
	}
}
