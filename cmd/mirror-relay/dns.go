package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	"tamizdat/internal/cli"
	"tamizdat/mirror/relay"
	"tamizdat/transport/dns"
)

// nameServer answers for the zone of --dns.
func nameServer(ctx context.Context, r *relay.Relay, f relay.FileConfig, e *env) (io.Closer, error) {
	if f.DNSZone == "" {
		return nil, nil
	}
	records, err := r.Records()
	if err != nil {
		return nil, err
	}
	zone := dns.Zone{Name: f.DNSZone}
	if addr, err := netip.ParseAddr(f.Host); err == nil {
		zone.NS = []dns.NS{{Host: "ns." + f.DNSZone, Addrs: []netip.Addr{addr}}}
	}
	server, err := dns.NewServer(dns.ServerConfig{Zones: []dns.Zone{zone}, Store: records, Logger: e.log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", cli.ErrUsage, err), records.Close())
	}
	pc, ln, err := dns.Listen(ctx, e.network, f.DNSListen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w (port 53 needs root, and may be taken by the system's resolver; see --dns-listen)", err), records.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &dnsService{cancel: cancel, records: records}
	s.done.Go(func() {
		if err := server.Serve(ctx, pc, ln); err != nil && ctx.Err() == nil {
			e.log.Error("name server stopped", "err", err)
		}
	})
	fmt.Fprintf(e.err, "name server for %s is up on %s (UDP and TCP)\n", f.DNSZone, pc.LocalAddr())
	return s, nil
}

type dnsService struct {
	cancel  context.CancelFunc
	done    sync.WaitGroup
	records *relay.Records
}

func (s *dnsService) Close() error {
	s.cancel()
	s.done.Wait()
	return s.records.Close()
}
