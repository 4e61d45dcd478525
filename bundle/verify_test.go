package bundle_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/testservers"
)

// docs/verify is a second reader, in another language, with the libraries of
// others, written from FORMAT.md: what it and this package don't agree on, the text
// does not say.
func TestSecondImplementation(t *testing.T) {
	dir := testservers.Node(t, filepath.Join("..", "docs", "verify"))
	vectors, err := filepath.Abs(filepath.Join("testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	node := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "node", append([]string{"verify.mjs"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := node("--vectors", vectors); err != nil || !strings.Contains(out, "valid files agree") {
		t.Errorf("%v\n%s", err, out)
	}
	// From an invite alone, as a reader with a file from a friend.
	invite := filepath.Join(vectors, "invite.txt")
	out, err := node(invite, filepath.Join(vectors, "edition-1.car"))
	if err != nil || !strings.Contains(out, "all checks passed") || !strings.Contains(out, "کتابخانه") {
		t.Errorf("%v\n%s", err, out)
	}
	// And evidence, with nothing else.
	if out, err := node("--proof", filepath.Join(vectors, "history-evidence-three.json")); err != nil || strings.Count(out, "one of them is not true") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := node("--proof", filepath.Join(vectors, "history-bad-evidence-the-true-past.json")); err == nil || !strings.Contains(out, "verify: the larger one does not continue the smaller") {
		t.Errorf("no evidence: %v\n%s", err, out)
	}
	if out, err := node(invite, filepath.Join(vectors, "invalid", "car-flipped.car")); err == nil || !strings.Contains(out, "verify: a block has the hash of its CID") {
		t.Errorf("a damaged file: %v\n%s", err, out)
	}
}

// docs/verify/write.mjs is a second writer, from FORMAT.md as well: what it makes is
// read here, strictly, as if we had made it.
func TestSecondWriter(t *testing.T) {
	dir, out := testservers.Node(t, filepath.Join("..", "docs", "verify")), t.TempDir()
	jpeg, err := picture("large", 320)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(out, "picture.jpg")
	if err := os.WriteFile(name, jpeg, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "write.mjs", out, name, "320", "320")
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	view, volumes, front := readChannel(t, out, "edition-0.car", "edition-1.car")
	want(t, "places", 1, len(view.Places().Relays))
	want(t, "gone", []string{"00112233445566a2"}, front.Gone)
	var got []string
	for i := range front.Articles {
		e := &front.Articles[i]
		a, err := volumes[e.Edition].Article(e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Title)
		for j := range e.Images {
			img, err := volumes[e.Edition].Image(e, j)
			if err != nil || !bytes.Equal(img.Data, jpeg) {
				t.Errorf("a picture of %s: %v", e.ID, err)
			}
		}
		if e.Title == "Bridge is painted green" && (e.Corrected.IsZero() || e.Edition != 1) {
			t.Error("an article was not corrected")
		}
	}
	want(t, "articles", []string{"Bridge is painted green", "Ferry line opens again"}, got)
}

// readChannel reads a channel's editions in a folder, from 0 on, by its invite.txt: what
// a reader does, strictly. front is the last one's.
func readChannel(t *testing.T, dir string, names ...string) (view *channel.View, volumes []*bundle.Volume, front *bundle.Front) {
	t.Helper()
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	inv, err := channel.ParseInvite(string(read("invite.txt")))
	if err != nil {
		t.Fatal(err)
	}
	view = channel.NewView(inv)
	blocks := map[cid.Cid][]byte{}
	for i, name := range names {
		in, own, order, err := readCAR(read(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := view.ExtendRoots(in.RootNotes[0]); err != nil {
			t.Fatal(err)
		}
		h, err := view.Check(in.Head)
		if err != nil {
			t.Fatal(err)
		}
		if got := view.Consider(h); got != channel.Newer {
			t.Errorf("edition %d is %v", i, got)
		}
		vol := volumeOf(inv.Channel, h, channel.EpochKey{}, own)
		var walked []cid.Cid
		if err := vol.Walk(func(w bundle.Want, _ []byte) error { walked = append(walked, w.CID); return nil }); err != nil || len(walked) != len(order) {
			t.Errorf("edition %d is not one of %d blocks, but of %d: %v", i, len(order), len(walked), err)
		}
		grant, ok, err := vol.File(bundle.LayerGrants, inv.Seed.GrantName(inv.Channel))
		if err != nil || !ok {
			t.Fatalf("grant: %v", err)
		}
		if err := view.SetGrant(grant); err != nil {
			t.Fatal(err)
		}
		for c, b := range own {
			blocks[c] = b
		}
		vol.Key, _ = view.EpochKey(h.Epoch)
		vol.Get = volumeOf(inv.Channel, h, vol.Key, blocks).Get
		volumes = append(volumes, vol)
		if front, err = vol.Front(); err != nil {
			t.Fatal(err)
		}
		vol.Dict = front.Dict
		hashes, err := vol.Hashes(0)
		if err != nil || len(hashes) != i {
			t.Errorf("the log of edition %d has %d leaves: %v", i, len(hashes), err)
		}
	}
	return view, volumes, front
}
