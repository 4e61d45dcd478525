package reader

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

func TestNextSync(t *testing.T) {
	const half = 30 * time.Minute
	for name, c := range map[string]struct {
		s        scheduleState
		min, max time.Duration
	}{
		"usual":                  {scheduleState{every: half}, 22*time.Minute + 30*time.Second, 37*time.Minute + 30*time.Second},
		"first failure":          {scheduleState{every: half, failures: 1}, 45 * time.Second, 75 * time.Second},
		"second":                 {scheduleState{every: half, failures: 2}, 90 * time.Second, 150 * time.Second},
		"third":                  {scheduleState{every: half, failures: 3}, 225 * time.Second, 375 * time.Second},
		"fourth":                 {scheduleState{every: half, failures: 4}, 450 * time.Second, 750 * time.Second},
		"then as usual":          {scheduleState{every: half, failures: 5}, 22*time.Minute + 30*time.Second, 37*time.Minute + 30*time.Second},
		"saving":                 {scheduleState{every: half, saving: true}, 3 * time.Hour, 270 * time.Minute},
		"saving, a part missing": {scheduleState{every: half, saving: true, failures: 1}, 3 * time.Hour, 270 * time.Minute},
		"saving, nobody reached": {scheduleState{every: half, saving: true, failures: 1, lost: true}, 10 * time.Minute, 15 * time.Minute},
		"saving, nobody, twice":  {scheduleState{every: half, saving: true, failures: 4, lost: true}, 10 * time.Minute, 15 * time.Minute},
		"saving, nobody, often":  {scheduleState{every: half, saving: true, failures: 5, lost: true}, 3 * time.Hour, 270 * time.Minute},
		"saving, asks seldom":    {scheduleState{every: 10 * time.Hour, saving: true}, 10 * time.Hour, 15 * time.Hour},
		"impatient":              {scheduleState{every: time.Second}, 45 * time.Second, 75 * time.Second},
		"impatient, and failing": {scheduleState{every: 2 * time.Minute, failures: 4}, 90 * time.Second, 150 * time.Second},
	} {
		c.s.chance = 0
		if got := nextSync(c.s); got != c.min {
			t.Errorf("%s: %v at the earliest, want %v", name, got, c.min)
		}
		c.s.chance = 0.999999
		if got := nextSync(c.s); got > c.max || got < c.max-time.Second {
			t.Errorf("%s: %v at the latest, want %v", name, got, c.max)
		}
	}
}

// inMemory is a reader with a library in memory that follows a channel over the
// given paths.
func inMemory(t *testing.T, c *transporttest.Channel, change func(*Config), paths ...transport.Path) *Reader {
	t.Helper()
	lib, err := library.Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Library: lib, Network: transporttest.NewNetwork(nil), Extra: paths}
	if change != nil {
		change(&cfg)
	}
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, _, err := r.Add(t.Context(), c.Invite(channel.Places{}).String()); err != nil {
		t.Fatal(err)
	}
	return r
}

func published(t *testing.T) *transporttest.Channel {
	t.Helper()
	c := transporttest.NewChannel(t, "Kolokol")
	c.Publish(transporttest.Articles(0)...)
	return c
}

// starts are when the syncs of which events are kept began.
func (r *Reader) starts() (at []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.What == web.EventStart {
			at = append(at, e.At)
		}
	}
	return at
}

// keeping runs Keep for some time and returns the gaps between its syncs.
func keeping(t *testing.T, r *Reader, p Pace, d time.Duration) (gaps []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r.Keep(ctx, p)
	at := r.starts()
	for i := 1; i < len(at); i++ {
		gaps = append(gaps, at[i].Sub(at[i-1]))
	}
	return gaps
}

