package testservers

import (
	"net"
	"testing"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

// Swarm starts so many nodes of BitTorrent's DHT on loopback, which know one another and
// nobody else, and returns their addresses. They end with the test.
func Swarm(tb testing.TB, n int) (addrs []string) {
	tb.Helper()
	var servers []*dht.Server
	for range n {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		cfg := dht.NewDefaultServerConfig()
		cfg.Conn, cfg.SendLimiter = pc, rate.NewLimiter(rate.Inf, 1)
		cfg.Logger = log.NewLogger().WithFilterLevel(log.Critical)
		cfg.StartingNodes = nil
		s, err := dht.NewServer(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(s.Close)
		servers = append(servers, s)
		addrs = append(addrs, pc.LocalAddr().String())
	}
	for _, s := range servers {
		for _, o := range servers {
			if s == o {
				continue
			}
			if r := s.Ping(o.Addr().(*net.UDPAddr)); r.Err != nil {
				tb.Fatal(r.Err)
			}
		}
	}
	return addrs
}
