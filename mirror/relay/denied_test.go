package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// denied is the signed list of those batches for a relay.
func (p *press) denied(t *testing.T, r *Relay, epoch uint64, batches ...channel.Seed) []byte {
	t.Helper()
	return p.deniedAt(t, r.Pin(), epoch, batches...)
}

func (p *press) deniedAt(t *testing.T, pin channel.Pin, epoch uint64, batches ...channel.Seed) []byte {
	t.Helper()
	d := channel.Denied{Channel: p.ch, Pin: pin, Epoch: epoch}
	for _, b := range batches {
		d.Tags = append(d.Tags, b.TagFor(pin))
	}
	slices.SortFunc(d.Tags, func(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) })
	list, err := d.Sign(0, p.log)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// deny pushes a list.
func deny(t *testing.T, r *Relay, p *press, list []byte) error {
	t.Helper()
	return pusher(t, r.cfg.Network, target(t, r, p.ch)).PublishDenied(t.Context(), p.ch, list)
}

// A revoked batch sees the website, byte for byte; others notice nothing; and it
// stays so.
func TestDeniedBatchSeesTheWebsite(t *testing.T) {
	p := newPress(t, "denied")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	push(t, r, p.edition(t, 0))
	other, later := channel.Seed{2}, channel.Seed{3}
	reads := func(batch channel.Seed) bool {
		t.Helper()
		path := paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(batch))[1]
		_, err := path.Heads.Head(t.Context(), p.ch, 0)
		if err != nil && !errors.Is(err, transport.ErrNotFound) {
			t.Errorf("it is no page that is missing: %v", err)
		}
		return err == nil
	}
	sees := func(batch channel.Seed) {
		t.Helper()
		prefix := target(t, r, p.ch).Relay(batch).Prefix.Path()
		request := "GET /" + prefix + "/head/" + p.ch.String() + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		missing := "GET /" + strings.Repeat("x", 32) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		if a, b := exchange(t, r.Addr().String(), request), exchange(t, r.Addr().String(), missing); a != b {
			t.Errorf("denied:\n%s\nmissing page:\n%s", a, b)
		}
	}
	expect := func(when string, first, second, third bool) {
		t.Helper()
		for i, c := range []struct {
			batch channel.Seed
			want  bool
		}{{p.batch, first}, {other, second}, {later, third}} {
			if reads(c.batch) != c.want {
				t.Errorf("%s: batch %d reads %t", when, i, !c.want)
			}
			if !c.want {
				sees(c.batch)
			}
		}
	}
	expect("before", true, true, true)
	for range 2 { // the same again is no news and no error
		if err := deny(t, r, p, p.denied(t, r, 1, p.batch)); err != nil {
			t.Fatal(err)
		}
	}
	expect("with a list", false, true, true)
	if err := deny(t, r, p, p.denied(t, r, 2, p.batch, later)); err != nil {
		t.Fatal(err)
	}
	expect("with the next one", false, true, false)
	if err := deny(t, r, p, p.denied(t, r, 1, p.batch)); !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("the older one again: %v", err)
	}
	expect("after that", false, true, false)
	push(t, r, p.edition(t, 0))
	expect("with a new edition", false, true, false)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	expect("after a restart", false, true, false)
	if err := deny(t, r, p, p.denied(t, r, 1, p.batch)); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("the older one after a restart: %v", err)
	}
	// Other relays that follow are let in: a list is of batches.
	pull, err := r.PullLine(p.ch)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "https://x/"+pull.Prefix.Path()+"/head/"+p.ch.String(), nil))
	if w.Code != http.StatusOK {
		t.Errorf("a relay that follows: %d", w.Code)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// What is damaged on disk can't be heeded, and the next push heals it.
	file := filepath.Join(dir, "editions", p.ch.String(), deniedFile)
	flip(t, file, 100)
	r = start(t, Config{Dir: dir})
	expect("with a damaged list", true, true, true)
	list := p.denied(t, r, 2, p.batch, later)
	if err := deny(t, r, p, list); err != nil {
		t.Fatal(err)
	}
	expect("pushed again", false, true, false)
	if onDisk, err := os.ReadFile(file); err != nil || !bytes.Equal(onDisk, list) {
		t.Errorf("on disk: %v", err)
	}
}

