package bundle

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"

	"tamizdat/internal/testvectors"
)

// seedNodes are the blocks of links in the vectors' editions and the invalid
// ones beside them.
func seedNodes(f *testing.F) (nodes [][]byte) {
	f.Helper()
	for _, file := range testvectors.Files(f, "edition-*.car") {
		r, err := carv2.NewBlockReader(bytes.NewReader(file)) // package car imports this one
		if err != nil {
			f.Fatal(err)
		}
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				f.Fatal(err)
			}
			if b.Cid().Prefix().Codec == cid.DagProtobuf {
				nodes = append(nodes, b.RawData())
			}
		}
	}
	if len(nodes) < 6 {
		f.Fatalf("%d nodes in the vectors' editions", len(nodes))
	}
	return append(nodes, testvectors.Files(f, "invalid/folder-*", "invalid/directory-*", "invalid/file-*")...)
}

// named is the CID under which a node would come.
func named(block []byte) cid.Cid { return cid.NewCidV1(cid.DagProtobuf, RawCID(block).Hash()) }

// FuzzFolder: what parses has distinct, sorted, harmless names, and an edition
// has a front page.
func FuzzFolder(f *testing.F) {
	for _, b := range seedNodes(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		c := named(block)
		links, err := ParseFolder(c, block)
		d, dirErr := ParseDirectory(c, block)
		if err != nil {
			if dirErr == nil {
				t.Fatal("an edition's directory that is no folder")
			}
			return
		}
		for i, l := range links {
			if l.Name == "" || strings.Contains(l.Name, "/") || CheckCID(l.CID) != nil {
				t.Fatalf("link %q accepted", l.Name)
			}
			if i > 0 && links[i-1].Name >= l.Name {
				t.Fatal("names out of order")
			}
		}
		if dirErr == nil && !d.Layers[LayerFront].Defined() {
			t.Fatal("an edition without a front page")
		}
		if _, err := Children(Block{c, block}); err != nil && !errors.Is(err, ErrBlock) {
			t.Fatal(err)
		}
	})
}

// FuzzFile: what parses covers its bytes without gap or overlap.
func FuzzFile(f *testing.F) {
	for _, b := range seedNodes(f) {
		f.Add(b, int64(0))
		f.Add(b, int64(firstBlock))
	}
	f.Fuzz(func(t *testing.T, block []byte, base int64) {
		if base < 0 || base > MaxLayer {
			return
		}
		links, err := ParseFile(named(block), block, base)
		if err != nil {
			return
		}
		at := base
		for _, l := range links {
			if l.Offset != at || l.Size <= 0 || CheckCID(l.CID) != nil {
				t.Fatalf("a link of %d bytes at %d after %d", l.Size, l.Offset, at)
			}
			at += l.Size
		}
		if at > MaxLayer || len(links) > dagWidth {
			t.Fatalf("%d links to %d bytes", len(links), at)
		}
	})
}

// FuzzFront: what passes the checks encodes to a front page that passes them and
// says the same.
func FuzzFront(f *testing.F) {
	testvectors.Seed(f, "front-*.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		var front Front
		if unmarshal(b, &front) != nil || front.check() != nil {
			return
		}
		out, err := marshal(&front)
		if err != nil {
			return // a year past 9999 parses as an offset and can't be written
		}
		var again Front
		if err := unmarshal(out, &again); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := again.check(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		twice, err := marshal(&again)
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("two spellings by one program: %v\n%s\n%s", err, out, twice)
		}
		if len(front.Articles) != len(again.Articles) || !reflect.DeepEqual(front.Gone, again.Gone) {
			t.Fatal("something was lost")
		}
	})
}

// FuzzFrame: finding the end of a zstd frame and opening it never panics, and
// stays within the limit.
func FuzzFrame(f *testing.F) {
	f.Add(compress([]byte("some text, some text, some text")))
	f.Add(compress(nil))
	f.Add(pad(compress([]byte("x")), LayerFront))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, _, err := frameSize(b)
		if err != nil {
			return
		}
		if n <= 0 || n > len(b) {
			t.Fatalf("frame of %d bytes in %d", n, len(b))
		}
		out, err := decompress(b[:n], 1<<16)
		if err == nil && len(out) > 1<<16 {
			t.Fatalf("%d bytes", len(out))
		}
		_ = unpadded(b[n:])
	})
}
