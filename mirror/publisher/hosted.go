package publisher

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/internal/durable"
	"tamizdat/transport"
	"tamizdat/transport/dns"
)

// hostedDir holds, for each zone on somebody's name server, which editions may
// have something there: to be removed one day, and to be asked for by whoever
// goes on where he was cut off.
const hostedDir = "dns"

// hosted publishes to a zone on somebody's name server.
type hosted struct {
	p       *Publisher
	up      *dns.Updater
	pointer bool
	file    string
	held    bool // there was a head already
}

// mayBeThere is how many editions are looked for in a zone that holds some though
// nothing says which.
const mayBeThere = 100

var (
	_ transport.Publisher = (*hosted)(nil)
	_ transport.HeadTaker = (*hosted)(nil)
	_ transport.Pruner    = (*hosted)(nil)
	_ io.Closer           = (*hosted)(nil)
)

// parseHosted reads TargetConfig.DNS. Its errors quote nothing.
func parseHosted(s string) (zone, server string, err error) {
	z := parseZone(s)
	if addr, err := netip.ParseAddr(strings.Trim(z.Authority, "[]")); err == nil {
		z.Authority = net.JoinHostPort(addr.String(), "53")
	} else if host, port, err := net.SplitHostPort(z.Authority); err != nil || host == "" || port == "" {
		return "", "", errors.New("dns must be ZONE@ADDRESS or ZONE@ADDRESS:PORT")
	}
	if !fits(channel.Places{Zones: []channel.Zone{{Name: z.Name}}}) {
		return "", "", errors.New("dns: the zone's name is none that an invite can hold")
	}
	return z.Name, z.Authority, nil
}

// checkHosted checks what only zones have.
func (t *TargetConfig) checkHosted() error {
	if t.DNS == "" {
		if t.Pointer {
			return errors.New("pointer is for dns")
		}
		return nil
	}
	if t.Credentials == "" {
		return errors.New("dns needs credentials: the file of a TSIG key")
	}
	_, _, err := parseHosted(t.DNS)
	return err
}

// AddHosted appends a zone to publisher.toml.
func (p *Publisher) AddHosted(t TargetConfig) error {
	if t.DNS == "" || len(t.kinds()) != 1 {
		return errors.New("name a zone and its name server")
	}
	if err := errors.Join(t.checkMirror(), t.checkHosted()); err != nil {
		return err
	}
	return p.addTarget(t)
}

// openHosted opens a zone's target.
func (p *Publisher) openHosted(network transport.Network, t TargetConfig) (*hosted, error) {
	zone, server, err := parseHosted(t.DNS)
	if err != nil {
		return nil, err
	}
	text, err := bucket.ReadSecret(p.below(t.Credentials))
	if err != nil {
		return nil, err
	}
	key, err := dns.ParseKey(text)
	if err != nil {
		return nil, err
	}
	up, err := dns.NewUpdater(network, zone, server, key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(t.Name + "\n" + zone)) // the server may move
	return &hosted{p: p, up: up, pointer: t.Pointer, file: filepath.Join(p.dir, hostedDir, fmt.Sprintf("%x.json", sum[:8]))}, nil
}

// Close ends the connection.
func (h *hosted) Close() error { return h.up.Close() }

// Current implements transport.Publisher.
func (h *hosted) Current(ctx context.Context, ch channel.ID) ([]byte, error) {
	head, err := h.up.Head(ctx, ch)
	h.held = h.held || err == nil
	return head, err
}

// Publish implements transport.Publisher.
func (h *hosted) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	e, err := h.p.inDNS(s.CAR, s.Size, h.pointer)
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	began, err := h.load()
	if err != nil {
		return err
	}
	if began == nil {
		began = map[uint64]bool{}
		for n := s.Edition; h.held && n > 0 && s.Edition-n < mayBeThere; n-- { // the note was lost
			began[n-1] = true
		}
	}
	_, again := began[s.Edition]
	// It is on disk before anything of it is there, so that nothing stays for ever.
	if full := !h.pointer || began[s.Edition]; !again || began[s.Edition] != full {
		began[s.Edition] = full
		if err := h.save(began); err != nil {
			return err
		}
	}
	return h.up.Put(ctx, e, again, progress)
}

// PublishHead implements transport.HeadTaker: one update, since a head stands in the zone
// only when all that it leads to does.
func (h *hosted) PublishHead(ctx context.Context, s transport.Source) (int64, error) {
	raw, err := h.Current(ctx, s.Channel)
	if err != nil {
		return 0, err
	}
	e, err := h.p.inDNS(s.CAR, s.Size, h.pointer)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	old, err := h.p.roots.Head(raw)
	if err != nil || old.Edition != s.Edition || s.Edition >= h.p.Size() || !old.Root.Equals(h.p.editions[s.Edition].leaf.Root) {
		return 0, fmt.Errorf("another edition is there: %w", transport.ErrNotFound)
	}
	return h.up.PutHead(ctx, e)
}

// Prune implements transport.Pruner.
func (h *hosted) Prune(ctx context.Context, _ channel.ID, keep []uint64) (removed int, err error) {
	began, err := h.load()
	if err != nil {
		return 0, err
	}
	// What a recovered folder doesn't have, it can't tell the names of: neither what has
	// to stay, as long as such an edition is in the window, nor what could go.
	hollow := func(n uint64) bool { return n >= h.p.Size() || h.p.editions[n].hollow() }
	old := slices.DeleteFunc(slices.Sorted(maps.Keys(began)), func(n uint64) bool { return slices.Contains(keep, n) || hollow(n) })
	if len(old) == 0 || slices.ContainsFunc(keep, hollow) {
		return 0, nil
	}
	stays := map[string]bool{}
	for _, n := range keep {
		for e, err := range h.entries(n, true) {
			if err != nil {
				return 0, err
			}
			stays[e.Label] = true
		}
	}
	for _, n := range old {
		var failed error
		gone := func(yield func(dns.Entry) bool) {
			for e, err := range h.entries(n, began[n]) {
				if failed = err; err != nil || !stays[e.Label] && !yield(e) {
					return
				}
			}
		}
		k, err := h.up.Remove(ctx, gone)
		removed += k
		if err := errors.Join(failed, err); err != nil {
			return removed, err
		}
		delete(began, n)
		if err := h.save(began); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// entries is what edition n has in the zone.
func (h *hosted) entries(n uint64, full bool) iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		f, size, err := h.p.Source(n)
		if err != nil {
			yield(dns.Entry{}, err)
			return
		}
		defer f.Close()
		ed, err := h.p.inDNS(f, size, !full)
		if err != nil {
			yield(dns.Entry{}, fmt.Errorf("edition %d: %w", n, err))
			return
		}
		for e, err := range ed.Entries() {
			if !yield(e, err) {
				return
			}
		}
	}
}

// load reads which editions may have something in the zone, and whether texts are
// among it; nil if that was never written.
func (h *hosted) load() (map[uint64]bool, error) {
	text, err := os.ReadFile(h.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	began := map[uint64]bool{}
	if err := json.Unmarshal(text, &began); err != nil {
		return nil, fmt.Errorf("%s/%s is damaged; remove it, and old records in the zone by hand", hostedDir, filepath.Base(h.file))
	}
	return began, nil
}

func (h *hosted) save(began map[uint64]bool) error {
	if err := durable.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(began)
	if err != nil {
		return err
	}
	return durable.Write(h.file, 0o600, text)
}
