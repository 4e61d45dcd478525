package publisher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/internal/testservers"
	"tamizdat/transport"
)

// TestOthersWitness: a witness that is not ours cosigns what we publish, and our
// readers count it.
func TestOthersWitness(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "p"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	origin := channel.Origin(p.Channel(), 0)
	vkey, err := note.NewEd25519VerifierKey(origin, p.roots.Last().Log.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.roots.LogVKey(); got != vkey {
		t.Errorf("the log's key is written %s, not %s", got, vkey)
	}
	url, key := testservers.Litewitness(t, vkey)
	d, err := p.SetWitnesses([]channel.Witness{{Name: testservers.LitewitnessName, Key: key}}, 1)
	if err == nil {
		err = errors.Join(p.UseRoot(d), p.AddWitness("theirs", url))
	}
	if err != nil {
		t.Fatal(err)
	}
	push := func() Pushed {
		t.Helper()
		to, err := p.Targets(&netreal.Network{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Push(t.Context(), to, nil)[0]
	}
	seen := func(want int) {
		t.Helper()
		w, _, err := p.Witnessed()
		if err != nil || w != (channel.Witnessed{Seen: want, Of: 1, Quorum: 1}) {
			t.Errorf("%+v, %v", w, err)
		}
	}
	packStory(t, p, 1)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "p"))); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, filepath.Join(dir, "p"))
	for i := range 5 {
		packStory(t, p, 2+i)
		if i == 2 {
			continue // one that it never sees
		}
		if r := push(); r.Err != nil {
			t.Fatal(r.Err)
		}
		seen(1)
	}
	// A copy of the folder that goes its own way is found out.
	p = reopen(t, filepath.Join(dir, "copy"))
	packStory(t, p, 100)
	if r := push(); !errors.As(r.Err, new(*claimError)) {
		t.Errorf("a shorter history: %v", r.Err)
	}
	for i := range 4 {
		packStory(t, p, 101+i)
	}
	if r := push(); !errors.Is(r.Err, transport.ErrRefused) {
		t.Errorf("another history: %v", r.Err)
	}
	seen(0)
	// And one that knows the log by another key refuses it.
	stranger, err := note.NewEd25519VerifierKey(origin, p.roots.Last().IPNS)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := testservers.Litewitness(t, stranger)
	c := openWitness(&netreal.Network{}, other)
	defer c.Close()
	h, err := p.headOf(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cosign(t.Context(), channel.Submission{Checkpoint: h.Checkpoint()}); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("signed by another key: %v", err)
	}
}
