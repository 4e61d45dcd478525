package relay

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tamizdat/bundle"
)

// leave begins an upload of the edition and goes away before its last bytes. It
// returns the part's file.
func leave(t *testing.T, s *Store, sh *sheet) string {
	t.Helper()
	u, err := s.open(t.Context(), sh.head.Channel, bundle.RawCID(sh.head.Text()), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer u.unlock()
	if _, complete, err := u.append(0, int64(len(sh.car)), bytes.NewReader(sh.car[:len(sh.car)-10])); complete || err != nil {
		t.Fatal(complete, err)
	}
	return u.path
}

// aged makes a part one that has not grown for so long.
func aged(t *testing.T, part string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(part, at, at); err != nil {
		t.Fatal(err)
	}
}

func lies(t *testing.T, part string) bool {
	t.Helper()
	_, err := os.Stat(part)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// What was left behind keeps nobody out: the oldest goes, and no more than is needed.
func TestAbandonedUploadsMakeRoom(t *testing.T) {
	s, err := OpenStore(t.TempDir(), Limits{Edition: 400_000, Incoming: 1_000_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for i := range 3 {
		p := newPress(t, fmt.Sprint("gone ", i))
		parts = append(parts, leave(t, s, p.edition(t, 250_000)))
		aged(t, parts[i], []time.Duration{2 * time.Hour, 3 * time.Hour, partIdle / 2}[i])
	}
	next := newPress(t, "next").edition(t, 250_000)
	if err := store(t, s, next); err != nil {
		t.Errorf("beside what was left behind: %v", err)
	}
	if !lies(t, parts[0]) || lies(t, parts[1]) || !lies(t, parts[2]) {
		t.Errorf("they lie there: %t %t %t; the second is the oldest", lies(t, parts[0]), lies(t, parts[1]), lies(t, parts[2]))
	}
	// Who was here a moment ago will be back, and for others who ask nothing goes that
	// would be too little.
	aged(t, parts[0], partIdle/2)
	leave(t, s, newPress(t, "fourth").edition(t, 250_000))
	u, err := s.open(t.Context(), next.head.Channel, bundle.RawCID(noise(1, 9)), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer u.unlock()
	if _, _, err := u.append(0, 300_000, bytes.NewReader(nil)); !errors.Is(err, errCrowded) {
		t.Errorf("beside three that come in pieces: %v", err)
	}
	if !lies(t, parts[0]) || !lies(t, parts[2]) {
		t.Error("one that comes in pieces has gone")
	}
}

// A channel keeps one unfinished upload for as long as it comes back to it, and its
// own next one has the room of the one before.
func TestChannelHoldsOneUpload(t *testing.T) {
	p, other := newPress(t, "two parts"), newPress(t, "other")
	s, err := OpenStore(t.TempDir(), Limits{Edition: 400_000, Incoming: 800_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := leave(t, s, p.edition(t, 250_000))
	second := leave(t, s, p.edition(t, 250_000))
	aged(t, first, time.Second) // both are young
	if err := store(t, s, other.edition(t, 250_000)); err != nil {
		t.Error(err)
	}
	if lies(t, first) || !lies(t, second) {
		t.Errorf("they lie there: %t %t", lies(t, first), lies(t, second))
	}
	third := leave(t, s, p.edition(t, 250_000))
	if err := store(t, s, p.edition(t, 350_000)); err != nil {
		t.Errorf("a channel is kept out by its own: %v", err)
	}
	if lies(t, second) && lies(t, third) {
		t.Error("both are still there")
	}
}

// Who comes back to an upload that has gone hears where it stands now.
func TestAbandonedUploadBeginsAnew(t *testing.T) {
	p, other := newPress(t, "back"), newPress(t, "meanwhile")
	sh := p.edition(t, 250_000)
	s, err := OpenStore(t.TempDir(), Limits{Edition: 400_000, Incoming: 500_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	part := leave(t, s, sh)
	aged(t, part, partIdle)
	if err := store(t, s, other.edition(t, 250_000)); err != nil {
		t.Fatal(err)
	}
	u, err := s.open(t.Context(), p.ch, bundle.RawCID(sh.head.Text()), func() {})
	if err != nil {
		t.Fatal(err)
	}
	held, _, err := u.append(int64(len(sh.car)-10), int64(len(sh.car)), bytes.NewReader(sh.car[len(sh.car)-10:]))
	u.unlock()
	if held != 0 || !errors.Is(err, errOffset) || lies(t, part) {
		t.Errorf("at %d, %v", held, err)
	}
	if err := store(t, s, sh); err != nil {
		t.Error(err)
	}
	whole(t, s, sh)
}

// At its start a relay removes what nobody will go on with, and nothing else.
func TestStartRemovesOldUploads(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, q := newPress(t, "sweep"), newPress(t, "sweep of another")
	ends := map[string]bool{} // by file, whether it stays
	edge := p.tree.Edge()
	now := p.edition(t, 20_000)
	before := p.sign(t, now.packed, edge, now.head.Time.Add(-time.Minute))
	later := p.edition(t, 20_000)
	ends[leave(t, s, before)] = false // that edition, signed again meanwhile
	if err := store(t, s, now); err != nil {
		t.Fatal(err)
	}
	same := filepath.Join(dir, "incoming", p.ch.String(), bundle.RawCID(now.head.Text()).String()+".0011.pull")
	if err := os.WriteFile(same, now.car[:15_000], 0o600); err != nil {
		t.Fatal(err)
	}
	ends[same] = false
	ends[leave(t, s, later)] = true
	fresh, old := leave(t, s, q.edition(t, 1000)), leave(t, s, q.edition(t, 1000))
	aged(t, fresh, partAge/2)
	aged(t, old, partAge+time.Hour)
	ends[fresh], ends[old] = true, false
	if _, err = OpenStore(dir, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	for part, want := range ends {
		if lies(t, part) != want {
			t.Errorf("%s lies there: %t, want %t", filepath.Base(part), !want, want)
		}
	}
}
