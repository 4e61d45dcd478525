package library

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"tamizdat/bundle"
)

// smallDisk is a folder on a disk of its own. fill leaves no room on it; what it
// returns gives that back.
func smallDisk(t *testing.T) (dir string, fill func() (free func())) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a small disk can't be mounted here:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, func() func() {
		f, err := os.Create(filepath.Join(dir, "filler"))
		check(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		check(t, f.Close())
		return func() { check(t, os.Remove(f.Name())) }
	}
}

func TestFullDiskIsReadable(t *testing.T) {
	ctx := t.Context()
	dir, fill := smallDisk(t)
	lib := filepath.Join(dir, "lib")
	l := open(t, lib, "")
	check(t, l.SetNote(ctx, "k", []byte("v")))
	check(t, l.Close())
	free := fill()

	l = open(t, lib, "")
	v, err := l.Note(ctx, "k")
	check(t, err)
	if string(v) != "v" {
		t.Errorf("read %q", v)
	}
	wantErr(t, l.PutBlocks(ctx, chA, 1, checked(t, block(60_000, "more"))), ErrFull)
	free()
	check(t, l.PutBlocks(ctx, chA, 1, checked(t, block(60_000, "more"))))
}

// TestFullDiskOfBefore: so is a library that lacks tables for which there is no room;
// of those that it has, all is seen.
func TestFullDiskOfBefore(t *testing.T) {
	ctx := t.Context()
	dir, fill := smallDisk(t)
	lib := filepath.Join(dir, "lib")
	l := open(t, lib, "")
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Articles: []bundle.Entry{entry("1", "one", ""), entry("2", "two", "")}}))
	check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Edition: 1, Gone: []string{"1"}}))
	for _, dropped := range []string{"said", "loose", "gone"} {
		_, err := l.db.Exec(`DROP TABLE ` + dropped)
		check(t, err)
		check(t, l.Close())
		free := fill()
		l = open(t, lib, "")
		m, err := l.Meta(ctx, chA)
		check(t, err)
		_, err = l.Loose(ctx, chA)
		check(t, err)
		gone, err := l.Gone(ctx, chA)
		check(t, err)
		want := 1
		if dropped == "gone" {
			want = 0
		}
		if m.Headlines != 1 || m.GoneLately != want || len(gone) != want {
			t.Errorf("without %q: %+v, gone %+v", dropped, m, gone)
		}
		check(t, l.Close())
		free()
		l = open(t, lib, "")
		check(t, l.SetFront(ctx, chA, &bundle.Front{Channel: chA, Edition: 2, Articles: []bundle.Entry{entry("2", "two", "")}}))
	}
	check(t, l.Close())
}
