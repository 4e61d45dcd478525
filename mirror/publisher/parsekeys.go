package publisher

import (
	"encoding/json"
	"errors"
	"slices"

	"tamizdat/bundle/channel"
)

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