// Who waits for news when his batch is revoked sees the website at once; the
// others wait on.
func TestDeniedWhileWaiting(t *testing.T) {
	p := newPress(t, "denied waiting")
	r := start(t, Config{})
	push(t, r, p.edition(t, 0))
	tg := target(t, r, p.ch)
	poll := func(prefix channel.Prefix) chan string {
		out := make(chan string, 1)
		go func() {
			out <- exchange(t, r.Addr().String(), fmt.Sprintf("GET /%s/head/%s?have=1&wait=60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", prefix.Path(), p.ch))
		}()
		return out
	}
	shut, stays := poll(tg.Relay(p.batch).Prefix), poll(tg.Relay(channel.Seed{2}).Prefix)
	waiting(t, r, 2)
	if err := deny(t, r, p, p.denied(t, r, 1, p.batch)); err != nil {
		t.Fatal(err)
	}
	missing := exchange(t, r.Addr().String(), "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got := <-shut; got != missing {
		t.Errorf("who waited:\n%s\nmissing page:\n%s", got, missing)
	}
	waiting(t, r, 1)
	push(t, r, p.edition(t, 0))
	if got := <-stays; !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("another batch: %.200s", got)
	}
}

func TestBadListsAreRefused(t *testing.T) {
	p, other := newPress(t, "lists"), newPress(t, "lists of others")
	r := start(t, Config{})
	first := p.denied(t, r, 1, p.batch)
	if err := deny(t, r, p, first); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("before there is an edition: %v", err)
	}
	push(t, r, p.edition(t, 0))
	push(t, r, other.edition(t, 0))
	stranger := *p
	stranger.log = keyFrom("a stranger")
	bad := map[string][]byte{
		"another relay's":       p.deniedAt(t, channel.Pin{1}, 5, p.batch),
		"another channel's":     other.denied(t, r, 5, other.batch),
		"a stranger's":          stranger.denied(t, r, 5, p.batch),
		"cut":                   first[:len(first)-9],
		"too large":             bytes.Repeat([]byte{'a'}, channel.MaxDenied+1),
		"nothing":               {},
		"an edition's head":     p.edition(t, 0).head.Text(),
		"with a line too many":  append(bytes.Clone(first), '\n'),
		"another number before": bytes.Replace(first, []byte("epoch 1"), []byte("epoch 01"), 1),
	}
	check := func(when string) {
		t.Helper()
		for name, list := range bad {
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, httptest.NewRequest("PUT", "https://x/"+target(t, r, p.ch).Intake.Mint([8]byte{3}).Path()+"/denied/"+p.ch.String(), bytes.NewReader(list)))
			if w.Code/100 != 4 || w.Header().Get("Upload-Complete") != "" {
				t.Errorf("%s, %s: %d %s", when, name, w.Code, w.Body)
			}
		}
	}
	check("none held")
	if r.store.denies(p.ch, p.batch.TagFor(r.Pin())) {
		t.Fatal("denied by none of them")
	}
	if err := deny(t, r, p, first); err != nil {
		t.Fatal(err)
	}
	bad["another of the same epoch"] = p.denied(t, r, 1, channel.Seed{2})
	bad["none of an older epoch"] = p.denied(t, r, 0)
	check("one held")
	if d, _ := r.store.denied(p.ch); d.Epoch != 1 || len(d.Tags) != 1 {
		t.Errorf("held: %+v", d)
	}
	for method, prefix := range map[string]channel.Prefix{"GET": target(t, r, p.ch).Intake.Mint([8]byte{3}), "PUT": target(t, r, p.ch).Relay(channel.Seed{2}).Prefix} {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest(method, "https://x/"+prefix.Path()+"/denied/"+p.ch.String(), bytes.NewReader(p.denied(t, r, 9))))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
}

// TestFleetDenies: what one relay of a fleet was told, the others heed.
func TestFleetDenies(t *testing.T) {
	for _, name := range []string{"memory", "s3"} {
		t.Run(name, func(t *testing.T) {
			again := backends[name](t)
			p := newPress(t, "denying fleet")
			a, b := storeOn(t, again(), Limits{}), storeOn(t, again(), Limits{})
			if err := store(t, a, p.edition(t, 0)); err != nil {
				t.Fatal(err)
			}
			pin, tag := channel.Pin{7}, p.batch.TagFor(channel.Pin{7})
			refresh := func() {
				t.Helper()
				if err := b.refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			refresh()
			if err := a.putDenied(p.ch, pin, p.deniedAt(t, pin, 1, p.batch)); err != nil {
				t.Fatal(err)
			}
			if !a.denies(p.ch, tag) || b.denies(p.ch, tag) {
				t.Error("not yet, or not here")
			}
			_, shut := b.denied(p.ch)
			refresh()
			select {
			case <-shut:
			default:
				t.Error("nobody was woken")
			}
			_, shut = b.denied(p.ch)
			refresh()
			select {
			case <-shut:
				t.Error("woken by nothing new")
			default:
			}
			if !b.denies(p.ch, tag) {
				t.Error("the other one lets the batch in")
			}
			if c := storeOn(t, again(), Limits{}); !c.denies(p.ch, tag) {
				t.Error("one that begins now lets the batch in")
			}
			if err := b.putDenied(p.ch, pin, p.deniedAt(t, pin, 0)); !errors.Is(err, channel.ErrDenied) {
				t.Errorf("an older list to the other one: %v", err)
			}
		})
	}
}
