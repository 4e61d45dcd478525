package testvectors

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// Notes, heads, grants and IPNS records are signed with it (bundle/channel).
func TestEd25519(t *testing.T) {
	check(t, "ed25519_test.json", func(g group, v vector) error {
		return okay(ed25519.Verify(ed25519.PublicKey(g.PublicKey.PK), v.Msg, v.Sig))
	})
}

// The classical half of a batch's identity (age), and ECH.
func TestX25519(t *testing.T) {
	check(t, "x25519_test.json", func(_ group, v vector) error {
		private, err := ecdh.X25519().NewPrivateKey(v.Private)
		if err != nil {
			return err
		}
		public, err := ecdh.X25519().NewPublicKey(v.Public)
		if err != nil {
			return err
		}
		shared, err := private.ECDH(public)
		// RFC 7748 leaves it open what to do about a secret that whoever sent the
		// key chose; here it is refused.
		if zero := slices.Contains(v.Flags, "ZeroSharedSecret"); zero != (err != nil) {
			t.Errorf("test %d: secret of zeros: %t, %v", v.ID, zero, err)
		}
		if err != nil {
			return err
		}
		return okay(bytes.Equal(shared, v.Shared))
	})
}

// The other half, which a quantum computer does not break.
func TestMLKEM768(t *testing.T) {
	check(t, "mlkem_768_test.json", func(_ group, v vector) error {
		key, err := mlkem.NewDecapsulationKey768(v.Seed)
		if err != nil {
			return err
		}
		if len(v.EK) > 0 && !bytes.Equal(key.EncapsulationKey().Bytes(), v.EK) {
			return errDiffers
		}
		shared, err := key.Decapsulate(v.C)
		if err != nil {
			return err
		}
		return okay(bytes.Equal(shared, v.K))
	})
	check(t, "mlkem_768_encaps_test.json", func(_ group, v vector) error {
		key, err := mlkem.NewEncapsulationKey768(v.EK)
		if err != nil {
			return err
		}
		shared, c, err := mlkemtest.Encapsulate768(key, v.M)
		if err != nil {
			return err
		}
		return okay(bytes.Equal(shared, v.K) && bytes.Equal(c, v.C))
	})
}

// Passphrases of layers, names of grants, tags (bundle, bundle/channel), and the
// keys within an age file.
func TestHKDF(t *testing.T) {
	check(t, "hkdf_sha256_test.json", func(_ group, v vector) error {
		key, err := hkdf.Key(sha256.New, v.IKM, v.Salt, string(v.Info), v.Size)
		if err != nil {
			return err
		}
		return okay(bytes.Equal(key, v.OKM))
	})
}

// Prefixes of relays (bundle/channel), cut to 12 and 16 bytes.
func TestHMAC(t *testing.T) {
	check(t, "hmac_sha256_test.json", func(g group, v vector) error {
		mac := hmac.New(sha256.New, v.Key)
		mac.Write(v.Msg)
		return okay(hmac.Equal(mac.Sum(nil)[:g.TagSize/8], v.Tag))
	})
}

// The chunks of layers (bundle) and of grants (age), and the long nonces of the
// library's key slot and trust state (mirror/library).
func TestChaCha20Poly1305(t *testing.T) {
	check(t, "chacha20_poly1305_test.json", func(_ group, v vector) error {
		aead, err := chacha20poly1305.New(v.Key)
		if err != nil {
			return err
		}
		return opens(aead, v)
	})
	check(t, "xchacha20_poly1305_test.json", func(_ group, v vector) error {
		aead, err := chacha20poly1305.NewX(v.Key)
		if err != nil {
			return err
		}
		return opens(aead, v)
	})
}

func opens(aead interface {
	NonceSize() int
	Open(dst, nonce, sealed, more []byte) ([]byte, error)
	Seal(dst, nonce, plain, more []byte) []byte
}, v vector,
) error {
	if len(v.IV) != aead.NonceSize() {
		return errors.New("a nonce of another size") // ours are arrays
	}
	plain, err := aead.Open(nil, v.IV, append(bytes.Clone(v.CT), v.Tag...), v.AAD)
	if err != nil {
		return err
	}
	if again := aead.Seal(nil, v.IV, v.Msg, v.AAD); !bytes.Equal(again, append(bytes.Clone(v.CT), v.Tag...)) {
		return errDiffers
	}
	return okay(bytes.Equal(plain, v.Msg))
}

var errDiffers = errors.New("the result is another")

func okay(ok bool) error {
	if !ok {
		return errDiffers
	}
	return nil
}

// check tries all vectors of a file: valid ones must pass, invalid ones must not;
// what a file calls acceptable is the caller's to judge.
func check(t *testing.T, file string, try func(group, vector) error) {
	t.Helper()
	n := map[string]int{}
	for _, g := range wycheproof(t, file) {
		for _, v := range g.Tests {
			n[v.Result]++
			err := try(g, v)
			if v.Result == "valid" && err != nil || v.Result == "invalid" && err == nil {
				t.Errorf("%s: test %d (%s) is %s: %v", file, v.ID, v.Comment, v.Result, err)
			}
		}
	}
	if n["valid"] == 0 || n["invalid"]+n["acceptable"] == 0 {
		t.Errorf("%s: %v", file, n)
	}
}

// group is a group of tests of one Wycheproof file; which fields are set depends
// on the file.
type group struct {
	TagSize   int // bits
	PublicKey struct{ PK hexBytes }
	Tests     []vector
}

// vector is one test: what goes in, what comes out, and whether it may.
type vector struct {
	ID      int `json:"tcId"`
	Comment string
	Flags   []string
	// Result is "valid", "invalid" or "acceptable".
	Result string

	Msg, Sig                hexBytes
	Public, Private, Shared hexBytes
	Seed, EK, C, K, M       hexBytes
	IKM, Salt, Info, OKM    hexBytes
	Size                    int
	Key, IV, AAD, CT, Tag   hexBytes
}

// hexBytes is bytes, in the files in hexadecimal.
type hexBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode([]byte{}, text)
	return err
}

// wycheproof reads one of Wycheproof's files.
func wycheproof(t *testing.T, file string) []group {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "wycheproof", file+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var all struct {
		NumberOfTests int
		TestGroups    []group
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	n := 0
	for _, g := range all.TestGroups {
		n += len(g.Tests)
	}
	if n == 0 || n != all.NumberOfTests {
		t.Fatalf("%s: %d tests of %d", file, n, all.NumberOfTests)
	}
	return all.TestGroups
}
