package relay

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"tamizdat/bundle"
)

// beginnings keeps what has come of blocks that may have to be gone on with over
// other connections: nothing of it is asked for twice then.
type beginnings struct {
	mu sync.Mutex
	of map[string][]byte // by CID
}

// forget lets go of what is here as a whole.
func (b *beginnings) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, name)
}

type beginningsKey struct{}

// keeper is a round tripper that keeps beginnings for who asks for it.
type keeper struct{ http.RoundTripper }

func (k keeper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := k.RoundTripper.RoundTrip(req)
	b, ok := req.Context().Value(beginningsKey{}).(*beginnings)
	_, name, block := strings.Cut(req.URL.Path, "/ipfs/")
	if err != nil || !ok || !block || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	resp.Body = &keptBody{resp.Body, b, name}
	return resp, nil
}

type keptBody struct {
	io.ReadCloser
	b    *beginnings
	name string
}

func (k *keptBody) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	k.b.mu.Lock()
	defer k.b.mu.Unlock()
	if at := k.b.of[k.name]; len(at)+n <= bundle.MaxBlock {
		k.b.of[k.name] = append(at, p[:n]...)
	}
	return n, err
}
