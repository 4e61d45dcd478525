package relay

import (
	"bytes"
	"errors"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/testvectors"
)

// The shared vectors of whole files: what a relay stores is one edition, whole, and
// nothing more.
func TestVectors(t *testing.T) {
	var v struct {
		Channel  string
		Editions []struct {
			CAR    string
			Blocks int
		}
	}
	testvectors.JSON(t, "vectors.json", &v)
	id, err := channel.ParseID(v.Channel)
	if err != nil || len(v.Editions) < 2 {
		t.Fatalf("%d editions, %v", len(v.Editions), err)
	}
	check := func(name string) (*edition, error) {
		b := testvectors.File(t, name)
		return checkEdition(bytes.NewReader(b), int64(len(b)), id, nil)
	}
	for _, e := range v.Editions {
		// The head's block comes on top; a root note is one of the edition's.
		if got, err := check(e.CAR); err != nil || len(got.index) != e.Blocks+1 {
			t.Errorf("%s: %v", e.CAR, err)
		}
	}
	var cases []struct{ File, As, Check string }
	testvectors.JSON(t, "invalid.json", &cases)
	n := 0
	for _, c := range cases {
		if c.As != "car" && c.As != "edition" {
			continue
		}
		n++
		if _, err := check(c.File); !errors.Is(err, errBad) {
			t.Errorf("%s: %v, but %s", c.File, err, c.Check)
		} else {
			t.Logf("%s: %v", c.File, err)
		}
	}
	if n < 12 {
		t.Errorf("%d files", n)
	}
	testvectors.JSON(t, "room.json", &cases)
	for _, c := range cases {
		if c.As != "edition" {
			continue
		}
		n++
		if _, err := check(c.File); err != nil {
			t.Errorf("%s: %v, though it has but %s", c.File, err, c.Check)
		}
	}
	if n < 13 {
		t.Error("no edition of a later writer is taken")
	}
}
