package publisher

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
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
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("keys/keys.json is missing; restore it from a backup")
	case err != nil:
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

// maxKeyring bounds keys.json in bytes: an epoch takes some 500 of them, a batch 800.
const maxKeyring = 16 << 20

var errKeyring = errors.New("keys/keys.json is damaged; restore it from a backup")

// parseKeyring reads keys.json. What is wrong with it is not said: it holds nothing but
// secrets.
func parseKeyring(b []byte) (keyring, error) {
	var k keyring
	if len(b) > maxKeyring || json.Unmarshal(b, &k) != nil || !k.sound() || !fullKeys(b) {
		return keyring{}, errKeyring
	}
	return k, nil
}

// sound reports whether the keys could have come from here.
func (k *keyring) sound() bool {
	whole := func(seed []byte) bool { return len(seed) == 32 }
	none := func(seed []byte) bool { return len(seed) == 0 }
	if !whole(k.Log) || !whole(k.IPNS) || !none(k.Root) && !whole(k.Root) || !none(k.NextLog) && !whole(k.NextLog) || len(k.Epochs) == 0 {
		return false
	}
	seeds, names := map[channel.Seed]bool{}, map[string]bool{}
	for _, b := range k.Batches {
		if seeds[b.Seed] || names[b.Name] || b.Name != "" && checkName(b.Name) != nil || b.Until < 0 || b.Until > len(k.Epochs) {
			return false
		}
		seeds[b.Seed], names[b.Name] = true, b.Name != ""
	}
	return true
}

// fullKeys reports whether all keys that are arrays are whole: package json fills what is
// missing of one with zeros, and drops what is too much.
func fullKeys(b []byte) bool {
	var lens struct {
		Epochs  []json.RawMessage `json:"epochs"`
		Batches []struct {
			Seed json.RawMessage `json:"seed"`
		} `json:"batches"`
	}
	if json.Unmarshal(b, &lens) != nil {
		return false
	}
	whole := func(raw json.RawMessage) bool {
		var numbers []json.Number
		return json.Unmarshal(raw, &numbers) == nil && len(numbers) == 32 && !slices.Contains(numbers, "")
	}
	for _, e := range lens.Epochs {
		if !whole(e) {
			return false
		}
	}
	for _, s := range lens.Batches {
		if !whole(s.Seed) {
			return false
		}
	}
	return true
}

// random is a new secret of 32 bytes.
func random() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}
