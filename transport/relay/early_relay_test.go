package relay_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"tamizdat/internal/netreal"
	server "tamizdat/mirror/relay"
	"tamizdat/transport"
	"tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

// sessions is a store in memory.
type sessions struct{ sync.Map }

func (s *sessions) Load(key string) []byte {
	v, _ := s.Map.Load(key)
	b, _ := v.([]byte)
	return b
}

func (s *sessions) Store(key string, value []byte) { s.Map.Store(key, value) }

// The relay itself answers padded requests in early data as any others.
func TestEarlyDataAtTheRelay(t *testing.T) {
	ch := transporttest.NewChannel(t, "Returning")
	ch.Publish(transporttest.Articles(3)...)
	var early, padded atomic.Int64
	watch := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS != nil && !r.TLS.HandshakeComplete {
				early.Add(1)
			}
			if len(r.Header.Get("X-Padding")) > 0 {
				padded.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}
	real := &netreal.Network{}
	r, err := server.New(server.Config{Dir: t.TempDir(), Network: real, Listen: []string{"127.0.0.1:0"}, Hooks: server.Hooks{Wrap: watch}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	target, err := r.Target(ch.ID())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := relay.NewPublisher(real, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pub.Close() })
	if err := pub.Publish(t.Context(), ch.Newest().Source(), nil); err != nil {
		t.Fatal(err)
	}
	store := &sessions{}
	for run := range 3 {
		c, err := relay.New(relay.Config{Network: real, Relay: target.Relay(ch.Seed), Sessions: store})
		if err != nil {
			t.Fatal(err)
		}
		pieces := 0
		for _, err := range c.Paths()[0].Heads.(transport.Opener).Open(t.Context(), transport.Ask{Channel: ch.ID(), Grant: ch.GrantName()}) {
			if err != nil {
				t.Fatal(err)
			}
			pieces++
		}
		if pieces < 5 {
			t.Errorf("run %d: %d pieces", run, pieces)
		}
		// A second request: when it is answered, the ticket that was sent with the
		// end of the handshake has come too.
		if _, err := c.Paths()[0].Heads.Head(t.Context(), ch.ID(), 0); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	// On a real clock the handshake may be over before the request is parsed,
	// but padding says that it was sent before.
	if padded.Load() != 2 {
		t.Errorf("%d padded requests, %d parsed early", padded.Load(), early.Load())
	}
}
