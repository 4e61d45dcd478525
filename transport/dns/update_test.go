package dns

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/record"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
)

func updater(t *testing.T, p *testservers.Primary, key string) *Updater {
	t.Helper()
	k, err := ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUpdater(&loopback{}, testZone, p.Addr, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// inZoneOf are the names that an edition has in a zone.
func inZoneOf(t *testing.T, e *Edition) []string {
	t.Helper()
	names := map[string]bool{}
	for entry, err := range e.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		for rr := range entry.rrs(testZone) {
			names[rr.Header().Name] = true
		}
	}
	return slices.Sorted(func(yield func(string) bool) {
		for n := range names {
			if !yield(n) {
				return
			}
		}
	})
}

// TestPut: all of an edition arrives, exactly, in several updates, and the head in
// the last one.
func TestPut(t *testing.T) {
	w := newWorld(t)
	p := testservers.NewPrimary(t, testZone)
	u := updater(t, p, p.Key)
	if _, err := u.Head(t.Context(), w.ch); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("head of an empty zone: %v", err)
	}
	head := w.ch.Label() + "." + testZone + "."
	p.Spoil(w.ch.Label()+"-s3."+testZone+".", "of a longer head")
	var held, total int64
	if err := u.Put(t.Context(), w.e, false, func(h, n int64) { held, total = h, n }); err != nil {
		t.Fatal(err)
	}
	if held != total || total < 100_000 {
		t.Errorf("%d of %d bytes", held, total)
	}
	if got, want := p.Names(), inZoneOf(t, w.e); !slices.Equal(got, want) {
		t.Errorf("%d names instead of %d", len(got), len(want))
	}
	updates := p.Updates()
	if len(updates) < 4 {
		t.Errorf("%d updates: too few to test more than one", len(updates))
	}
	for i, names := range updates {
		if slices.Contains(names, head) != (i == len(updates)-1) {
			t.Errorf("update %d of %d has the head, or the last has none", i+1, len(updates))
		}
	}
	if raw, err := u.Head(t.Context(), w.ch); err != nil || !bytes.Equal(raw, w.head.Compact()) {
		t.Errorf("head: %d bytes, %v", len(raw), err)
	}
	n := 0
	var labels []string
	for e := range w.e.Entries() {
		if !e.Named {
			labels = append(labels, e.Label)
		}
	}
	if err := u.ask(t.Context(), labels, func(label string, data []byte) {
		if n++; !isRecord(label, data) {
			t.Errorf("%s: %d spoiled bytes", label, len(data))
		}
	}); err != nil || n != len(labels) {
		t.Errorf("%d of %d records: %v", n, len(labels), err)
	}
}

