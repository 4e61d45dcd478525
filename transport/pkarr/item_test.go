package pkarr

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"

	"github.com/ipfs/go-cid"
)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// headOf signs the head of an edition.
func headOf(t testing.TB, edition uint64) *channel.Head {
	t.Helper()
	root, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}.Sum([]byte("root"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := channel.Leaf{Channel: channel.ID{1}, Edition: edition, RootVersion: 1, Root: root, Front: record.NamesOf([]byte("front")), Date: time.Unix(1e9, 0).UTC()}
	var path []channel.Hash
	for n := edition; n > 0; n &= n - 1 {
		path = append(path, channel.Hash{byte(n)})
	}
	h, err := channel.SignHead(leaf, path, 0, time.Unix(1e9, 0), keyOf("log"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func itemOf(t testing.TB, key ed25519.PrivateKey, edition uint64, seq int64) *Item {
	t.Helper()
	i, err := Sign(key, headOf(t, edition), time.UnixMicro(seq))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// What was signed comes back, and is what any DNS library reads.
func TestItem(t *testing.T) {
	key := keyOf("ipns")
	for _, edition := range []uint64{0, 1, 1000, 1<<22 - 1} { // the last has the longest path of those that fit
		i := itemOf(t, key, edition, 1_700_000_000_000_000)
		got, err := Parse(public(key), i.Bytes())
		if err != nil || !bytes.Equal(got.Compact, headOf(t, edition).Compact()) || got.Seq != i.Seq || !bytes.Equal(got.Bytes(), i.Bytes()) {
			t.Fatalf("edition %d: %v", edition, err)
		}
		var msg mdns.Msg
		if err := msg.Unpack(i.value); err != nil || len(msg.Answer) != 1 {
			t.Fatalf("edition %d: %v", edition, err)
		}
		if h := msg.Answer[0].Header(); h.Rrtype != mdns.TypeTXT || h.Name != nameOf(public(key)) || len(h.Name) != len("_head..")+52 {
			t.Errorf("%v", h)
		}
		t.Logf("edition %d: head of %d bytes, value of %d", edition, len(i.Compact), len(bencoded(i.value)))
	}
	if _, err := Sign(key, headOf(t, 1<<23-1), time.UnixMicro(1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a head that does not fit: %v", err)
	}
}

// Keys are written as pkarr writes them: the example of its documentation.
func TestKeyName(t *testing.T) {
	b, err := zbase32.DecodeString("o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy")
	if err != nil || len(b) != 32 || nameOf(b) != "_head.o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy." {
		t.Errorf("%x, %v", b, err)
	}
}

// Whatever was changed is refused.
func TestItemRefused(t *testing.T) {
	key := keyOf("ipns")
	good := itemOf(t, key, 3, 5).Bytes()
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := Parse(public(key), b); !errors.Is(err, ErrItem) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "short": good[:itemHead], "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "huge": make([]byte, MaxItem+1)} {
		if _, err := Parse(public(key), b); !errors.Is(err, ErrItem) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(public(keyOf("other")), good); !errors.Is(err, ErrItem) {
		t.Errorf("of another key: %v", err)
	}
	if _, err := Parse(nil, good); !errors.Is(err, ErrItem) {
		t.Errorf("of no key: %v", err)
	}
	// Signed, and yet not the packet of a head.
	for name, value := range map[string][]byte{"no dns": []byte("x"), "two names for one head": append(bytes.Clone(good[itemHead:]), 0)} {
		i := signed(key, 9, value)
		if _, err := Parse(public(key), i.Bytes()); !errors.Is(err, ErrItem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzItem(f *testing.F) {
	key := keyOf("ipns")
	f.Add(itemOf(f, key, 3, 5).value)
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, value []byte) {
		i := signed(key, 9, value)
		got, err := Parse(public(key), i.Bytes())
		if err != nil {
			return
		}
		again, err := packet(public(key), got.Compact)
		if err != nil || !bytes.Equal(again, value) {
			t.Fatalf("%x is not what %x makes: %v", value, got.Compact, err)
		}
	})
}
