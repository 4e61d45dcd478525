package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
)

// onDisk is what the editions in a data folder take.
func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "editions"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isEdition(path) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// All channels together take no more than Total, however many there are: older
// editions go, and what would put out a newest one is refused before it comes.
func TestTotalBoundsAllChannels(t *testing.T) {
	presses := make([]*press, 4)
	for i := range presses {
		presses[i] = newPress(t, fmt.Sprint("channel ", i))
	}
	first := presses[0].edition(t, 100_000)
	limits := Limits{Total: 3*int64(len(first.car)) + 60_000}
	dir := t.TempDir()
	s, err := OpenStore(dir, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	within := func(when string) {
		t.Helper()
		if n := onDisk(t, dir); n > limits.Total {
			t.Errorf("%s: %d bytes on disk, %d allowed", when, n, limits.Total)
		}
	}
	second := presses[1].edition(t, 100_000)
	for _, sh := range []*sheet{first, presses[0].edition(t, 100_000), second, presses[2].edition(t, 100_000)} {
		if err := store(t, s, sh); err != nil {
			t.Fatal(err)
		}
		within("stored")
	}
	late := presses[3].edition(t, 100_000)
	u, err := s.open(t.Context(), late.head.Channel, bundle.RawCID(late.head.Text()), func() {})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.NewReader(late.car)
	if _, _, err := u.append(0, body.Size(), body); !errors.Is(err, errFull) || body.Len() != len(late.car) {
		t.Errorf("one channel more: %v, %d bytes taken", err, len(late.car)-body.Len())
	}
	u.unlock()
	within("refused")
	for _, p := range presses[:3] {
		if e, _ := s.newest(p.ch); e == nil {
			t.Error("a newest edition has gone")
		}
	}
	// What is being taken counts as what is here, and is given back.
	s.reserved[filepath.Join(dir, "incoming", presses[1].ch.String(), "x.part")] = 300_000
	if err := store(t, s, presses[2].edition(t, 130_000)); !errors.Is(err, errFull) {
		t.Errorf("beside a large one on its way: %v", err)
	}
	clear(s.reserved)
	if err := store(t, s, presses[2].edition(t, 130_000)); err != nil {
		t.Errorf("a larger one in place of an edition: %v", err)
	}
	within("replaced")

	// Where the limit was lowered nothing grows, but heads are signed on.
	limits.Total = 2 * int64(len(first.car))
	if s, err = OpenStore(dir, limits, nil); err != nil {
		t.Fatal(err)
	}
	p := presses[1]
	if err := store(t, s, p.sign(t, second.packed, channelEdge(p, 0), second.head.Time.Add(time.Hour))); err != nil {
		t.Errorf("a heartbeat: %v", err)
	}
	if err := store(t, s, p.edition(t, 110_000)); !errors.Is(err, errFull) {
		t.Errorf("a larger edition: %v", err)
	}
}

// Channels that are carried no more make room, with all that they have, and before
// older editions of others do. Until room is needed they stay: a line may have gone
// by mistake.
func TestChannelsCarriedNoMoreMakeRoom(t *testing.T) {
	p, q, late := newPress(t, "stays"), newPress(t, "goes"), newPress(t, "comes")
	first := p.edition(t, 100_000)
	r := start(t, Config{Limits: Limits{Total: 3*int64(len(first.car)) + 60_000}})
	for _, sh := range []*sheet{first, p.edition(t, 100_000), q.edition(t, 100_000)} {
		push(t, r, sh)
	}
	next := late.edition(t, 100_000)
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, carriedFile), []byte(p.ch.String()+"\n"+late.ch.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e, _ := r.store.newest(q.ch); e == nil {
		t.Error("it went before the room was needed")
	}
	push(t, r, next)
	for ch, want := range map[channel.ID]int{p.ch: 2, q.ch: 0, late.ch: 1} {
		if got := len(r.store.snapshot(ch)); got != want {
			t.Errorf("%d editions of a channel, want %d", got, want)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "editions", q.ch.String(), "*.car")); len(files) > 0 {
		t.Errorf("on disk: %v", files)
	}
	// It comes back as any other.
	push(t, r, q.edition(t, 0))
	err := pusher(t, &netreal.Network{}, target(t, r, newPress(t, "too many").ch)).Publish(t.Context(), newPress(t, "too many").edition(t, 200_000).source(), nil)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(http.StatusInsufficientStorage)) || !strings.Contains(err.Error(), "all the room") {
		t.Errorf("one more: %v", err)
	}
}
