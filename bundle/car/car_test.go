package car_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
)

func directory(s string) cid.Cid {
	mh, _ := multihash.Sum([]byte(s), multihash.SHA2_256, -1)
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

func write(t testing.TB, blocks ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := car.NewEdition(&b, car.Intro{RootNotes: [][]byte{[]byte("note 1"), []byte("note 2")}, Head: []byte("head"), Root: directory("d")})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range blocks {
		if err := w.Put(bundle.RawCID(data), data); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func readAll(b []byte) (*car.Intro, []car.Block, error) {
	r, err := car.NewReader(iotest.OneByteReader(bytes.NewReader(b)))
	if err != nil {
		return nil, nil, err
	}
	in, err := r.Intro()
	if err != nil {
		return nil, nil, err
	}
	var blocks []car.Block
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return in, blocks, nil
		}
		if err != nil {
			return in, blocks, err
		}
		blocks = append(blocks, b)
	}
}

func TestRoundTrip(t *testing.T) {
	one, two := []byte("block one"), bytes.Repeat([]byte("2"), bundle.MaxBlock)
	file := write(t, one, two)
	in, blocks, err := readAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]byte{[]byte("note 1"), []byte("note 2")}, in.RootNotes); diff != "" {
		t.Error(diff)
	}
	if string(in.Head) != "head" || !in.Root.Equals(directory("d")) || len(blocks) != 2 {
		t.Errorf("head %q, root %v, %d blocks", in.Head, in.Root, len(blocks))
	}
	for i, want := range [][]byte{one, two} {
		if at := blocks[i].Offset; !bytes.Equal(file[at:at+int64(len(want))], want) {
			t.Errorf("block %d does not lie at its offset", i)
		}
	}
}

func TestTornAtEveryByte(t *testing.T) {
	file := write(t, []byte("block one"), []byte("block two"))
	whole := 0
	for n := range file {
		_, blocks, err := readAll(file[:n])
		if err == nil {
			whole++
			if len(blocks) == 2 {
				t.Errorf("cut to %d of %d bytes: read as whole", n, len(file))
			}
		}
	}
	if whole != 2 { // after the head and after the first block nothing shows the cut
		t.Errorf("%d cuts went unnoticed instead of 2", whole)
	}
}

func TestHostile(t *testing.T) {
	flipped := write(t, []byte("block one"))
	flipped[len(flipped)-1] ^= 1
	if _, _, err := readAll(flipped); !errors.Is(err, bundle.ErrBlock) {
		t.Errorf("flipped bit: %v", err)
	}
	if _, _, err := readAll(write(t, make([]byte, bundle.MaxBlock+1))); err == nil {
		t.Error("oversized block accepted")
	}
	for name, b := range map[string][]byte{
		"empty":       {},
		"text":        []byte("this is certainly not a CAR file"),
		"version 2":   append([]byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02}, make([]byte, 100)...),
		"huge header": {0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4, 5, 6, 7},
	} {
		if _, _, err := readAll(b); !errors.Is(err, car.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, []byte("block one"), []byte("block two")))
	f.Add([]byte{0x3a, 0xa2})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, blocks, _ := readAll(b)
		for _, block := range blocks {
			if err := bundle.CheckBlock(block.CID, block.Data); err != nil {
				t.Error(err)
			}
		}
	})
}
