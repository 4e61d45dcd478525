package publisher

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// grantFor opens a batch's grant as it lies in the channel's folder.
func grantFor(t *testing.T, p *Publisher, seed channel.Seed) (*channel.Grant, int) {
	t.Helper()
	files, err := p.grants()
	if err != nil {
		t.Fatal(err)
	}
	raw := files[seed.GrantName(p.Channel())]
	g, err := p.roots.OpenGrant(raw, seed)
	if err != nil {
		t.Fatal(err)
	}
	return g, len(raw)
}

func invited(t *testing.T, p *Publisher, name string) channel.Seed {
	t.Helper()
	inv, err := p.Invite(name)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Seed
}

// A revoked batch keeps what it could open, and gets no new key and no way in;
// the others get everything; and from outside all grants look alike.
func TestRevoke(t *testing.T) {
	p, err := withTargets(t, 30) // so many relays take a large grant
	if err != nil {
		t.Fatal(err)
	}
	a, b := invited(t, p, "a"), invited(t, p, "b")
	packStory(t, p, 1)
	before, size := grantFor(t, p, a)
	if len(before.Epochs) != 1 || len(before.Places.Relays) != 30 || size != channel.GrantLarge {
		t.Fatalf("%d epochs, %d relays, %d bytes", len(before.Epochs), len(before.Places.Relays), size)
	}
	if list, err := p.Denied(channel.Pin{1}); list != nil || err != nil {
		t.Errorf("nobody was revoked: %q, %v", list, err)
	}
	if err := p.Revoke("a"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "already", "c": "no batch", "": "no batch"} {
		if err := p.Revoke(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("revoke %q: %v", name, err)
		}
	}
	if _, err := p.Invite("a"); err == nil {
		t.Error("an invite of a revoked batch")
	}
	// It holds for a process that begins now.
	dir := p.dir
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, dir)
	packStory(t, p, 2)
	if got := p.editions[1].leaf.Epoch; got != 1 {
		t.Errorf("the next edition is of epoch %d", got)
	}
	if got, _ := grantFor(t, p, a); len(got.Epochs) != 1 || got.Epochs[0] != before.Epochs[0] || len(got.Places.Relays) != 0 || got.Serial <= before.Serial {
		t.Errorf("the revoked batch: %d epochs, %d relays, serial %d after %d", len(got.Epochs), len(got.Places.Relays), got.Serial, before.Serial)
	}
	if got, _ := grantFor(t, p, b); len(got.Epochs) != 2 || len(got.Places.Relays) != 30 {
		t.Errorf("another one: %d epochs, %d relays", len(got.Epochs), len(got.Places.Relays))
	}
	files, err := p.grants()
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.grants()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if len(f) != channel.GrantLarge {
			t.Errorf("a grant of %d bytes", len(f))
		}
		if !bytes.Equal(f, again[name]) {
			t.Error("a grant that says the same is another file")
		}
	}
	// Two more, and what each relay is told.
	if err := p.Revoke("b"); err != nil {
		t.Fatal(err)
	}
	if got, _ := grantFor(t, p, b); len(got.Epochs) != 2 {
		t.Errorf("%d epochs", len(got.Epochs))
	}
	for _, pin := range []channel.Pin{{1}, {2}} {
		raw, err := p.Denied(pin)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := p.Denied(pin); err != nil || !bytes.Equal(raw, same) {
			t.Errorf("the same list twice differs: %v", err)
		}
		d, err := p.roots.Denied(raw)
		if err != nil || !d.Current || d.Pin != pin || d.Epoch != 2 || len(d.Tags) != 2 || !d.Has(a.TagFor(pin)) || !d.Has(b.TagFor(pin)) {
			t.Errorf("%+v, %v", d, err)
		}
		if d.Has(a.TagFor(channel.Pin{3})) {
			t.Error("a tag of another relay")
		}
	}
	if got := p.Batches(); len(got) != 2 || !got[0].Revoked || !got[1].Revoked || got[0].Name != "a" {
		t.Errorf("batches: %+v", got)
	}
}

// Grants hold the newest keys where there are more than fit.
func TestManyEpochs(t *testing.T) {
	p, err := withTargets(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	a, b := invited(t, p, "a"), invited(t, p, "b")
	for range 70 { // as if other batches had been revoked: there are not so many
		p.keys.Epochs = append(p.keys.Epochs, channel.EpochKey(random()))
	}
	if err := p.Revoke("b"); err != nil {
		t.Fatal(err)
	}
	for seed, last := range map[channel.Seed]uint64{a: 71, b: 70} {
		g, _ := grantFor(t, p, seed)
		if n := len(g.Epochs); n != maxEpochs || g.Epochs[n-1].Number != last || g.Epochs[n-1].Key != p.keys.Epochs[last] {
			t.Errorf("%d epochs, the last is %d", n, g.Epochs[n-1].Number)
		}
	}
	packStory(t, p, 1)
}

// deaf is a relay that takes editions into a folder and may refuse lists.
type deaf struct {
	file.Folder
	pin   channel.Pin
	fail  error
	tries int
	lists [][]byte
}

func (d *deaf) Pin() channel.Pin { return d.pin }

func (d *deaf) PublishDenied(_ context.Context, _ channel.ID, list []byte) error {
	if d.tries++; d.fail != nil {
		return d.fail
	}
	d.lists = append(d.lists, list)
	return nil
}

// Each push brings a relay its list, and says where it did not.
func TestPushDenies(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	invited(t, p, "a")
	packStory(t, p, 1)
	good := &deaf{Folder: file.Folder{Dir: filepath.Join(t.TempDir(), "a")}, pin: channel.Pin{1}}
	bad := &deaf{Folder: file.Folder{Dir: filepath.Join(t.TempDir(), "b")}, pin: channel.Pin{2}, fail: transport.ErrRefused}
	push := func() []Pushed {
		return p.Push(t.Context(), []Target{{Name: "good", Publisher: good}, {Name: "bad", Publisher: bad}}, nil)
	}
	for i, r := range push() {
		if r.Err != nil || r.Newest != 0 {
			t.Errorf("%d, before: %+v", i, r)
		}
	}
	if good.tries+bad.tries != 0 {
		t.Error("lists of nobody")
	}
	if err := p.Revoke("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pack([]bundle.Article{story(2)}, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	got := push()
	if got[0].Err != nil || got[0].Editions != 1 || len(good.lists) != 1 {
		t.Errorf("%+v, %d lists", got[0], len(good.lists))
	}
	if !errors.Is(got[1].Err, transport.ErrRefused) || !strings.Contains(got[1].Err.Error(), "revoked batches are let in there") || got[1].Editions != 1 || !Final(got[1].Err) || bad.tries != 1 {
		t.Errorf("%+v, %d tries", got[1], bad.tries)
	}
	bad.fail = nil
	if got := push(); got[1].Err != nil || len(bad.lists) != 1 || len(good.lists) != 2 || !bytes.Equal(good.lists[0], good.lists[1]) || bytes.Equal(good.lists[0], bad.lists[0]) {
		t.Errorf("%+v; %d and %d lists", got[1], len(good.lists), len(bad.lists))
	}
}
