package reader

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// writeCAR writes a channel's newest edition to a file.
func writeCAR(t *testing.T, c *transporttest.Channel) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "edition.car")
	if err := os.WriteFile(name, c.Newest().CAR(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDayLimit(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		limit := func(n int64) func(*Config) { return func(cfg *Config) { cfg.DayBytes = n } }
		r := inMemory(t, c, limit(150_000), transporttest.NewMemory(t, c.Editions()...).Path("p"))
		res, err := r.Sync(t.Context(), c.ID())
		if !errors.Is(err, newsync.ErrBudget) || errors.Is(err, ErrDayLimit) {
			t.Fatalf("the first sync ended with %v", err)
		}
		if res.Received > 150_000 {
			t.Errorf("%d bytes of 150,000", res.Received)
		}
		if today, err := r.spent(t.Context()); err != nil || today.Bytes != res.Received {
			t.Errorf("noted %d of %d bytes, %v", today.Bytes, res.Received, err)
		}
		if _, err := r.Sync(t.Context(), c.ID()); !errors.Is(err, ErrDayLimit) {
			t.Errorf("the second sync ended with %v", err)
		}
		// The next day is another one.
		time.Sleep(24 * time.Hour)
		if today, err := r.spent(t.Context()); err != nil || today.Bytes != 0 {
			t.Errorf("the next day begins with %d bytes, %v", today.Bytes, err)
		}
		r.cfg.DayBytes = 100 << 20
		if res, err = r.Sync(t.Context(), c.ID()); err != nil {
			t.Errorf("the next day: %v", err)
		}
		if today, err := r.spent(t.Context()); err != nil || today.Bytes != res.Received || today.Bytes == 0 {
			t.Errorf("noted %d of %d bytes, %v", today.Bytes, res.Received, err)
		}
	})
}

// Heads and root notes count as blocks do.
func TestDayCountsHeads(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		r := inMemory(t, c, func(cfg *Config) { cfg.DayBytes = 100 << 20 }, transporttest.NewMemory(t, c.Editions()...).Path("p"))
		res, err := r.Sync(t.Context(), c.ID())
		if err != nil {
			t.Fatal(err)
		}
		if today, err := r.spent(t.Context()); err != nil || today.Bytes != res.Received || today.Bytes <= res.Bytes+res.Twice {
			t.Errorf("noted %d of %d bytes, of which %d are blocks, %v", today.Bytes, res.Received, res.Bytes+res.Twice, err)
		}
	})
}

// A file costs nothing, and is taken in whatever the limits say.
func TestFilesAreFree(t *testing.T) {
	c := published(t)
	r := inMemory(t, c, func(cfg *Config) { cfg.DayBytes, cfg.Bytes = 1, 1 })
	if err := r.Import(t.Context(), writeCAR(t, c), nil); err != nil {
		t.Fatal(err)
	}
	if today, err := r.spent(t.Context()); err != nil || today.Bytes != 0 {
		t.Errorf("%d bytes are noted, %v", today.Bytes, err)
	}
	if _, err := r.Shelf().Article(t.Context(), c.ID(), c.Newest().Articles[0].ID); err != nil {
		t.Errorf("its text is not here: %v", err)
	}
}

func TestDayLimitUsedUp(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		r := inMemory(t, c, func(cfg *Config) { cfg.DayBytes = newsync.LeastBytes + 999 }, m.Path("p"))
		today := &meter{r: r, ctx: t.Context()}
		if err := today.settle(999); err != nil {
			t.Fatal(err)
		}
		if b, err := r.budget(t.Context()); err != nil || b.Bytes != newsync.LeastBytes {
			t.Errorf("just enough is left: %+v, %v", b, err)
		}
		if err := today.settle(1000); err != nil {
			t.Fatal(err)
		}
		res, err := r.Sync(t.Context(), c.ID())
		if !errors.Is(err, ErrDayLimit) || !errors.Is(err, newsync.ErrBudget) || res == nil {
			t.Errorf("too little is left: %v", err)
		}
		if m.Calls() != 0 {
			t.Errorf("%d questions were asked", m.Calls())
		}
		// Both limits hold: the smaller one.
		r.cfg.DayBytes, r.cfg.Bytes = 1<<20, 300
		if b, err := r.budget(t.Context()); err != nil || b.Bytes != 300 {
			t.Errorf("%+v, %v", b, err)
		}
	})
}

