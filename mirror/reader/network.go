package reader

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// networkKey is the note that holds the key of this library's hashes of networks.
const networkKey = "reader/network-key"

// where identifies the network that the device is on, "" if it is not known.
func (r *Reader) where() string {
	if r.cfg.Where == nil {
		return ""
	}
	return r.cfg.Where()
}

// network is where as the engine may store it, "" if it is not known.
func (r *Reader) network(ctx context.Context) string { return r.networks.hash(ctx, r.where()) }

// networks tells networks apart by 8 bytes of HMAC-SHA-256 under a key that only
// this library has, so that what is stored says nothing to somebody who knows what
// networks there are.
type networks struct {
	lib *library.Library
	log *slog.Logger

	mu  sync.Mutex
	key []byte
}

// hash is "" if where is, or if the key can't be had: a sync must not fail for that.
func (n *networks) hash(ctx context.Context, where string) string {
	if where == "" {
		return ""
	}
	key, err := n.loadKey(ctx)
	if err != nil {
		n.log.Warn("networks can't be told apart", "error", err)
		return ""
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(where))
	return hex.EncodeToString(m.Sum(nil)[:8])
}

// loadKey reads the key, or makes it, once: it is asked for with every connection.
func (n *networks) loadKey(ctx context.Context) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.key != nil {
		return n.key, nil
	}
	key, err := n.lib.Note(ctx, networkKey)
	if errors.Is(err, transport.ErrNotFound) {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails
		err = n.lib.SetNote(ctx, networkKey, key)
	}
	if err != nil {
		return nil, err
	}
	n.key = key
	return key, nil
}

// moved reports whether the device is on another network than before. One that
// is only known better or worse is the same (netreal.Gateway); lost: nothing could
// be reached on the one before, so that any network is another one than none.
func moved(from, to string, lost bool) bool {
	if from == "" && to != "" && lost {
		return true
	}
	return to != "" && !strings.HasPrefix(to, from) && !strings.HasPrefix(from, to)
}
