package dns_test

import (
	"bytes"
	"context"
	"testing"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/transporttest"
)

// The client against the zone's own server, straight from packed editions.
func TestConformance(t *testing.T) {
	real := &netreal.Network{}
	transporttest.Run(t, real, func(t *testing.T, w *transporttest.World) transporttest.Subject {
		store := dns.NewMemory(64 << 20)
		for _, e := range w.Channel.Editions() {
			ed, err := dns.ReadEdition(bytes.NewReader(e.CAR()), w.Channel.ID(), 16<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.PutEdition(ed); err != nil {
				t.Fatal(err)
			}
		}
		const zone = "news.test"
		srv, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{{Name: zone}}, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		pc, ln, err := dns.Listen(ctx, real, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ctx, pc, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		c, err := dns.NewClient(dns.ClientConfig{
			Network: w.Network, Zone: zone, Resolvers: []string{pc.LocalAddr().String()}, Hurry: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return transporttest.Subject{Paths: []transport.Path{c.Path()}, Old: true}
	})
}
