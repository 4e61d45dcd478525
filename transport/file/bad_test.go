package file_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

func put(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// fetched counts an edition's blocks that come, and fails for wrong ones.
func fetched(t *testing.T, s *file.Source, e *transporttest.Edition) (right, failed int) {
	t.Helper()
	blocks := e.Blocks()
	for b, err := range s.Fetch(t.Context(), transport.Request{Edition: e.Where(), Wants: e.Wants()}) {
		var one *transport.WantError
		switch {
		case errors.As(err, &one):
			failed++
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(b.Data, blocks[b.CID]):
			t.Errorf("wrong bytes as block %s", b.CID)
		default:
			right++
		}
	}
	return right, failed
}

// TestCutAnywhere: whatever is left of a file is worth what stands before the
// cut, and never more.
func TestCutAnywhere(t *testing.T) {
	c := transporttest.NewChannel(t, "Stick")
	e := c.Publish(transporttest.Articles(0)...)
	whole := e.CAR()
	r, err := car.NewReader(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Intro(); err != nil {
		t.Fatal(err)
	}
	intro := int(r.End())
	var ends []int
	for {
		if _, err := r.Next(); err != nil {
			break
		}
		ends = append(ends, int(r.End()))
	}
	name := filepath.Join(t.TempDir(), "e.car")
	cuts := []int{0, 1, 10, 60, intro - 1, intro, intro + 1, len(whole) - 1}
	for _, end := range ends {
		cuts = append(cuts, end-1, end, min(end+1, len(whole)))
	}
	for _, n := range cuts {
		s, err := file.Open(put(t, name, whole[:n]))
		if n < intro {
			if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), filepath.Dir(name)) {
				t.Errorf("cut to %d bytes, before the head is whole: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		want := 0
		clean := n == intro
		for _, end := range ends {
			if end <= n {
				want++
			}
			clean = clean || end == n
		}
		right, failed := fetched(t, s, e)
		if right != want || right+failed != len(ends) {
			t.Errorf("cut to %d bytes: %d blocks come and %d fail, %d are there", n, right, failed, want)
		}
		if (s.Damage() == nil) != clean {
			t.Errorf("cut to %d bytes: damage %v", n, s.Damage())
		}
		if raw, err := s.Head(t.Context(), c.ID(), 0); err != nil || !bytes.Equal(raw, e.Head.Text()) {
			t.Errorf("cut to %d bytes: head: %v", n, err)
		}
	}
}

// TestFlippedBytes: no single wrong byte makes a wrong answer.
func TestFlippedBytes(t *testing.T) {
	c := transporttest.NewChannel(t, "Stick")
	e := c.Publish(transporttest.Brief(0))
	whole := e.CAR()
	r, err := car.NewReader(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	header := int(r.End())
	name := filepath.Join(t.TempDir(), "e.car")
	total := len(e.Blocks())
	for at := 0; at < len(whole); at += 37 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		s, err := file.Open(put(t, name, bad))
		if err != nil {
			continue
		}
		if raw, err := s.Head(t.Context(), c.ID(), 0); err == nil && !bytes.Equal(raw, e.Head.Text()) {
			t.Fatalf("byte %d: another head", at)
		}
		right, _ := fetched(t, s, e)
		// In the header, the edition's root may change: it is the head's that counts.
		if at >= header && right == total && s.Damage() == nil {
			if _, err := s.Head(t.Context(), c.ID(), 0); err == nil {
				t.Fatalf("byte %d: nobody noticed", at)
			}
		}
	}
}

func TestFolder(t *testing.T) {
	c := transporttest.NewChannel(t, "Stick")
	first := c.Publish(transporttest.Articles(0)...)
	second := c.Publish(transporttest.Articles(1)...)
	other := transporttest.NewChannel(t, "Other")
	other.Publish(transporttest.Brief(0))
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }

	for name, prepare := range map[string]func() string{
		"nothing there": func() string { return in("missing.car") },
		"empty folder":  func() string { return t.TempDir() },
		"empty file":    func() string { return put(t, filepath.Join(t.TempDir(), "e.car"), nil) },
		"other file": func() string {
			return put(t, filepath.Join(t.TempDir(), "e.car"), []byte("<!doctype html>"+strings.Repeat(" ", 5000)))
		},
		"only bad files": func() string { d := t.TempDir(); put(t, filepath.Join(d, "a.car"), []byte("a")); return d },
	} {
		if s, err := file.Open(prepare()); err == nil {
			t.Errorf("%s: opened, channels %v", name, s.Channels())
		}
	}

	put(t, in("0.car"), nil)
	put(t, in("1.car"), transporttest.Noise(3, 4000))
	put(t, in("2.car"), first.CAR())
	bad := second.CAR()
	put(t, in("3.car"), bad[:len(bad)-70_000])
	put(t, in("4.car"), other.Newest().CAR())
	put(t, in("5.txt"), second.CAR()) // not by this name
	if err := os.Mkdir(in("6.car"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Channels(); len(got) != 2 {
		t.Errorf("channels %v", got)
	}
	for _, name := range []string{"0.car", "1.car", "3.car"} {
		if err := s.Damage(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("damage of %s is not told: %v", name, err)
		}
	}
	if raw, err := s.Head(t.Context(), c.ID(), 0); err != nil || !bytes.Equal(raw, second.Head.Text()) {
		t.Errorf("head: %v", err)
	}
	if raw, err := s.Head(t.Context(), other.ID(), 0); err != nil || !bytes.Equal(raw, other.Newest().Head.Text()) {
		t.Errorf("head of the other channel: %v", err)
	}
	if n, failed := fetched(t, s, first); failed != 0 {
		t.Errorf("edition 0: %d blocks come, %d fail", n, failed)
	}
	if n, failed := fetched(t, s, second); failed == 0 || n < failed {
		t.Errorf("torn edition 1: %d blocks come, %d fail", n, failed)
	}

	// The stick is pulled, or written to, after it was opened.
	put(t, in("2.car"), transporttest.Noise(4, len(first.CAR())))
	if n, failed := fetched(t, s, first); n > failed { // what both editions hold is still there
		t.Errorf("file changed: %d blocks come, %d fail", n, failed)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n, _ := fetched(t, s, second); n != 0 {
		t.Errorf("file gone: %d blocks come", n)
	}
}

// TestPublisherFolder: a publisher's folder target.
func TestPublisherFolder(t *testing.T) {
	c := transporttest.NewChannel(t, "Stick")
	first := c.Publish(transporttest.Brief(0))
	second := c.Publish(transporttest.Brief(1))
	f := file.Folder{Dir: filepath.Join(t.TempDir(), "new", "folder")}
	if _, err := f.Current(t.Context(), c.ID()); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("before the first: %v", err)
	}
	for _, e := range []*transporttest.Edition{second, first, second} { // in any order, and again
		var held, total int64
		if err := f.Publish(t.Context(), e.Source(), func(h, of int64) { held, total = h, of }); err != nil {
			t.Fatal(err)
		}
		if held != total || total != int64(len(e.CAR())) {
			t.Errorf("progress ends at %d of %d", held, total)
		}
	}
	raw, err := f.Current(t.Context(), c.ID())
	if err != nil || !bytes.Equal(raw, second.Head.Text()) {
		t.Errorf("current: %v", err)
	}
	if _, err := f.Current(t.Context(), channel.ID{1}); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("current of another channel: %v", err)
	}
	s, err := file.Open(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Block(bundle.RawCID([]byte("nobody's"))); !errors.Is(err, bundle.ErrMissing) {
		t.Errorf("a block that is not there: %v", err)
	}
}
