package relay

import (
	"sync"

	"github.com/ipfs/go-cid"
)

// beginnings are what has come of blocks that are gone on with over other
// connections: nothing of it is asked for twice then.
type beginnings struct {
	mu sync.Mutex
	of map[string][]byte // by cid.Cid.KeyString
}

// keep takes a beginning in.
func (b *beginnings) keep(id cid.Cid, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of[id.KeyString()] = data
}
