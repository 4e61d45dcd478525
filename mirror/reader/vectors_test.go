package reader

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tamizdat/bundle/channel"
)

// The shared vectors of evidence: what convinces somebody who has nothing else, and
// what does not.
func TestVectors(t *testing.T) {
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	type statement struct {
		Generation, Size uint64
		Tree             string
		Time             int64
	}
	type contradiction struct{ Ours, Theirs *statement }
	var v struct {
		Channel  string
		Evidence []struct {
			File   string
			Proven []contradiction
		}
		Refused []struct{ File, As, Check, Error string }
	}
	b, err := os.ReadFile(filepath.Join(dir, "history.json"))
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil || len(v.Evidence) < 6 {
		t.Fatalf("%d files of evidence, %v", len(v.Evidence), err)
	}
	stated := func(h *channel.Head) *statement {
		if h == nil {
			return nil
		}
		return &statement{h.Generation, h.Size, base64.StdEncoding.EncodeToString(h.Tree[:]), h.Time.Unix()}
	}
	for _, e := range v.Evidence {
		id, found, err := CheckProof(filepath.Join(dir, e.File))
		if err != nil || id.String() != v.Channel {
			t.Errorf("%s: %v", e.File, err)
			continue
		}
		var got []contradiction
		for _, c := range found {
			got = append(got, contradiction{stated(c.One), stated(c.Other)})
		}
		if diff := cmp.Diff(e.Proven, got); diff != "" {
			t.Errorf("%s:\n%s", e.File, diff)
		}
	}
	n := 0
	for _, c := range v.Refused {
		if c.As != "evidence" {
			continue
		}
		n++
		if _, _, err := CheckProof(filepath.Join(dir, c.File)); !errors.Is(err, ErrProof) || !strings.Contains(err.Error(), c.Error) {
			t.Errorf("%s: %v; %s", c.File, err, c.Check)
		}
	}
	if n < 25 {
		t.Errorf("%d files prove nothing", n)
	}
	good, err := os.ReadFile(filepath.Join(dir, v.Evidence[0].File))
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []int{0, 1} {
		name := filepath.Join(t.TempDir(), "large.json")
		if err := os.WriteFile(name, append(good, bytes.Repeat([]byte{' '}, maxProof-len(good)+more)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := CheckProof(name); (err != nil) != (more > 0) || err != nil && !errors.Is(err, ErrProof) {
			t.Errorf("a file of %d bytes: %v", maxProof+more, err)
		}
	}
}
