package library

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"tamizdat/transport"
)

func TestFullDiskIsReadable(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a small disk can't be mounted here:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	lib := filepath.Join(dir, "lib")
	l := open(t, lib, "")
	check(t, l.SetNote(ctx, "k", []byte("v")))
	check(t, l.Close())
	f, err := os.Create(filepath.Join(dir, "filler"))
	check(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	check(t, f.Close())

	l = open(t, lib, "")
	v, err := l.Note(ctx, "k")
	check(t, err)
	if string(v) != "v" {
		t.Errorf("read %q", v)
	}
	wantErr(t, l.PutBlocks(ctx, chA, 1, []transport.Block{block(60_000, "more")}), ErrFull)
	check(t, os.Remove(f.Name()))
	check(t, l.PutBlocks(ctx, chA, 1, []transport.Block{block(60_000, "more")}))
}