func TestKeep(t *testing.T) {
	c := published(t)
	t.Run("all is well", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := inMemory(t, c, nil, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			gaps := keeping(t, r, Pace{Every: 30 * time.Minute}, 10*time.Hour)
			if len(gaps) < 10 || len(gaps) > 30 {
				t.Errorf("%d syncs in ten hours", len(gaps))
			}
			alike := true
			for _, g := range gaps {
				if g < 20*time.Minute || g > 45*time.Minute {
					t.Errorf("%v between two syncs", g)
				}
				alike = alike && g == gaps[0]
			}
			if alike {
				t.Error("a steady beat")
			}
		})
	})
	t.Run("nobody answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := inMemory(t, c, nil, transport.Path{Name: "p", Kind: transport.KindTCP, Heads: dead{}})
			gaps := keeping(t, r, Pace{Every: 30 * time.Minute}, 100*time.Minute) // no longer: events are kept for a while only
			want := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, 30 * time.Minute}
			if len(gaps) < len(want) {
				t.Fatalf("gaps %v", gaps)
			}
			for i, w := range want {
				if g := gaps[i]; g < w*3/4 || g > w*5/4+2*time.Minute { // a sync itself takes some time
					t.Errorf("after failure %d: %v, want about %v", i+1, g, w)
				}
			}
		})
	})
	t.Run("on a battery", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := inMemory(t, c, nil, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			for _, g := range keeping(t, r, Pace{Every: 30 * time.Minute, Saving: func() bool { return true }}, 20*time.Hour) {
				if g < SavingEvery || g > SavingEvery*3/2+time.Minute {
					t.Errorf("%v between two syncs", g)
				}
			}
		})
	})
	t.Run("another network", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			where := func() string {
				switch d := time.Since(start); {
				case d < time.Minute:
					return "gw 192.0.2.1"
				case d < 5*time.Minute:
					return "gw 192.0.2.1 02:00:00:00:00:01" // the same, better known
				case d < 6*time.Minute:
					return "" // none: no reason to ask
				}
				return "gw 198.51.100.1"
			}
			r := inMemory(t, c, func(cfg *Config) { cfg.Where = where }, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			gaps := keeping(t, r, Pace{Every: 30 * time.Minute}, 20*time.Minute)
			if len(gaps) != 1 || gaps[0] < 6*time.Minute || gaps[0] > 6*time.Minute+lookAround {
				t.Errorf("gaps %v", gaps)
			}
		})
	})
	t.Run("a network at last", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			up := func() bool { return time.Since(start) > 25*time.Minute }
			where := func() string {
				if up() {
					return "gw 192.0.2.1"
				}
				return ""
			}
			r := inMemory(t, c, func(cfg *Config) { cfg.Where = where }, transport.Path{Name: "p", Kind: transport.KindTCP, Heads: dead{}})
			keeping(t, r, Pace{Every: 30 * time.Minute}, 27*time.Minute)
			at := r.starts()
			if last := at[len(at)-1].Sub(start); last < 25*time.Minute || last > 25*time.Minute+lookAround {
				t.Errorf("the last sync began after %v, the network came after 25m", last)
			}
		})
	})
	// A phone between two networks, on its battery.
	between := func(cfg *Config) {
		start := time.Now()
		cfg.Where = func() string {
			if time.Since(start)/time.Minute%2 == 0 {
				return "gw 192.0.2.1"
			}
			return "gw 198.51.100.1"
		}
	}
	t.Run("between two networks on a battery", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := transporttest.NewMemory(t, c.Editions()...).Path("p")
			p.Kind = transport.KindTCP
			gaps := keeping(t, inMemory(t, c, between, p), Pace{Every: 30 * time.Minute, Saving: func() bool { return true }}, 20*time.Hour)
			if len(gaps) < 4 {
				t.Errorf("gaps %v", gaps)
			}
			for _, g := range gaps {
				if g < SavingEvery || g > SavingEvery+3*time.Minute { // on another network it is high time then
					t.Errorf("%v between two syncs", g)
				}
			}
		})
	})
	t.Run("back on a network on a battery", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := inMemory(t, c, between, transport.Path{Name: "p", Kind: transport.KindTCP, Heads: dead{}})
			gaps := keeping(t, r, Pace{Every: 30 * time.Minute, Saving: func() bool { return true }}, 90*time.Minute)
			if len(gaps) < 5 {
				t.Errorf("gaps %v", gaps)
			}
			for _, g := range gaps {
				if g < savingRetry || g > savingRetry*3/2+3*time.Minute { // a sync itself takes some time
					t.Errorf("%v between two syncs", g)
				}
			}
		})
	})
	t.Run("unplugged in between", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			on := func() bool { d := time.Since(start); return d > 10*time.Minute && d < 200*time.Minute }
			r := inMemory(t, c, nil, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			gaps := keeping(t, r, Pace{Every: 30 * time.Minute, Saving: on}, 5*time.Hour)
			if len(gaps) < 2 || gaps[0] < SavingEvery || gaps[0] > 200*time.Minute+lookAround {
				t.Fatalf("gaps %v", gaps)
			}
			if g := gaps[1]; g < 20*time.Minute || g > 40*time.Minute && gaps[0] > 200*time.Minute {
				t.Errorf("plugged in again, and %v between two syncs", g)
			}
		})
	})
	t.Run("only when asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := inMemory(t, c, nil, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			if gaps := keeping(t, r, Pace{}, 10*time.Hour); len(gaps) != 0 || len(r.starts()) != 1 {
				t.Errorf("gaps %v", gaps)
			}
		})
	})
	t.Run("after a sleep", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var slept atomic.Int64 // what the timers have not seen
			start := time.Now()
			now := func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
			r := inMemory(t, c, func(cfg *Config) { cfg.Now = now }, transporttest.NewMemory(t, c.Editions()...).Path("p"))
			go func() {
				time.Sleep(5 * time.Minute)
				slept.Store(int64(8 * time.Hour))
			}()
			keeping(t, r, Pace{Every: 30 * time.Minute}, 10*time.Minute)
			if at := r.starts(); len(at) != 2 || at[1].Sub(start) > 8*time.Hour+6*time.Minute {
				t.Errorf("syncs at %v", at)
			}
		})
	})
}

