package main

import (
	"tamizdat/transport/dns"
	"tamizdat/transport/pkarr"
)

// resolver is one --resolver, known to be well-formed.
type resolver string

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *resolver) UnmarshalText(text []byte) error {
	if _, err := dns.ParseResolvers([]string{string(text)}); err != nil {
		return err
	}
	*r = resolver(text)
	return nil
}

// resolvers are all that were given.
func (c *commands) resolvers() []string {
	var out []string
	for _, r := range c.Resolver {
		out = append(out, string(r))
	}
	return out
}

// dhtNode is one --bittorrent, known to be well-formed.
type dhtNode string

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *dhtNode) UnmarshalText(text []byte) error {
	*n = dhtNode(text)
	return pkarr.CheckNode(string(text))
}

// dhtNodes are all that were given.
func (c *commands) dhtNodes() []string {
	var out []string
	for _, n := range c.BitTorrent {
		out = append(out, string(n))
	}
	return out
}
