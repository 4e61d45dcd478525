package publisher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
)

// moreBatches has a folder's publisher.toml ask for twice as many, and opens it again.
func moreBatches(t *testing.T, p *Publisher) *Publisher {
	t.Helper()
	cfg := p.Config()
	cfg.Batches = 2 * len(p.keys.Batches)
	if err := errors.Join(p.Configure(cfg), p.Close()); err != nil {
		t.Fatal(err)
	}
	return reopen(t, p.dir)
}

// allInvited invites one batch after the other until all have names; seed is of the last.
func allInvited(t *testing.T, p *Publisher) (seed channel.Seed) {
	t.Helper()
	for i := range p.keys.Batches {
		seed = invited(t, p, string(rune('A'+i)))
	}
	return seed
}

// recovered takes over what the targets hold, and opens the folder again.
func recovered(t *testing.T, p *Publisher) (*Publisher, *Found) {
	t.Helper()
	found, err := p.Find(t.Context(), &netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Adopt(found), p.Close()); err != nil {
		t.Fatal(err)
	}
	return reopen(t, p.dir), found
}

// TestRecoverWithInvitedBatches: whoever was invited with a batch that was made in the
// restored folder, before it recovered, reads what is packed next.
func TestRecoverWithInvitedBatches(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	old := b.backup("backup")
	b.pack(1)
	p := moreBatches(t, reopen(t, old))
	late := allInvited(t, p)
	p, found := recovered(t, p)
	if found.Lost != 0 || found.Revoked != 0 {
		t.Errorf("%d batches are lost, %d revoked", found.Lost, found.Revoked)
	}
	packStory(t, p, 9)
	if g, _ := grantFor(t, p, late); len(g.Epochs) != len(p.keys.Epochs) {
		t.Errorf("%d epochs of %d", len(g.Epochs), len(p.keys.Epochs))
	}
	if seed := invited(t, p, string(rune('A'+2*leastBatches-1))); seed != late {
		t.Error("the batch has lost its name")
	}
}

// TestRecoverCountsBatches: where the folder that is lost had more batches than the
// backup, recovering says so, and editions go on with as many grants as they had.
func TestRecoverCountsBatches(t *testing.T) {
	b := newBacked(t)
	early := invited(t, b.p, "A")
	b.pack(0)
	old := b.backup("backup")
	b.p = moreBatches(t, b.p)
	allInvited(t, b.p)
	b.pack(1)
	for name, more := range map[string]bool{"as it was": false, "where more were made, too": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "restored")
			if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
			p := reopen(t, dir)
			if more {
				p = moreBatches(t, p)
			}
			p, found := recovered(t, p)
			if found.Lost != leastBatches || found.Revoked != 0 {
				t.Errorf("%d batches are lost, %d revoked", found.Lost, found.Revoked)
			}
			packStory(t, p, 9)
			files, err := p.grants()
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 2*leastBatches {
				t.Errorf("%d grants in the next edition", len(files))
			}
			if g, _ := grantFor(t, p, early); len(g.Epochs) != len(p.keys.Epochs) {
				t.Errorf("who was there before: %d epochs", len(g.Epochs))
			}
		})
	}
}

// TestInviteAfterRecovering: a batch that was revoked after the backup has no name here, and
// is nevertheless not given to anybody again.
func TestInviteAfterRecovering(t *testing.T) {
	b := newBacked(t)
	b.pack(0)
	old := b.backup("backup")
	students := invited(t, b.p, "students")
	if err := b.p.Revoke("students"); err != nil {
		t.Fatal(err)
	}
	b.pack(1)
	p, found := recovered(t, reopen(t, old))
	if found.Revoked != 1 {
		t.Fatalf("%d batches are revoked", found.Revoked)
	}
	fresh := invited(t, p, "fresh")
	if fresh == students {
		t.Error("the invite of a revoked batch")
	}
	packStory(t, p, 9)
	if g, _ := grantFor(t, p, fresh); len(g.Epochs) != len(p.keys.Epochs) {
		t.Errorf("%d epochs of %d", len(g.Epochs), len(p.keys.Epochs))
	}
}
