package relay_test

import (
	"testing"

	"tamizdat/internal/netreal"
	server "tamizdat/mirror/relay"
	"tamizdat/transport/relay"
	"tamizdat/transport/transporttest"
)

// The client against the relay it was made for.
func TestConformance(t *testing.T) {
	real := &netreal.Network{}
	transporttest.Run(t, real, func(t *testing.T, w *transporttest.World) transporttest.Subject {
		r, err := server.New(server.Config{Dir: t.TempDir(), Network: real, Listen: []string{"127.0.0.1:0"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		target, err := r.Target(w.Channel.ID())
		if err != nil {
			t.Fatal(err)
		}
		pub, err := relay.NewPublisher(real, target)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range w.Channel.Editions() {
			if err := pub.Publish(t.Context(), e.Source(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := pub.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := relay.New(relay.Config{Network: w.Network, Relay: target.Relay(w.Channel.Seed)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return transporttest.Subject{Paths: c.Paths(), Old: true}
	})
}
