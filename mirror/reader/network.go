package reader

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

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

// network is where as the engine may store it: 8 bytes of HMAC-SHA-256 under a
// key that only this library has, so that it says nothing to somebody who knows
// what networks there are. It is "" if the network is not known, or if the key
// can't be had: a sync must not fail for that.
func (r *Reader) network(ctx context.Context) string {
	where := r.where()
	if where == "" {
		return ""
	}
	key, err := r.lib.Note(ctx, networkKey)
	if errors.Is(err, transport.ErrNotFound) {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails
		err = r.lib.SetNote(ctx, networkKey, key)
	}
	if err != nil {
		r.log.Warn("networks can't be told apart", "error", err)
		return ""
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(where))
	return hex.EncodeToString(m.Sum(nil)[:8])
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
