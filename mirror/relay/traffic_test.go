package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

// clocked is an answer that remembers when its last byte was written.
type clocked struct {
	*httptest.ResponseRecorder
	at time.Time
}

func (c *clocked) Write(b []byte) (int, error) {
	c.at = time.Now()
	return c.ResponseRecorder.Write(b)
}

func TestAnswersKeepToTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100 << 10
		p := newPacer(rate)
		begin := time.Now()
		answer := func(size int) *clocked {
			c := &clocked{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			if n, err := p.wrap(c, r).Write(noise(uint64(size), size)); n != size || err != nil {
				t.Errorf("%d bytes of %d, %v", n, size, err)
			}
			if !bytes.Equal(c.Body.Bytes(), noise(uint64(size), size)) {
				t.Error("another answer came out")
			}
			return c
		}
		var wg sync.WaitGroup
		var last time.Time
		var mu sync.Mutex
		for range 10 {
			wg.Go(func() {
				c := answer(100 << 10)
				mu.Lock()
				defer mu.Unlock()
				if c.at.After(last) {
					last = c.at
				}
			})
		}
		time.Sleep(time.Second)
		asked := time.Now()
		// All that is waited for is ten pictures; a front page is not behind them.
		// Its bytes are owed, and who comes when a second's worth of them is waits.
		if d := answer(16 << 10).at.Sub(asked); d > 0 {
			t.Errorf("headlines came after %v", d)
		}
		wg.Wait()
		took := last.Sub(begin)
		if least := 9 * time.Second; took < least || took > 11*time.Second {
			t.Errorf("1,016 KiB at 100 KiB/s took %v", took)
		}
	})
}

// Who goes away is not waited for, and gives his turn back.
func TestPacedClientsMayGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(16 << 10)
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		begin := time.Now()
		_, err := p.wrap(httptest.NewRecorder(), r).Write(make([]byte, 1<<20))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3500*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if turn := p.all.ReserveN(time.Now(), 1); turn.Delay() > time.Second {
			t.Errorf("others wait for %v", turn.Delay())
		}
	})
}

// Any number of those who ask and go keep nobody waiting.
func TestPacedCrowdGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(100 << 10)
		ask := func(ctx context.Context) error {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			_, err := p.wrap(httptest.NewRecorder(), r).Write(make([]byte, 100<<10))
			return err
		}
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				defer cancel()
				_ = ask(ctx)
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		begin := time.Now()
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		// His own 100 KiB take a second; the beginnings that overtook are owed, a
		// second's worth and what a second allows.
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("a thousand who went made the next one wait for %v", took)
		}
	})
}

func TestPacedRelay(t *testing.T) {
	p := newPress(t, "paced")
	r := start(t, Config{Traffic: Traffic{PerSecond: 4 << 20}})
	s := p.edition(t, 300_000)
	push(t, r, s)
	fetchAll(t, r, p, s)
}

// fetchAll has a reader fetch every block of an edition over each of the relay's
// paths, and returns how many bytes that was.
func fetchAll(t *testing.T, r *Relay, p *press, s *sheet) (bytes int64) {
	t.Helper()
	for _, path := range paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch)) {
		var wants []transport.Want
		for _, b := range s.packed.Blocks {
			wants = append(wants, transport.Want{CID: b.CID, Size: len(b.Data)})
		}
		got := 0
		for b, err := range path.Blocks.Fetch(t.Context(), transport.Request{Edition: transport.Edition{Channel: p.ch}, Wants: wants}) {
			if err != nil {
				t.Fatalf("%s: %v", path.Name, err)
			}
			if err := bundle.CheckBlock(b.CID, b.Data); err != nil {
				t.Fatal(err)
			}
			got++
			bytes += int64(len(b.Data))
		}
		if got != len(wants) {
			t.Errorf("%s: %d blocks of %d", path.Name, got, len(wants))
		}
	}
	return bytes
}

// When the month's bytes are gone, the website stays, and so do headlines.
func TestMonthIsSpent(t *testing.T) {
	p := newPress(t, "month")
	dir := t.TempDir()
	var log lockedBuffer
	cfg := Config{Dir: dir, Traffic: Traffic{PerMonth: 1 << 40}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	r := start(t, cfg)
	s := p.edition(t, 300_000)
	push(t, r, s)
	status := func(path string) int {
		t.Helper()
		raw := exchange(t, r.Addr().String(), "GET "+path+" HTTP/1.1\r\nHost: relay.example.org\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	prefix := "/" + target(t, r, p.ch).Relay(p.batch).Prefix.Path()
	block := prefix + "/ipfs/" + s.head.Root.String() + "?format=raw"
	if got := status(block); got != http.StatusOK {
		t.Fatalf("before: %d", got)
	}
	fetched := fetchAll(t, r, p, s)
	if n := r.ledger.sent.Load(); n < fetched || n > fetched+fetched/2 { // small connections cost a handshake each
		t.Errorf("%d bytes were fetched, and %d counted", fetched, n)
	}
	r.ledger.limit = r.ledger.sent.Load()
	cfg.Traffic.PerMonth = r.ledger.limit
	check := func(when string) {
		t.Helper()
		for path, want := range map[string]int{
			block: http.StatusServiceUnavailable, prefix + "/head/" + p.ch.String(): http.StatusOK, "/": http.StatusOK,
		} {
			if got := status(path); got != want {
				t.Errorf("%s, %.12s…: %d, want %d", when, path, got, want)
			}
		}
	}
	check("spent")
	if err := r.ledger.save(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "used up") {
		t.Errorf("the volunteer is not told: %s", log.String())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	check("after a restart")
	r.ledger.month = "2026-01" // it was counted in another month than now
	if err := r.ledger.save(); err != nil {
		t.Fatal(err)
	}
	if got := status(block); got != http.StatusOK {
		t.Errorf("next month: %d", got)
	}
}

func TestLedgerFile(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	for name, text := range map[string]string{"nothing": "", "words": "some words\n", "negative": "2026-11 -5\n", "no number": "2026-11"} {
		if err := os.WriteFile(filepath.Join(dir, trafficFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openLedger(dir, 1, log); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l, err := openLedger(dir, 0, log); l != nil || err != nil || l.spent() {
		t.Error("counting without a limit")
	}
}
