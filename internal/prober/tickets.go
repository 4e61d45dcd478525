package prober

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
)

// ticketProbes come back with tickets: over TCP with the server's own, once and
// twice, and over TCP and QUIC with those that another server gave.
func ticketProbes(p Paths) []Probe {
	var out []Probe
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		out = append(out, Probe{Name: label("tickets", "its own, twice, in %s", tls.VersionName(version)), ask: func(ctx context.Context, s Server) string {
			return resume(ctx, s, s, p.Page, version)
		}})
	}
	if p.Other == nil {
		return out
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		out = append(out, Probe{Name: label("tickets", "another server's, twice, in %s", tls.VersionName(version)), ask: func(ctx context.Context, s Server) string {
			return resume(ctx, *p.Other, s, p.Page, version)
		}})
	}
	for _, path := range append([]string{p.Page}, p.Near[:min(len(p.Near), 4)]...) {
		for _, method := range []string{"GET", "POST"} {
			b := frame(frameHeaders, h3Fields(request(method, path)...))
			out = append(out,
				Probe{Name: label("tickets", "early data with another server's: %s %s", method, path), ask: func(ctx context.Context, s Server) string { return early(ctx, *p.Other, s, p.Page, b) }},
				Probe{Name: label("tickets", "replayed, with another server's: %s %s", method, path), ask: func(ctx context.Context, s Server) string { return replay(ctx, *p.Other, s, p.Page, b) }})
		}
	}
	return dedupe(out)
}

// resume gets a ticket from one server over TCP and shows it to another, or the
// same, twice.
func resume(ctx context.Context, from, to Server, page string, version uint16) string {
	cache := &sessions{came: make(chan struct{}, 1)}
	cfg := clientTLS("http/1.1")
	cfg.MinVersion, cfg.MaxVersion, cfg.ClientSessionCache = version, version, cache
	if _, err := visit(ctx, from, cfg, page); err != nil {
		return "no ticket: " + ending(err)
	}
	ticket, ok := cache.Get("")
	if !ok {
		return "it gives no ticket"
	}
	text := ""
	for range 2 {
		cache.Put("", ticket)
		said, err := visit(ctx, to, cfg, page)
		text += fmt.Sprintf("%s [%s]\n", said, ending(err))
	}
	return text
}

// visit asks for a page and tells everything that came.
func visit(ctx context.Context, s Server, cfg *tls.Config, page string) (string, error) {
	c, err := dialTLS(ctx, s, cfg)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	cs := c.ConnectionState()
	text := fmt.Sprintf("resumed %t", cs.DidResume)
	for _, cert := range cs.PeerCertificates {
		text += fmt.Sprintf("\n%x", sha256.Sum256(cert.Raw))
	}
	if _, err := io.WriteString(c, "GET "+page+" HTTP/1.1\r\nHost: "+Host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return text, err
	}
	b, err := io.ReadAll(io.LimitReader(c, maxAnswer))
	return text + "\n" + string(b), err
}
