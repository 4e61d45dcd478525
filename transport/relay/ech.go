package relay

import (
	"crypto/ecdh"
	"crypto/tls"
	"errors"
	"strings"

	"tamizdat/bundle/channel"
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
	config := channel.ECHConfig([32]byte(key.PublicKey().Bytes()), publicName)
	return tls.EncryptedClientHelloKey{Config: config, PrivateKey: key.Bytes()}, channel.ECHList(config), nil
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