func TestNetworkName(t *testing.T) {
	c := published(t)
	where := "gw 192.0.2.1 02:00:00:00:00:01"
	set := func(cfg *Config) { cfg.Where = func() string { return where } }
	r, other := inMemory(t, c, set), inMemory(t, c, set)
	name := r.network(t.Context())
	if len(name) != 16 || strings.Contains(name, "192") || r.network(t.Context()) != name {
		t.Errorf("name %q", name)
	}
	if other.network(t.Context()) == name {
		t.Error("two libraries give a network the same name")
	}
	where = "gw 192.0.2.2"
	if r.network(t.Context()) == name {
		t.Error("two networks have the same name")
	}
	where = ""
	if got := r.network(t.Context()); got != "" {
		t.Errorf("an unknown network is called %q", got)
	}
	for _, m := range []struct {
		from, to   string
		lost, want bool
	}{
		{"gw 192.0.2.1", "gw 198.51.100.1", false, true},
		{"gw 192.0.2.1", "gw 192.0.2.1 02:00:00:00:00:01", false, false},
		{"gw 192.0.2.1", "gw 192.0.2.1 02:00:00:00:00:01", true, false},
		{"gw 192.0.2.1 02:00:00:00:00:01", "gw 192.0.2.1", false, false},
		{"gw 192.0.2.1 02:00:00:00:00:01", "gw 192.0.2.1 02:00:00:00:00:02", false, true},
		{"", "gw 192.0.2.1", false, false},
		{"", "gw 192.0.2.1", true, true},
		{"gw 192.0.2.1", "", true, false},
	} {
		if got := moved(m.from, m.to, m.lost); got != m.want {
			t.Errorf("from %q to %q, lost %v: %v", m.from, m.to, m.lost, got)
		}
	}
}

func whats(es []web.Event) (out []string) {
	for _, e := range es {
		out = append(out, e.What)
	}
	return out
}

