package publisher

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// keyring is keys/keys.json: everything that must stay secret.
type keyring struct {
	// Root, Log and IPNS are Ed25519 seeds; Root is empty if the root keys are
	// elsewhere. NextLog takes the place of Log once a root note names it.
	Root    []byte `json:"root"`
	Log     []byte `json:"log"`
	NextLog []byte `json:"next_log,omitempty"`
	IPNS    []byte `json:"ipns"`
	// Epochs are epoch keys by number.
	Epochs []channel.EpochKey `json:"epochs"`
	// Renew is when the newest epoch ends if none is revoked before; zero until the
	// first edition of it.
	Renew   time.Time `json:"renew,omitzero"`
	Batches []batch   `json:"batches"`
	Serial  uint64    `json:"serial"`
}

func (k *keyring) key(seed []byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed) }

func (p *Publisher) loadKeys() error {
	b, err := os.ReadFile(filepath.Join(p.dir, "keys", "keys.json"))
	if err != nil {
		return err
	}
	p.keys, err = parseKeyring(b)
	return err
}

// saveKeys writes the keyring, durably.
func (p *Publisher) saveKeys() error {
	b, err := json.MarshalIndent(p.keys, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(p.dir, "keys", "keys.json"), 0o600, append(b, '\n'))
}

// random is a new secret of 32 bytes.
func random() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}
