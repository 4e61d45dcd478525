// Package redact keeps people's addresses and secrets out of logs.
//
// Redaction happens inside the slog handler, not where a line is logged:
// a caller can't forget it, and an error text from a library that quotes the
// peer's address ("read udp 10.0.0.1:443->192.0.2.9:5123: ...") is cleaned as
// well. What is blanked: IP addresses with or without port, secret path
// segments of relays, and channel.Prefix-like base64url or base32 runs of 32
// characters and more.
package redact

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
)

// Mask stands where something was taken out.
const Mask = "[redacted]"

// Handler wraps next so that no address and no secret reaches it, in messages,
// attributes and groups alike.
func Handler(next slog.Handler) slog.Handler { return &handler{next} }

type handler struct{ next slog.Handler }

var _ slog.Handler = (*handler)(nil)

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, Text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(as))
	for i, a := range as {
		clean[i] = attr(a)
	}
	return &handler{h.next.WithAttrs(clean)}
}

func (h *handler) WithGroup(name string) slog.Handler { return &handler{h.next.WithGroup(Text(name))} }

func attr(a slog.Attr) slog.Attr {
	a.Key = Text(a.Key)
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		g := v.Group()
		clean := make([]slog.Attr, len(g))
		for i := range g {
			clean[i] = attr(g[i])
		}
		a.Value = slog.GroupValue(clean...)
	case slog.KindString:
		a.Value = slog.StringValue(Text(v.String()))
	case slog.KindAny:
		// Whatever it is, its text is what a handler would print; keeping the
		// value would let a JSON handler print its fields.
		a.Value = slog.StringValue(Text(fmt.Sprint(v.Any())))
	default: // numbers, times, durations and booleans name nobody
		a.Value = v
	}
	return a
}

// Candidates only; Text decides. An IPv6 zone ("%eth0") goes with its address.
var (
	v4     = regexp.MustCompile(`(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?`)
	v6     = regexp.MustCompile(`\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[0-9A-Za-z_.-]+)?(?:\](?::\d{1,5})?)?`)
	secret = regexp.MustCompile(`[A-Za-z0-9_-]{32,}`)
	port   = regexp.MustCompile(`(?:^\[)|(?:\](?::\d+)?$)|(?:%.*$)`)
)

// Text returns s with addresses and secrets replaced by Mask.
func Text(s string) string {
	s = secret.ReplaceAllString(s, Mask)
	s = v6.ReplaceAllStringFunc(s, func(m string) string {
		if _, err := netip.ParseAddr(port.ReplaceAllString(m, "")); err != nil {
			return m // a time of day, a "::" of prose
		}
		return Mask
	})
	return v4.ReplaceAllString(s, Mask)
}