func TestEvents(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		p := transporttest.NewMemory(t, c.Editions()...).Path("p")
		p.Kind = transport.KindTCP
		r := inMemory(t, c, nil, p)
		page := r.Engine(t.Context())
		if _, err := r.Sync(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		st := page.Status(t.Context())
		got := whats(st.Events)
		if len(got) < 2 || got[0] != web.EventStart || got[len(got)-1] != web.EventNew || st.Syncing || st.Work != (web.Work{}) {
			t.Errorf("events %q, %+v", got, st.Work)
		}
		for _, want := range []string{newsync.EventAsked, web.EventFirst, newsync.EventBrought} {
			if !slices.Contains(got, want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
		if _, err := r.Sync(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		if got := whats(page.Status(t.Context()).Events); got[len(got)-1] != web.EventSame {
			t.Errorf("nothing new: %q", got)
		}
		// What did not ask anybody doesn't say what is newest.
		looked := page.Status(t.Context()).LastSync
		time.Sleep(time.Minute)
		if err := r.Import(t.Context(), writeCAR(t, c), nil); err != nil {
			t.Fatal(err)
		}
		if st := page.Status(t.Context()); st.Events[len(st.Events)-1].What != web.EventFile || !st.LastSync.Equal(looked) {
			t.Errorf("a file with nothing new: %q, looked for news %v", whats(st.Events), st.LastSync)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if res, err := r.Sync(ctx, c.ID()); err == nil || res.Answered != 0 || !res.Unreached {
			t.Errorf("given up before anybody answered: %+v, %v", res, err)
		}
		if got := whats(page.Status(t.Context()).Events); got[len(got)-1] != web.EventNobody {
			t.Errorf("given up: %q", got)
		}
		for range 100 {
			r.heard(newsync.Progress{Stage: "text", Event: newsync.EventAsked, Path: "p"})
		}
		if n := len(page.Status(t.Context()).Events); n != web.MaxEvents {
			t.Errorf("%d events are kept", n)
		}
	})
}

// What the page says of the work: what, how much, from where, how fast, how long.
func TestWork(t *testing.T) {
	r := inMemory(t, published(t), nil)
	page := r.Engine(t.Context())
	for _, step := range []struct {
		p    newsync.Progress
		want web.Work
	}{
		{newsync.Progress{Stage: "head", Event: newsync.EventAsked, Path: "a"}, web.Work{Stage: "head"}},
		{newsync.Progress{Stage: "text", Event: newsync.EventBrought, Path: "a"}, web.Work{Stage: "text", From: "a"}},
		{newsync.Progress{Stage: "text", Bytes: 9000, Rate: 300, Left: time.Minute}, web.Work{Stage: "text", Bytes: 9000, From: "a", Rate: 300, Left: time.Minute}},
		{newsync.Progress{Stage: "text", Bytes: 9000, Rate: 300, Event: newsync.EventBrought, Path: "b"}, web.Work{Stage: "text", Bytes: 9000, From: "a", More: 1, Rate: 300, Left: time.Minute}},
		{newsync.Progress{Stage: "images", Bytes: 9100}, web.Work{Stage: "images", Bytes: 9100}},
	} {
		r.heard(step.p)
		if got := page.Status(t.Context()).Work; got != step.want {
			t.Errorf("after %+v: %+v, want %+v", step.p, got, step.want)
		}
	}
}

// The page's button shows at once that it was heard, and one sync runs at a time.
func TestAskedByThePage(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		m := transporttest.NewMemory(t, c.Editions()...)
		m.Delay = 10 * time.Millisecond // or the first sync may be over before the button is pressed again
		r := inMemory(t, c, nil, m.Path("p"))
		page := r.Engine(t.Context())
		page.Sync(t.Context())
		if !page.Status(t.Context()).Syncing {
			t.Error("the page doesn't show that it was heard")
		}
		page.Sync(t.Context())
		page.Sync(t.Context())
		synctest.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(r.starts()); n != 1 {
			t.Errorf("%d syncs", n)
		}
		if page.Status(t.Context()).Syncing {
			t.Error("it never ends")
		}
	})
}

func TestFreshness(t *testing.T) {
	c := published(t)
	synctest.Test(t, func(t *testing.T) {
		var now time.Time
		a, b := transporttest.NewMemory(t, c.Editions()...), transporttest.NewMemory(t, c.Editions()...)
		one, two := a.Path("dns a.example via x"), b.Path("dns b.example via x")
		one.Kind, two.Kind = transport.KindDNS, transport.KindDNS
		r := inMemory(t, c, func(cfg *Config) { cfg.Now = func() time.Time { return now } }, one, two)
		now = c.Newest().Head.Time.Add(time.Hour)
		judge := func(want newsync.Verdict) newsync.Freshness {
			t.Helper()
			f, err := r.Freshness(t.Context(), c.ID())
			if err != nil || f.Verdict != want {
				t.Errorf("%q instead of %q: %+v, %v", f.Verdict, want, f, err)
			}
			return f
		}
		judge(newsync.VerdictNothing)
		for range 3 { // both answer in time sooner or later
			if _, err := r.Sync(t.Context(), c.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if f := judge(newsync.VerdictCurrent); f.Sources != 2 || !f.Checked.Equal(now) {
			t.Errorf("%+v", f)
		}
		now = now.Add(7 * time.Hour)
		judge(newsync.VerdictUnchecked)
		checked := now
		if _, err := r.Sync(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		// Nobody answers any more: what was known before is not forgotten.
		now = now.Add(time.Hour)
		r.cfg.Extra = nil
		ways := fixed{{Name: one.Name, Kind: one.Kind, Heads: dead{}}, {Name: two.Name, Kind: two.Kind, Heads: dead{}}}
		res, err := r.engine(t.Context(), ways, newsync.Budget{}, r.heard).Sync(t.Context(), c.ID())
		if !errors.Is(err, newsync.ErrNoPath) || !res.Unreached {
			t.Fatalf("%+v, %v", res, err)
		}
		if f := judge(newsync.VerdictUnreached); !f.Checked.Equal(checked) {
			t.Errorf("nobody was reached since %v, not since %v", checked, f.Checked)
		}
		// An old file is no answer; it takes nothing away from what is known.
		now = now.Add(time.Minute)
		if err := r.Import(t.Context(), writeCAR(t, c), nil); err != nil {
			t.Fatal(err)
		}
		reports, err := newsync.Reports(t.Context(), r.lib, c.ID())
		if err != nil || len(reports) != 3 {
			t.Errorf("reports %+v, %v", reports, err)
		}
		if f := judge(newsync.VerdictUnreached); !f.Checked.Equal(checked) || f.Sources != 2 || !f.File.Equal(now) {
			t.Errorf("after an import: %+v", f)
		}
	})
}

type fixed []transport.Path

func (f fixed) Paths(channel.ID, ed25519.PublicKey, channel.Places) []transport.Path { return f }

func TestProof(t *testing.T) {
	ours := published(t)
	theirs := ours.Fork()
	ours.Publish(transporttest.Brief(1))
	theirs.Publish(transporttest.Brief(2))
	r := inMemory(t, ours, nil)
	dir := t.TempDir()
	name := filepath.Join(dir, "proof.json")
	if err := r.Import(t.Context(), writeCAR(t, ours), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Proof(t.Context(), ours.ID(), name); !errors.Is(err, ErrNoProof) {
		t.Errorf("one history: %v", err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file without proof: %v", err)
	}
	// The second history is refused; that it was shown is kept.
	_ = r.Import(t.Context(), writeCAR(t, theirs), nil)
	n, unproven, err := r.Proof(t.Context(), ours.ID(), name)
	if err != nil || n != 1 || unproven != 0 {
		t.Fatalf("%d, %d unproven, %v", n, unproven, err)
	}
	if ch, found, err := CheckProof(name); err != nil || ch != ours.ID() || len(found) != 1 || found[0].One.Tree == found[0].Other.Tree {
		t.Errorf("checked: %v, %v", found, err)
	}
	// Whoever gets the file checks it with the format's own means.
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var p proof
	if err := json.Unmarshal(b, &p); err != nil || p.V != 1 || p.Channel != ours.ID() || len(p.Forks) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	var notes [][]byte
	for _, s := range p.RootNotes {
		notes = append(notes, []byte(s))
	}
	roots, err := channel.ParseRoots(p.Channel, notes)
	if err != nil {
		t.Fatal(err)
	}
	x, err := roots.Head([]byte(p.Forks[0].Ours))
	if err != nil {
		t.Fatal(err)
	}
	y, err := roots.Head([]byte(p.Forks[0].Theirs))
	if err != nil {
		t.Fatal(err)
	}
	if x.Size != y.Size || x.Tree == y.Tree {
		t.Error("the two heads don't contradict each other")
	}
	if invite := ours.Invite(channel.Places{}); bytes.Contains(b, invite.Seed[:]) || len(b) > 16<<10 {
		t.Errorf("a proof of %d bytes", len(b))
	}
}