// TestPutResumes: after each place where a run may break, the next one sends what
// is missing and what was spoiled, and little besides.
func TestPutResumes(t *testing.T) {
	w := newWorld(t)
	whole := testservers.NewPrimary(t, testZone)
	if err := updater(t, whole, whole.Key).Put(t.Context(), w.e, false, nil); err != nil {
		t.Fatal(err)
	}
	count := len(whole.Updates())
	for broken := range count {
		p := testservers.NewPrimary(t, testZone)
		var mended atomic.Bool
		p.Before = func(_ int, m *mdns.Msg) (int, bool) {
			return 0, m.Opcode == mdns.OpcodeUpdate && len(p.Updates()) == broken && !mended.Load()
		}
		u := updater(t, p, p.Key)
		if err := u.Put(t.Context(), w.e, false, nil); err == nil || errors.Is(err, transport.ErrRefused) {
			t.Fatalf("broken at %d: %v", broken, err)
		}
		if slices.Contains(p.Names(), w.ch.Label()+"."+testZone+".") {
			t.Fatalf("broken at %d: there is a head already", broken)
		}
		spoiled := ""
		for _, name := range p.Names() {
			if label := strings.TrimSuffix(name, "."+testZone+"."); len(label) == record.LabelLen {
				if _, grant := w.e.Grants[label]; !grant {
					spoiled = name
				}
			}
		}
		if spoiled != "" {
			p.Spoil(spoiled, "spoiled")
		}
		mended.Store(true)
		if err := u.Put(t.Context(), w.e, true, nil); err != nil {
			t.Fatalf("after %d: %v", broken, err)
		}
		if got := len(p.Updates()); got > count+2 {
			t.Errorf("broken at %d: %d updates instead of %d", broken, got, count)
		}
		if got, want := p.Names(), whole.Names(); !slices.Equal(got, want) {
			t.Errorf("broken at %d: %d names instead of %d", broken, len(got), len(want))
		}
		if spoiled == "" {
			continue
		}
		label := strings.TrimSuffix(spoiled, "."+testZone+".")
		n := 0
		if err := u.ask(t.Context(), []string{label}, func(l string, data []byte) {
			if n++; !isRecord(l, data) {
				t.Errorf("broken at %d: a spoiled record is left", broken)
			}
		}); err != nil || n != 1 {
			t.Errorf("%d records: %v", n, err)
		}
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	p := testservers.NewPrimary(t, testZone)
	u := updater(t, p, p.Key)
	if err := u.Put(t.Context(), w.e, false, nil); err != nil {
		t.Fatal(err)
	}
	before := len(p.Updates())
	n, want := 0, 0
	for range w.e.Entries() {
		want++
	}
	n, err := u.Remove(t.Context(), func(yield func(Entry) bool) {
		for e := range w.e.Entries() {
			if !yield(e) {
				return
			}
		}
	})
	if err != nil || n != want || len(p.Names()) != 0 {
		t.Errorf("%d of %d went, %d are left: %v", n, want, len(p.Names()), err)
	}
	if len(p.Updates())-before > 3 {
		t.Errorf("%d updates to remove %d labels", len(p.Updates())-before, want)
	}
}

// TestUpdateRefused: each refusal is one line that says what to look at, without
// the key or where the server is.
func TestUpdateRefused(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		rcode int
		drop  bool
		key   string
		says  string
		final bool
	}{
		"refused":    {rcode: mdns.RcodeRefused, says: "allow it", final: true},
		"not auth":   {rcode: mdns.RcodeNotAuth, says: "not the zone's primary", final: true},
		"not zone":   {rcode: mdns.RcodeNotZone, says: "zone's name", final: true},
		"no updates": {rcode: mdns.RcodeNotImplemented, says: "RFC 2136", final: true},
		"format":     {rcode: mdns.RcodeFormatError, says: "does not understand", final: true},
		"failed":     {rcode: mdns.RcodeServerFailure, says: "its log"},
		"odd":        {rcode: mdns.RcodeYXDomain, says: "YXDOMAIN"},
		"gone":       {drop: true, says: "closed"},
		"secret":     {key: "hmac-sha256:" + testZone + ":" + strings.Repeat("QUJD", 8), says: "another secret", final: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := testservers.NewPrimary(t, testZone)
			p.Before = func(int, *mdns.Msg) (int, bool) { return c.rcode, c.drop }
			if c.key == "" {
				c.key = p.Key
			}
			err := updater(t, p, c.key).Put(t.Context(), w.e, false, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, transport.ErrRefused) != c.final {
				t.Fatalf("%v, final: %v", err, errors.Is(err, transport.ErrRefused))
			}
			if s := err.Error(); strings.ContainsAny(s, "\n") || strings.Contains(s, "127.0.0.1") || strings.Contains(s, "QUJD") || strings.Contains(s, testZone) {
				t.Errorf("it tells too much: %s", s)
			}
			if len(p.Names()) != 0 {
				t.Error("something is there all the same")
			}
		})
	}
}

// TestUpdateUnbelieved: an answer without the key's signature, or one to another
// question, counts for nothing, and nonsense ends the talk.
func TestUpdateUnbelieved(t *testing.T) {
	w := newWorld(t)
	stranger := testKey(t, testZone, strings.Repeat("s", 32))
	for name, answer := range map[string]func(q *mdns.Msg, mac string) []byte{
		"unsigned": func(q *mdns.Msg, _ string) []byte {
			raw, _ := new(mdns.Msg).SetReply(q).Pack()
			return raw
		},
		"stranger": func(q *mdns.Msg, mac string) []byte {
			raw, _, _ := stranger.sign(new(mdns.Msg).SetReply(q), mac, false)
			return raw
		},
		"nonsense": func(*mdns.Msg, string) []byte { return []byte{1, 2, 3} },
		"query":    func(q *mdns.Msg, _ string) []byte { raw, _ := q.Pack(); return raw },
		"empty":    func(*mdns.Msg, string) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				raw, err := readFrame(conn, make([]byte, 0xffff))
				q := new(mdns.Msg)
				if err != nil || q.Unpack(raw) != nil {
					return
				}
				_ = writeFrame(conn, answer(q, q.IsTsig().MAC))
			}()
			u, err := NewUpdater(&loopback{}, testZone, ln.Addr().String(), testKey(t, testZone, goodSecret))
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Put(t.Context(), w.e, false, nil); err == nil {
				t.Error("believed")
			}
			if u.conn != nil {
				t.Error("the connection is still open")
			}
		})
	}
}
