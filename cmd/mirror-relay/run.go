package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"tamizdat/mirror/relay"
)

type runCmd struct {
	Listen    string   `help:"Address for UDP and TCP (default :443, else :8443)." placeholder:"HOST:PORT"`
	Host      string   `help:"Name or address under which others reach this relay." placeholder:"HOST"`
	Decoy     string   `help:"Folder of the website that everyone sees." type:"path" placeholder:"DIR"`
	DNS       []string `help:"Answer for this DNS zone as well; may be repeated." name:"dns" placeholder:"ZONE"`
	DNSListen string   `help:"Address of the name server, UDP and TCP (default :53)." name:"dns-listen" placeholder:"HOST:PORT"`

	Witness bool `help:"Be a witness of the channels carried here as well."`

	IPFS       bool     `help:"Be an IPFS node as well." name:"ipfs"`
	IPFSListen []string `help:"Addresses of the IPFS node (default: port 4001, QUIC and TCP)." name:"ipfs-listen" placeholder:"MULTIADDR"`
}

// Run serves until ctx ends.
func (c *runCmd) Run(e *env) error {
	ctx := e.ctx
	file, err := relay.LoadConfig(e.dir)
	if err != nil {
		return err
	}
	file = c.over(file)
	pull, err := file.PullLines()
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Config{
		Dir: e.dir, Network: e.network, Listen: file.Listen, Also: file.Also, ECH: file.ECH, Host: file.Host, Decoy: file.Decoy,
		Site: file.Site, Redirect: file.Redirect, ACME: file.Certificate(), Limits: file.Limits(), Throttle: file.Throttle(), Traffic: file.Traffic(),
		S3: file.S3.Store(e.dir), S3Poll: file.S3.Poll(), Pull: pull,
		Witness: file.Witness, Log: e.log,
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		if errors.Is(err, relay.ErrRunning) {
			return fmt.Errorf("%w; stop it first, or give another --dir", err)
		}
		if errors.Is(err, relay.ErrRedirect) {
			return fmt.Errorf("%w (another web server may have that port; see redirect in %s)", err, relay.ConfigFile)
		}
		if errors.Is(err, relay.ErrAlso) {
			return fmt.Errorf("%w (is the port in use? see also in %s)", err, relay.ConfigFile)
		}
		if errors.As(err, new(*net.OpError)) {
			return fmt.Errorf("%w (is the port in use? try --listen :8444)", err)
		}
		return err
	}
	extras, err := startServices(ctx, r, file, e)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, port, _ := net.SplitHostPort(r.Addr().String())
	fmt.Fprintf(e.err, "relay is up on port %s (UDP and TCP), data in %s\n", port, e.dir)
	if want := r.FirstChoice(); !samePort(want, port) {
		fmt.Fprintf(e.err, "%s could not be opened, so it is port %s; to use it, run as root or allow the program low ports\n", want, port)
	}
	fmt.Fprintf(e.err, "for each publisher, run: mirror-relay address CHANNEL-ID\n")
	err = r.Run(ctx)
	for _, s := range slices.Backward(extras) {
		err = errors.Join(err, s.Close())
	}
	return err
}

// over lets flags beat the file.
func (c *runCmd) over(f relay.FileConfig) relay.FileConfig {
	if c.Listen != "" {
		f.Listen = []string{c.Listen}
	}
	f.Host = cmp.Or(c.Host, f.Host)
	if c.Decoy != "" {
		f.Decoy, f.Site = c.Decoy, ""
	}
	if len(c.DNS) > 0 {
		f = f.OnlyZones(c.DNS)
	}
	f.DNSListen = cmp.Or(c.DNSListen, f.DNSListen, ":53")
	f.Witness = c.Witness || f.Witness
	f.IPFS = c.IPFS || f.IPFS
	if len(c.IPFSListen) > 0 {
		f.IPFSListen = c.IPFSListen
	}
	return f
}

func samePort(addr, port string) bool {
	_, p, err := net.SplitHostPort(addr)
	return err == nil && (p == port || p == "0" || p == "")
}

// A service is what a relay may be besides: a name server, an IPFS node.
type service func(ctx context.Context, r *relay.Relay, f relay.FileConfig, e *env) (io.Closer, error)

// services are started in this order after the relay listens. Each returns nil
// if it is not asked for, or if it ends with the relay anyway.
var services = []service{nameServer, ipfsNode, dhtPoster}

// dhtPoster puts heads on BitTorrent's DHT; it ends with the relay.
func dhtPoster(_ context.Context, r *relay.Relay, f relay.FileConfig, _ *env) (io.Closer, error) {
	if len(f.BitTorrent) == 0 {
		return nil, nil
	}
	if err := r.PostPackets(f.BitTorrent); err != nil {
		return nil, fmt.Errorf("bittorrent in %s: %w", relay.ConfigFile, err)
	}
	return nil, nil
}

func startServices(ctx context.Context, r *relay.Relay, f relay.FileConfig, e *env) ([]io.Closer, error) {
	var running []io.Closer
	for _, start := range services {
		s, err := start(ctx, r, f, e)
		if err != nil {
			for _, s := range slices.Backward(running) {
				err = errors.Join(err, s.Close())
			}
			return nil, err
		}
		if s != nil {
			running = append(running, s)
		}
	}
	return running, nil
}
