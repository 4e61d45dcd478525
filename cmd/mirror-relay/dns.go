package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"tamizdat/internal/cli"
	"tamizdat/internal/netreal"
	"tamizdat/mirror/relay"
	"tamizdat/transport/dns"
)

// nameServer answers for the zones of --dns.
func nameServer(ctx context.Context, r *relay.Relay, f relay.FileConfig, e *env) (io.Closer, error) {
	zones, err := f.Zones(netreal.PublicAddrs()...)
	if err != nil {
		return nil, err
	}
	if len(zones) == 0 {
		if len(f.DNSSecondaries) > 0 {
			return nil, fmt.Errorf("%s: dns_secondary is for a zone; set dns_zone", relay.ConfigFile)
		}
		return nil, nil
	}
	secondaries, err := f.Secondaries(e.dir)
	if err != nil {
		return nil, err
	}
	records, err := r.Records(zones...)
	if err != nil {
		return nil, err
	}
	server, err := dns.NewServer(dns.ServerConfig{Zones: zones, Store: records, Keys: secondaries.Keys, Rate: f.DNSRate, Logger: e.log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", cli.ErrUsage, err), records.Close())
	}
	pc, ln, err := dns.Listen(ctx, r.Network(), f.DNSListen)
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
	s.done.Go(func() { records.Watch(ctx) })
	if len(secondaries.Keys) > 0 {
		s.done.Go(func() { server.Notify(ctx, r.Network(), secondaries.Tell) })
	}
	names := make([]string, len(zones))
	for i, z := range zones {
		names[i] = z.Name
	}
	fmt.Fprintf(e.err, "name server for %s is up on %s (UDP and TCP)\n", strings.Join(names, ", "), pc.LocalAddr())
	for _, z := range zones {
		for _, host := range z.Unplaced() {
			fmt.Fprintf(e.err, "nobody can tell resolvers where %s is, the name server of %s; say it with host or dns_ns in %s\n", host, z.Name, relay.ConfigFile)
		}
	}
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
