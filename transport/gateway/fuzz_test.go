package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// FuzzOpening: pieces come in order, each within its limit, and no more of them than
// the answer has bytes for.
func FuzzOpening(f *testing.F) {
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	files, err := filepath.Glob(filepath.Join(dir, "edition-1.car"))
	bad, err2 := filepath.Glob(filepath.Join(dir, "invalid", "*.car"))
	if err != nil || err2 != nil || len(files) != 1 || len(bad) < 5 {
		f.Fatalf("%d editions and %d that are none among the vectors: %v, %v", len(files), len(bad), err, err2)
	}
	for _, name := range append(files, bad...) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) > 20_000 {
			b = b[:20_000]
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		total, stage := 0, transport.PieceRootNote
		for p, err := range Opening(bytes.NewReader(body)) {
			if err != nil {
				break
			}
			if total += len(p.Data); total > len(body) {
				t.Fatalf("%d bytes of %d", total, len(body))
			}
			limit := bundle.MaxBlock
			switch p.Kind {
			case transport.PieceRootNote:
				limit = channel.MaxRootNote
			case transport.PieceHead:
				limit = channel.MaxHead
			case transport.PieceGrant:
				limit = channel.GrantLarge
				if stage != transport.PieceHead {
					t.Fatal("a grant that is not behind the head")
				}
			case transport.PieceBlock:
				if err := bundle.CheckBlock(p.CID, p.Data); err != nil {
					t.Fatal(err)
				}
			}
			if len(p.Data) > limit {
				t.Fatalf("a piece of kind %v of %d bytes", p.Kind, len(p.Data))
			}
			stage = p.Kind
		}
	})
}
