package gateway

import (
	"bytes"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/testvectors"
	"tamizdat/transport"
)

// FuzzOpening: pieces come in order, each within its limit, and no more of them than
// the answer has bytes for.
func FuzzOpening(f *testing.F) {
	for _, b := range testvectors.Files(f, "edition-1.car", "invalid/*.car") {
		f.Add(b[:min(len(b), 20_000)])
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
