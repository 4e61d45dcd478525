package reader

import (
	"crypto/ed25519"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

var _ newsync.Ways = fileOnly{}

// Paths implements sync.Ways.
func (f fileOnly) Paths(channel.ID, ed25519.PublicKey, channel.Places) []transport.Path {
	return []transport.Path{f.path}
}