// dead is a path that never answers.
type dead struct{}

func (dead) Head(context.Context, channel.ID, uint64) ([]byte, error) {
	return nil, context.DeadlineExceeded
}

func (dead) RootNote(context.Context, channel.ID, uint64) ([]byte, error) {
	return nil, context.DeadlineExceeded
}

func (dead) Grant(context.Context, channel.ID, string) ([]byte, error) {
	return nil, context.DeadlineExceeded
}

func TestOnBattery(t *testing.T) {
	supply := func(fsys fstest.MapFS, name string, attrs ...string) {
		for i := 0; i < len(attrs); i += 2 {
			fsys[name+"/"+attrs[i]] = &fstest.MapFile{Data: []byte(attrs[i+1] + "\n")}
		}
	}
	for name, c := range map[string]struct {
		make func(fstest.MapFS)
		want bool
	}{
		"a desktop": {func(fstest.MapFS) {}, false},
		"a laptop in use": {func(f fstest.MapFS) {
			supply(f, "AC", "type", "Mains", "online", "0")
			supply(f, "BAT0", "type", "Battery", "status", "Discharging")
		}, true},
		"a laptop at its plug": {func(f fstest.MapFS) {
			supply(f, "AC", "type", "Mains", "online", "1")
			supply(f, "BAT0", "type", "Battery", "status", "Discharging")
		}, false},
		"charging": {func(f fstest.MapFS) { supply(f, "BAT0", "type", "Battery", "status", "Charging") }, false},
		"a phone that charges": {func(f fstest.MapFS) {
			supply(f, "battery", "type", "Battery", "status", "Discharging")
			supply(f, "usb", "type", "USB", "online", "1")
		}, false},
		"a desktop's mouse": {func(f fstest.MapFS) {
			supply(f, "hidpp_battery_0", "type", "Battery", "status", "Discharging", "scope", "Device")
		}, false},
		"rubbish": {func(f fstest.MapFS) { supply(f, "x", "kind", "Battery"); supply(f, "y", "type", "") }, false},
	} {
		fsys := fstest.MapFS{}
		c.make(fsys)
		if got := onBattery(fsys); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// oneOf answers for one channel and is dead for the others.
type oneOf struct {
	transport.Heads
	ch channel.ID
}

func (o oneOf) Head(ctx context.Context, ch channel.ID, size uint64) ([]byte, error) {
	if ch != o.ch {
		return dead{}.Head(ctx, ch, size)
	}
	return o.Heads.Head(ctx, ch, size)
}

func (o oneOf) RootNote(ctx context.Context, ch channel.ID, v uint64) ([]byte, error) {
	if ch != o.ch {
		return dead{}.RootNote(ctx, ch, v)
	}
	return o.Heads.RootNote(ctx, ch, v)
}

// One channel's limit doesn't make a channel wait that reached nobody.
func TestKeepJudgesEachChannel(t *testing.T) {
	rich, lost := published(t), transporttest.NewChannel(t, "Zvon")
	synctest.Test(t, func(t *testing.T) {
		p := transporttest.NewMemory(t, rich.Editions()...).Path("p")
		p.Heads = oneOf{p.Heads, rich.ID()}
		r := inMemory(t, rich, func(cfg *Config) { cfg.Bytes = 8000 }, p)
		if _, _, err := r.Add(t.Context(), lost.Invite(channel.Places{}).String()); err != nil {
			t.Fatal(err)
		}
		limit, nobody := false, false
		_ = r.SyncAll(t.Context(), func(ch channel.ID, _ *newsync.Result, err error) {
			limit = limit || ch == rich.ID() && errors.Is(err, newsync.ErrBudget)
			nobody = nobody || ch == lost.ID() && errors.Is(err, newsync.ErrNoPath)
		})
		if !limit || !nobody {
			t.Fatalf("limit met: %v, nobody reached: %v", limit, nobody)
		}
		r.events = nil
		if n := len(keeping(t, r, Pace{Every: 10 * time.Hour}, 9*time.Hour)); n < 4 {
			t.Errorf("tried again %d times", n)
		}
	})
}
