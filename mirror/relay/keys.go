package relay

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	wire "tamizdat/transport/relay"
)

// The relay's secrets, each in a file of its own (mode 0600).
const (
	relaySecretFile  = "relay.secret"  // mints readers' prefixes; 64 hex characters
	intakeSecretFile = "intake.secret" // mints publishers' prefixes; 64 hex characters
	echSecretFile    = "ech.secret"    // an X25519 key; 64 hex characters
	keyFile          = "tls.key"       // PEM, PKCS #8
	certFile         = "tls.crt"       // PEM
)

type keys struct {
	relay, intake []byte
	pull          []byte // mints the prefixes of other relays; follows from relay
	cert          tls.Certificate
	pin           channel.Pin
}

// loadKeys reads the secrets in dir, making those that don't exist.
func loadKeys(dir string) (*keys, error) {
	k := &keys{}
	var err error
	if k.relay, err = loadSecret(filepath.Join(dir, relaySecretFile)); err != nil {
		return nil, err
	}
	if k.intake, err = loadSecret(filepath.Join(dir, intakeSecretFile)); err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, k.relay)
	m.Write([]byte("tamizdat/v1/pull\n"))
	k.pull = m.Sum(nil)
	if k.cert, err = loadCertificate(filepath.Join(dir, certFile), filepath.Join(dir, keyFile)); err != nil {
		return nil, err
	}
	k.pin = channel.PinOf(k.cert.Leaf)
	return k, nil
}

// loadECH reads or makes the key that hides the relay's name behind publicName.
func loadECH(dir, publicName string) (tls.EncryptedClientHelloKey, []byte, error) {
	secret, err := loadSecret(filepath.Join(dir, echSecretFile))
	if err != nil {
		return tls.EncryptedClientHelloKey{}, nil, err
	}
	key, err := ecdh.X25519().NewPrivateKey(secret)
	if err != nil {
		return tls.EncryptedClientHelloKey{}, nil, err
	}
	return wire.NewECH(publicName, key)
}

func loadSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret := make([]byte, 32)
		rand.Read(secret) // never fails
		return secret, durable.Write(path, 0o600, []byte(hex.EncodeToString(secret)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != 32 {
		return nil, fmt.Errorf("%s: not 64 hex characters", path)
	}
	return secret, nil
}

// loadCertificate reads or makes certificate and key. The key is written
// first: a certificate without its key would change the pin.
func loadCertificate(certPath, keyPath string) (tls.Certificate, error) {
	keyPEM, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(certPath); err == nil {
			return tls.Certificate{}, fmt.Errorf("%s is gone; put it back, or remove %s for a new key (all invites then need a new pin)", keyPath, certPath)
		}
		if keyPEM, err = newKey(); err == nil {
			err = durable.Write(keyPath, 0o600, keyPEM)
		}
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		if certPEM, err = selfSign(keyPEM); err == nil {
			err = durable.Write(certPath, 0o644, certPEM)
		}
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// selfSign makes a ten-year certificate that looks like that of any small
// server set up with defaults.
func selfSign(keyPEM []byte) ([]byte, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key; put its certificate beside it", keyFile)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	from := time.Now().Add(-24 * time.Hour).UTC().Truncate(24 * time.Hour)
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: from, NotAfter: from.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
