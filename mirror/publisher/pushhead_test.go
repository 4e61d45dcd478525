package publisher

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// taker is a folder that takes heads alone, or says what it is told to say.
type taker struct {
	file.Folder
	says  error
	heads []uint64
	whole int
}

func (k *taker) PublishHead(ctx context.Context, s transport.Source) (int64, error) {
	k.heads = append(k.heads, s.Edition)
	if k.says != nil {
		return 0, k.says
	}
	return 100, k.Folder.Publish(ctx, s, nil)
}

func (k *taker) Publish(ctx context.Context, s transport.Source, progress func(held, total int64)) error {
	k.whole++
	return k.Folder.Publish(ctx, s, progress)
}

// TestPushHead: who holds the edition gets the head alone, once; who can't take it so, all
// of it; and who refuses it, nothing.
func TestPushHead(t *testing.T) {
	p, err := Init(t.TempDir(), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	packStory(t, p, 1)
	packStory(t, p, 2)
	k := &taker{Folder: file.Folder{Dir: filepath.Join(t.TempDir(), "k")}}
	to := []Target{{Name: "k", Publisher: k}}
	now := time.Unix(1_700_200_000, 0)
	for _, c := range []struct {
		name         string
		beat         bool
		says         error
		heads, whole int
		bytes        bool // more than a head's
		refused      bool
	}{
		{"both editions", false, nil, 0, 2, true, false},
		{"nothing new", false, nil, 0, 0, false, false},
		{"a heartbeat", true, nil, 1, 0, false, false},
		{"nothing new again", false, nil, 0, 0, false, false},
		{"it has lost the edition", true, transport.ErrNotFound, 1, 1, true, false},
		{"it refuses", true, transport.ErrRefused, 1, 0, false, true},
	} {
		k.says, k.heads, k.whole = c.says, nil, 0
		if now = now.Add(time.Hour); c.beat {
			if err := p.Heartbeat(t.Context(), to, now); err != nil {
				t.Fatal(err)
			}
		}
		r := p.Push(t.Context(), to, nil)[0]
		if errors.Is(r.Err, transport.ErrRefused) != c.refused || r.Err != nil && !c.refused {
			t.Errorf("%s: %v", c.name, r.Err)
		}
		if len(k.heads) != c.heads || slices.ContainsFunc(k.heads, func(n uint64) bool { return n != 1 }) || k.whole != c.whole || (r.Bytes > 100) != c.bytes {
			t.Errorf("%s: heads of %v, %d editions, %d bytes", c.name, k.heads, k.whole, r.Bytes)
		}
		if sent := c.whole; c.says == nil && r.Editions != sent+c.heads {
			t.Errorf("%s: %d editions are said to have been sent", c.name, r.Editions)
		}
	}
}

// TestHeartbeatToMirror: one file of a static mirror is another one.
func TestHeartbeatToMirror(t *testing.T) {
	dir := t.TempDir()
	p, err := Init(filepath.Join(dir, "pub"), "Radio", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.AddMirror(TargetConfig{Name: "www", Mirror: filepath.Join(dir, "www")}); err != nil {
		t.Fatal(err)
	}
	packStory(t, p, 1)
	whole := pushHosted(t, p)
	before := files(t, filepath.Join(dir, "www"))
	if err := p.Heartbeat(t.Context(), nil, time.Unix(1_700_200_000, 0)); err != nil {
		t.Fatal(err)
	}
	r := pushHosted(t, p)
	if whole.Err != nil || r.Err != nil || r.Editions != 1 || r.Bytes <= 0 || r.Bytes >= whole.Bytes/2 {
		t.Errorf("%+v after %+v", r, whole)
	}
	if got := changed(before, files(t, filepath.Join(dir, "www"))); !slices.Equal(got, []string{"head/" + p.Channel().String()}) {
		t.Errorf("changed: %v", got)
	}
}

// TestHeartbeatToZone: one update goes to a name server, and the zone is what a zone file
// would be.
func TestHeartbeatToZone(t *testing.T) {
	p, srv := withHosted(t, false)
	packDay(t, p, 0, 0)
	if r := pushHosted(t, p); r.Err != nil {
		t.Fatal(r.Err)
	}
	before := len(srv.Updates())
	now := time.Unix(1_700_200_000, 0)
	if err := p.Heartbeat(t.Context(), nil, now); err != nil {
		t.Fatal(err)
	}
	if r := pushHosted(t, p); r.Err != nil || r.Editions != 1 || r.Bytes <= 0 || r.Bytes > 1040 || len(srv.Updates()) != before+1 {
		t.Errorf("%+v, %d updates", r, len(srv.Updates())-before)
	}
	if got, want := srv.Names(), owners(t, p, false); !slices.Equal(got, want) {
		t.Errorf("%d names instead of %d", len(got), len(want))
	}
	to, err := p.Targets(&netreal.Network{})
	if err != nil {
		t.Fatal(err)
	}
	defer to[0].Publisher.(io.Closer).Close()
	raw, err := to[0].Current(t.Context(), p.Channel())
	if err != nil {
		t.Fatal(err)
	}
	if h, err := p.roots.Head(raw); err != nil || !h.Time.Equal(now) {
		t.Errorf("a head of %v is there: %v", h.Time, err)
	}
}
