package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"tamizdat/transport"
	"tamizdat/transport/file"
	"tamizdat/transport/transporttest"
)

// A single file holds one edition, a folder several.
func TestConformance(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		transporttest.Run(t, nil, func(t *testing.T, w *transporttest.World) transporttest.Subject {
			name := filepath.Join(t.TempDir(), "edition.car")
			if err := os.WriteFile(name, w.Newest.CAR(), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := file.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			return transporttest.Subject{Paths: []transport.Path{s.Path("stick")}}
		})
	})
	t.Run("folder", func(t *testing.T) {
		transporttest.Run(t, nil, func(t *testing.T, w *transporttest.World) transporttest.Subject {
			dir := t.TempDir()
			for _, e := range w.Channel.Editions() {
				if err := (file.Folder{Dir: dir}).Publish(t.Context(), e.Source(), nil); err != nil {
					t.Fatal(err)
				}
			}
			s, err := file.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return transporttest.Subject{Paths: []transport.Path{s.Path("stick")}, Old: true}
		})
	})
}
