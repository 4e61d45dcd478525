package bundle

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"tamizdat/internal/testvectors"
)

// No age vector has the one header that a layer has, so none gets past our gate,
// whatever stock age makes of it. This table says why, by the beginnings of the
// names; the numbers tell when there are new ones.
var refusedAtTheGate = []struct {
	prefix string
	n      int
	why    string
}{
	{"armor_", 37, "layers are binary, never armored"},
	{"empty", 1, "there is no header"},
	{"header_", 1, "a line ends in CR LF"},
	{"hmac_", 8, "the recipient is an X25519 one"},
	{"hybrid", 18, "the recipient is a hybrid one; grants have those"},
	{"scrypt", 25, "the work factor is 10, or the stanza is malformed"},
	{"stanza_", 14, "the recipient is an X25519 one, or there are several"},
	{"stream_", 28, "the recipient is an X25519 one; for their chunks see TestAgeStreams"},
	{"version_", 1, "the version is another"},
	{"x25519", 14, "the recipient is an X25519 one"},
}

func TestAgeVectorsAtTheGate(t *testing.T) {
	seen := make([]int, len(refusedAtTheGate))
	for _, v := range testvectors.AgeVectors(t) {
		found := false
		for i, c := range refusedAtTheGate {
			if strings.HasPrefix(v.Name, c.prefix) {
				seen[i]++
				found = true
			}
		}
		if !found {
			t.Errorf("%s: a vector of a new kind", v.Name)
		}
		for _, id := range []string{"password", "another"} {
			_, err := newUnsealer(v.File, id, int64(len(v.File)))
			if !errors.Is(err, ErrLayer) || !strings.Contains(err.Error(), "not one scrypt stanza of work factor 1") {
				t.Errorf("%s: %v", v.Name, err)
			}
		}
	}
	for i, c := range refusedAtTheGate {
		if seen[i] != c.n {
			t.Errorf("%d vectors %s… (%s), there were %d", seen[i], c.prefix, c.why, c.n)
		}
	}
}

// Behind the gate the library reads the header. What it makes of the vectors is
// what it is asked for with ours.
func TestAgeVectorsHeaders(t *testing.T) {
	for _, v := range testvectors.AgeVectors(t) {
		if v.Armored {
			continue // armor is another package, which nothing of ours imports
		}
		key, err := headerKey(v)
		var mismatch *age.NoIdentityMatchError
		got := "success"
		switch {
		case errors.As(err, &mismatch):
			got = "no match"
		case err != nil && strings.HasSuffix(err.Error(), "bad header MAC"):
			got = "HMAC failure"
		case err != nil:
			got = "header failure"
		}
		want := v.Expect
		switch {
		case v.Name == "stream_no_nonce", v.Name == "stream_short_nonce":
			want = "success" // their headers are whole; the nonce stands behind
		case want == "payload failure":
			want = "success"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", v.Name, got, err, want)
		}
		if err == nil && !bytes.Equal(key, v.FileKey) {
			t.Errorf("%s: another file key", v.Name)
		}
	}
}

// headerKey is what newUnsealer does with a header that passed the gate.
func headerKey(v testvectors.Age) ([]byte, error) {
	header, err := age.ExtractHeader(bytes.NewReader(v.File))
	if err != nil {
		return nil, err
	}
	return age.DecryptHeader(header, v.Identities...)
}

// givesLess lists the vectors of which our reader gives out less than stock age
// does before it stops: what it has depends on the file's size, known beforehand,
// and not on what comes next.
var givesLess = map[string]string{
	"stream_empty_payload":            "a layer is never empty",
	"stream_no_final_full":            "the chunk at the end is not marked as the last",
	"stream_no_final_two_chunks_full": "the chunk at the end is not marked as the last",
	"stream_trailing_garbage_short":   "the chunk marked as the last is not at the end",
	"stream_two_final_chunks":         "the chunk marked as the last is not at the end",
	"stream_two_final_chunks_full":    "the chunk marked as the last is not at the end",
	"stream_trailing_garbage_long":    "the chunk marked as the last is not at the end",
	"stream_two_final_chunks_second":  "the chunk marked as the last is not at the end",
}

// The chunks of every vector whose header is in order, under a header of ours for
// the same file key: then everything that a layer goes through.
func TestAgeStreams(t *testing.T) {
	const passphrase = "passphrase"
	opened := 0
	for _, v := range testvectors.AgeVectors(t) {
		if v.Armored {
			continue
		}
		if _, err := headerKey(v); err != nil {
			continue
		}
		opened++
		theirs, err := age.ExtractHeader(bytes.NewReader(v.File))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := openChunks(append(headerFor(t, v.FileKey, passphrase), v.File[len(theirs):]...), passphrase)
		_, less := givesLess[v.Name]
		if ok := v.Expect == "success" && !less; (err == nil) != ok || err != nil && !errors.Is(err, ErrLayer) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Expect)
		}
		sum := sha256.Sum256(plain)
		switch same := bytes.Equal(sum[:], v.Payload); {
		case v.Payload == nil && len(plain) > 0: // a header failure to stock age
			t.Errorf("%s: gave out %d bytes", v.Name, len(plain))
		case v.Payload != nil && same == less && v.Name != "stream_empty_payload":
			t.Errorf("%s: gave out %d bytes; as much as stock age: %t", v.Name, len(plain), same)
		}
	}
	if opened < 35 {
		t.Errorf("%d vectors with chunks", opened)
	}
}

// headerFor writes a header with the one stanza of a layer, for a given file key.
func headerFor(t *testing.T, fileKey []byte, passphrase string) []byte {
	t.Helper()
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(workFactor)
	stanzas, err := r.Wrap(fileKey)
	if err != nil || len(stanzas) != 1 {
		t.Fatalf("%d stanzas, %v", len(stanzas), err)
	}
	enc := base64.RawStdEncoding
	header := fmt.Appendf(nil, "age-encryption.org/v1\n-> %s %s\n%s\n---",
		stanzas[0].Type, strings.Join(stanzas[0].Args, " "), enc.EncodeToString(stanzas[0].Body))
	key, err := hkdf.Key(sha256.New, fileKey, nil, "header", 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(header)
	header = fmt.Appendf(header, " %s\n", enc.EncodeToString(mac.Sum(nil)))
	if !plainHeader(header) {
		t.Fatalf("not a header of a layer: %q", header)
	}
	return header
}

// openChunks opens a whole file chunk by chunk and returns what it has until
// something is wrong.
func openChunks(file []byte, passphrase string) (plain []byte, err error) {
	u, err := newUnsealer(file, passphrase, int64(len(file)))
	if err != nil {
		return nil, err
	}
	rest := file[PrologueSize:]
	for i := range u.last + 1 {
		n := min(len(rest), sealedChunk)
		c, err := u.chunk(i, rest[:n])
		if err != nil {
			return plain, err
		}
		plain, rest = append(plain, c...), rest[n:]
	}
	return plain, nil
}
