package sync_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

func stick(t *testing.T, dir string) transport.Path {
	t.Helper()
	s, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s.Path("stick")
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStick: editions that came on damaged media, from nothing to everything.
func TestStick(t *testing.T) {
	c := published(t, 3)
	stranger := transporttest.NewChannel(t, "Stranger")
	stranger.Publish(transporttest.Brief(1))
	dir := t.TempDir()
	r := newReader(t, c)

	write(t, dir, "foreign.car", stranger.Newest().CAR())
	write(t, dir, "empty.car", nil)
	_, err := r.over(stick(t, dir)).e.Sync(t.Context(), c.ID())
	if !errors.Is(err, sync.ErrNoPath) {
		t.Fatalf("only a foreign channel's file: %v", err)
	}

	// The second edition, cut off in the middle: its headlines are there. The
	// grant, at the end, is not; the reader has the key from an older edition.
	write(t, dir, "a.car", c.Editions()[0].CAR())
	r.over(stick(t, dir)).sync()
	e := c.Editions()[1].CAR()
	write(t, dir, "torn.car", e[:len(e)/2])
	write(t, dir, "rubbish.car", transporttest.Noise(1, 10_000))
	res, err := r.over(stick(t, dir)).e.Sync(t.Context(), c.ID())
	if res.Head == nil || res.Head.Edition != 1 || res.ToHeadlines == 0 {
		t.Fatalf("a torn file: %+v, %v", res, err)
	}

	// The rest on another day, beside a file with one wrong byte.
	bad := c.Newest().CAR()
	bad[len(bad)-100_000] ^= 1
	write(t, dir, "bad.car", bad)
	for i, e := range c.Editions() {
		write(t, dir, string(rune('a'+i))+".car", e.CAR())
	}
	r.over(r.guard(stick(t, dir))).sync()
	r.holds(c.Newest())
	r.reads(true, c.Editions()...)
}
