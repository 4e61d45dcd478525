package relay

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
)

// carries is a list of so many channels as a relay has it.
func carries(t testing.TB, channels int) *carried {
	t.Helper()
	dir := t.TempDir()
	k, err := loadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for i := range channels {
		text.WriteString(channel.ID{byte(i), byte(i >> 8)}.String() + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, carriedFile), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newCarried(dir, k)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Telling whose a prefix is costs the same whatever it is and however many
// channels there are: one key is tried, and as much memory taken.
func TestMatchCostsTheSame(t *testing.T) {
	var each []float64
	for _, channels := range []int{1, 20, maxCarried} {
		c := carries(t, channels)
		for c.current().most != 1 { // by chance two of them have one hint: see TestMatchOfOneHint
			c = carries(t, channels)
		}
		tried := 0
		c.check = func(l channel.Lock, p channel.Prefix) bool { tried++; return l.Check(p) }
		all := c.channels()
		first, middle, last := all[0], all[channels/2], all[channels-1]
		foreign := first.mint.Mint([8]byte{1})
		foreign[23] ^= 1
		for segment, want := range map[string]access{
			first.mint.Mint([8]byte{1}).Path(): accessRead, middle.mint.Mint([8]byte{1}).Path(): accessRead, last.mint.Mint([8]byte{9}).Path(): accessRead,
			first.intake.Mint([8]byte{}).Path(): accessIntake, last.intake.Mint([8]byte{}).Path(): accessIntake, last.pull.Mint([8]byte{2}).Path(): accessPull,
			foreign.Path(): accessNone, channel.MintKey{}.Mint([8]byte{}).Path(): accessNone, strings.Repeat("A", 32): accessNone,
			"": accessNone, "index.html": accessNone, strings.Repeat("a", 31): accessNone, strings.Repeat("a", 33): accessNone, strings.Repeat("=", 32): accessNone,
		} {
			tried = 0
			kind, _, _ := c.match(segment)
			if kind != want || tried != 1 {
				t.Errorf("%d channels, %q: kind %d, want %d; %d keys tried", channels, segment, kind, want, tried)
			}
			each = append(each, testing.AllocsPerRun(20, func() { c.match(segment) }))
		}
	}
	if least, most := slices.Min(each), slices.Max(each); least != most && !raceDetector {
		t.Errorf("from %v to %v allocations", least, most)
	}
}

// Where two keys have one hint, both of them open what they should, and as many
// are tried on everything.
func TestMatchOfOneHint(t *testing.T) {
	c := carries(t, 3)
	a, b := c.channels()[0], c.channels()[2]
	other := b.intake.Mint([8]byte{4})
	hint := a.mint.Hint()
	copy(other[8:12], hint[:])
	c.list.locks[hint] = append(c.list.locks[hint], lock{b.intake.Lock(), accessIntake, 2})
	c.list.most = 2
	tried := 0
	c.check = func(l channel.Lock, p channel.Prefix) bool {
		tried++
		if l == b.intake.Lock() { // as if its hint were that one
			h := b.intake.Hint()
			copy(p[8:12], h[:])
		}
		return l.Check(p)
	}
	for segment, want := range map[string]struct {
		kind access
		id   channel.ID
	}{
		a.mint.Mint([8]byte{4}).Path(): {accessRead, a.id}, other.Path(): {accessIntake, b.id},
		b.mint.Mint([8]byte{4}).Path(): {accessRead, b.id}, "index.html": {},
	} {
		tried = 0
		if kind, id, _ := c.match(segment); kind != want.kind || id != want.id || tried != 2 {
			t.Errorf("%q: kind %d of %v, want %d of %v; %d keys tried", segment, kind, id, want.kind, want.id, tried)
		}
	}
}

// A mistake in the file changes nothing, is said once, and costs no request anything:
// the file is read again when it has changed.
func TestMistakeInTheListOfChannels(t *testing.T) {
	c := carries(t, 2)
	var log bytes.Buffer
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	one := channel.ID{7}.String() + "\n"
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(c.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(c.path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("!"+one[1:], at)
	for range 3 {
		if n := len(c.channels()); n != 2 {
			t.Fatalf("%d channels", n)
		}
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "line 1") {
		t.Errorf("log: %q", said)
	}
	write(one, at) // which nobody can see without reading it
	if n := len(c.channels()); n != 2 {
		t.Error("it was read again")
	}
	write(one, at.Add(time.Second))
	if all := c.channels(); len(all) != 1 || all[0].id != (channel.ID{7}) {
		t.Errorf("when it was mended: %d channels", len(all))
	}
	write("!"+one[1:], at.Add(2*time.Second))
	if c.channels(); strings.Count(log.String(), "\n") != 2 {
		t.Errorf("another mistake: %q", log.String())
	}
	// One that can't be read may be readable without having changed.
	write(one, at.Add(3*time.Second))
	if err := os.Rename(c.path, c.path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.path, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := len(c.channels()); n != 1 {
			t.Fatalf("%d channels of a list that can't be read", n)
		}
	}
	if strings.Count(log.String(), "\n") != 3 {
		t.Errorf("not readable: %q", log.String())
	}
}

// BenchmarkMatch is what telling whose a request is adds to each of them.
func BenchmarkMatch(b *testing.B) {
	for _, channels := range []int{1, 32, 1024} {
		c := carries(b, channels)
		last := c.channels()[channels-1]
		for _, of := range []struct{ name, segment string }{
			{"a reader", last.mint.Mint([8]byte{1}).Path()},
			{"a wrong prefix", channel.MintKey{}.Mint([8]byte{1}).Path()},
			{"a page", "index.html"},
		} {
			b.Run(fmt.Sprintf("channels=%d/%s", channels, of.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.match(of.segment)
				}
			})
		}
	}
}
