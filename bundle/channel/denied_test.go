package channel

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDenied(t *testing.T) {
	p := newPublisher(t, "a")
	d := Denied{Channel: p.id, Pin: Pin{7}, Epoch: 3, Tags: [][8]byte{{1}, {1, 2}, {9}}}
	note, err := d.Sign(0, p.log)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Sign(0, p.log); err != nil || !bytes.Equal(again, note) {
		t.Errorf("signed again it is another note: %v", err)
	}
	got, err := p.roots(t).Denied(note)
	if err != nil {
		t.Fatal(err)
	}
	want := d
	want.Current = true
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Has([8]byte{1, 2}) || got.Has([8]byte{1, 3}) || got.Has([8]byte{}) || (*Denied)(nil).Has([8]byte{1}) {
		t.Error("tags not told apart")
	}
	for i := range note {
		bad := bytes.Clone(note)
		bad[i] ^= 1
		if _, err := p.roots(t).Denied(bad); !errors.Is(err, ErrDenied) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := p.roots(t).Denied(note[:i]); !errors.Is(err, ErrDenied) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := newPublisher(t, "b").roots(t).Denied(note); !errors.Is(err, ErrDenied) {
		t.Errorf("another channel's roots: %v", err)
	}
	if _, err := (&Roots{ch: p.id}).Denied(note); !errors.Is(err, ErrNewerRoots) {
		t.Errorf("no root note: %v", err)
	}
	if _, err := p.roots(t).Denied(make([]byte, MaxDenied+1)); !errors.Is(err, ErrDenied) {
		t.Errorf("too large: %v", err)
	}
}

// A list outlives the key that signed it; only whoever takes a new one minds.
func TestDeniedAfterRotation(t *testing.T) {
	p := newPublisher(t, "a")
	r := rotate(t, p)
	roots, err := p.roots(t).Extend(r.second)
	if err != nil {
		t.Fatal(err)
	}
	d := Denied{Channel: p.id, Pin: Pin{7}, Epoch: 1}
	for name, c := range map[string]struct {
		by      func() ([]byte, error)
		ok, now bool
	}{
		"the new key":                      {func() ([]byte, error) { return d.Sign(1, r.next) }, true, true},
		"the old key":                      {func() ([]byte, error) { return d.Sign(0, p.log) }, true, false},
		"the old key as the new one":       {func() ([]byte, error) { return d.Sign(1, p.log) }, false, false},
		"a generation that is not there":   {func() ([]byte, error) { return d.Sign(2, r.next) }, false, false},
		"a stranger":                       {func() ([]byte, error) { return d.Sign(1, key("a stranger")) }, false, false},
		"another statement of the channel": {func() ([]byte, error) { return p.publish(t, "0").Text(), nil }, false, false},
	} {
		note, err := c.by()
		if err != nil {
			t.Fatal(err)
		}
		got, err := roots.Denied(note)
		if (err == nil) != c.ok || got != nil && got.Current != c.now {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestDeniedBounds(t *testing.T) {
	p := newPublisher(t, "a")
	tags := make([][8]byte, maxDeniedTags+1)
	for i := range tags {
		tags[i] = [8]byte{byte(i >> 8), byte(i)}
	}
	whole := Denied{Channel: p.id, Pin: Pin{7}, Epoch: 1 << 62, Tags: tags[:maxDeniedTags]}
	if note, err := whole.Sign(1<<62, p.log); err != nil || len(note) > MaxDenied {
		t.Errorf("as many as may be: %d bytes, %v", len(note), err)
	}
	for name, d := range map[string]Denied{
		"too many":     {Channel: p.id, Pin: Pin{7}, Tags: tags},
		"out of order": {Channel: p.id, Pin: Pin{7}, Tags: [][8]byte{{2}, {1}}},
		"twice":        {Channel: p.id, Pin: Pin{7}, Tags: [][8]byte{{2}, {2}}},
		"for no relay": {Channel: p.id},
	} {
		if _, err := d.Sign(0, p.log); !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := string(whole.text())
	for name, bad := range map[string]string{
		"a line more":     text + "tag AAAAAAAAAAA=\n",
		"an epoch of 007": strings.Replace(text, "epoch ", "epoch 00", 1),
		"a long tag":      strings.Replace(text, "tag AAAAAAAAAAA=", "tag AAAAAAAAAAAA", 1),
		"a tag unlike":    strings.Replace(text, "tag AAAAAAAAAAA=", "tag AAAAAAAAAAB=", 1),
		"no tag's end":    strings.TrimSuffix(text, "\n"),
	} {
		if d, err := parseDenied([]byte(bad)); err == nil {
			t.Errorf("%s: taken, %d tags", name, len(d.Tags))
		}
	}
}

// FuzzDenied: whatever parses encodes to the same bytes.
func FuzzDenied(f *testing.F) {
	d := Denied{Channel: ID{1}, Pin: Pin{7}, Epoch: 3, Tags: [][8]byte{{1}, {1, 2}}}
	f.Add(d.text())
	f.Add((&Denied{Pin: Pin{7}}).text())
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDenied(text)
		if err != nil {
			return
		}
		if !bytes.Equal(d.text(), text) {
			t.Fatalf("encodes to other bytes:\n%q\n%q", text, d.text())
		}
		for _, tag := range d.Tags {
			if !d.Has(tag) {
				t.Fatalf("%x is not in it", tag)
			}
		}
	})
}
