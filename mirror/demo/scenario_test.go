package demo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/internal/censor"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// choose plays a scenario by the page's menu.
func (v *visitor) choose(name string) {
	v.t.Helper()
	open := "Choose what the censor does"
	if !strings.Contains(text(v.get("/")), open) {
		open = "Choose something else"
	}
	v.press(open)
	v.press("Choose: " + name)
}

// plays is the scenario that is on.
func (l *Live) plays() censor.Scenario {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.what
}

// The page of a reader whose censor plays scenarios.
func TestScenariosOnThePage(t *testing.T) {
	t.Parallel()
	l := startLive(t, quick)
	v := visit(t, l)
	v.until("sample article", func() bool { return v.headline(samples(t)[0].Title) != "" })

	// The menu offers everything that can be played, each with its words.
	t.Run("menu", func(t *testing.T) {
		v := v.on(t)
		v.press("Choose what the censor does")
		page := text(v.get("/"))
		for _, s := range Playable() {
			if !strings.Contains(page, s.Name) || !strings.Contains(page, s.Seen) {
				t.Errorf("%s or where it was seen is not on the page", s.Name)
			}
		}
		for _, way := range []string{"Close the menu", "Close: open"} {
			v.press(way)
			if strings.Contains(text(v.get("/")), "quic-sni-reassembly") {
				t.Errorf("the menu is still open after %q", way)
			}
			v.press("Choose what the censor does")
		}
		v.press("Close: open")
		for _, action := range []string{"play prober", "play nothing", "play ", "lift quic-sni", "menu", "play open+open"} {
			if err := (panel{l.Live}).Do(t.Context(), action); err == nil {
				t.Errorf("action %q was taken", action)
			}
		}
		if got := l.plays().Name; got != "open" || l.censor.Blocked(transport.KindFile) {
			t.Errorf("it plays %s", got)
		}
	})

	// Under each of these an article published while it is played arrives, though
	// the reader's connections were open before.
	for _, name := range []string{"udp-drop", "dns-only", "tcp-freeze-16k", "quic-sni", "ip-block", "allowlist", "loss-5-5", "clock-behind"} {
		t.Run(name, func(t *testing.T) {
			v := v.on(t)
			v.choose(name)
			if page := text(v.get("/")); !strings.Contains(page, name+" played") || !strings.Contains(page, "file taken out") {
				t.Fatalf("the page does not tell that %s is played and the stick is out: %s", name, page)
			}
			v.press("Publish a new article")
			title := l.newest()
			v.until("bulletin under "+name, func() bool { return v.headline(title) != "" })
			if name != "dns-only" {
				return
			}
			// What the censor leaves is what brings the news, and the page tells so.
			v.until("DNS on the panel", func() bool {
				page := text(v.get("/"))
				return strings.Contains(page, "DNS open answered first") && strings.Contains(page, "relay over QUIC stopped by the censor") && strings.Contains(page, zone) && strings.Contains(page, "What the censor leaves: DNS.") &&
					strings.Contains(page, "the censor: ")
			})
			if n := l.censor.Done(transport.KindQUIC)[censor.Drop]; n == 0 {
				t.Error("the censor dropped nothing")
			}
		})
	}
	if page := text(v.get("/")); !strings.Contains(page, Note("clock-behind")) {
		t.Errorf("what is special about it here is not on the page: %s", page)
	}
	v.press("Lift: clock-behind")
	if page := text(v.get("/")); strings.Contains(page, " played") || strings.Contains(page, "file taken out") {
		t.Errorf("after the last one was lifted the page says %s", page)
	}

	// Two at once, by the second menu; a third takes no place beside them.
	t.Run("pair", func(t *testing.T) {
		v := v.on(t)
		v.choose("quic-sni")
		v.press("Add a second one")
		page := text(v.get("/"))
		if !strings.Contains(page, "besides quic-sni") {
			t.Fatalf("the second menu says %s", page)
		}
		v.press("Close: As it is")
		if page := text(v.get("/")); !strings.Contains(page, "quic-sni played") || strings.Contains(page, "besides quic-sni") {
			t.Errorf("out of the menu the page says %s", page)
		}
		v.press("Add a second one")
		v.press("Add: udp-drop")
		what := l.plays()
		if what.Name != "quic-sni+udp-drop" || !slices.Equal(leaves(what), []string{transport.KindTCP, transport.KindIPFS, transport.KindDNS}) {
			t.Errorf("it plays %s, which leaves %q", what.Name, leaves(what))
		}
		if strings.Contains(text(v.get("/")), "Add a second one") {
			t.Error("a third one can be added")
		}
		v.press("Publish a new article")
		title := l.newest()
		v.until("bulletin under both", func() bool { return v.headline(title) != "" })
		v.press("Lift: quic-sni")
		if got := l.plays().Name; got != "udp-drop" {
			t.Errorf("it plays %s after the other was lifted", got)
		}
		v.press("Lift: udp-drop")
	})

	// A hand on the switch wins over the scenario that began or ended meanwhile.
	t.Run("by hand", func(t *testing.T) {
		for _, action := range []string{"play offline", "open file", "block file", "lift offline"} {
			if err := (panel{l.Live}).Do(t.Context(), action); err != nil {
				t.Fatal(err)
			}
		}
		if !l.censor.Blocked(transport.KindFile) {
			t.Error("the stick was put back against the hand that took it")
		}
	})
}

// Offline nothing arrives, the page says so, and the stick brings it.
func TestOfflineOnThePage(t *testing.T) {
	t.Parallel()
	l := startLive(t, pace{every: time.Second, patience: 3 * time.Second})
	v := visit(t, l)
	v.until("sample article", func() bool { return v.headline(samples(t)[0].Title) != "" })
	v.choose("offline")
	v.press("Publish a new article")
	title := l.newest()
	v.until("a sync in vain", func() bool { return strings.Contains(text(v.get("/")), "nobody answered") })
	page := text(v.get("/"))
	if !strings.Contains(page, "Nothing can be reached") || strings.Contains(page, title) {
		t.Fatalf("offline the page says %s", page)
	}
	v.press("Hand over a stick")
	if v.headline(title) == "" {
		t.Errorf("the stick was handed over, and the page says %s", text(v.get("/")))
	}
}

// The menu says what each scenario leaves, by what it declares.
func TestEffect(t *testing.T) {
	for name, want := range map[string]string{
		"open": "leaves every way", "udp-drop": "stops relay over QUIC", "loss-60-up": "leaves every way", "ip-block": "leaves IPFS and DNS",
		"dns-only": "leaves DNS alone", "offline": "leaves nothing", "evil-peer": "leaves every way", "evil-peer+udp-drop": "leaves relay over TCP and DNS",
	} {
		s, err := Find(name)
		if got := effect(s); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

// The panel tells of syncs in vain, and not of those that the desk itself cut short.
func TestInVain(t *testing.T) {
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	p := panel{&Live{cuts: [][2]time.Time{{at(2), at(3)}, {at(42), at(43)}, {at(52), at(53)}}, began: began}}
	told := p.tell([]web.Event{
		{At: at(0), What: web.EventIncomplete}, // of a sync that began before
		{At: at(1), What: web.EventStart},
		{At: at(3), What: web.EventIncomplete},
		{At: at(4), What: web.EventStart},
		{At: at(24), What: web.EventIncomplete},
		{At: at(25), What: web.EventStart},
		{At: at(26), What: web.EventFirst},
		{At: at(40), What: web.EventIncomplete},
		{At: at(41), What: web.EventStart},
		{At: at(42), What: web.EventFirst},
		{At: at(43), What: web.EventIncomplete},
		{At: at(51), What: web.EventStart},
		{At: at(53), What: web.EventNobody}, // had not been answered when it was cut short
	})
	want := []string{
		at(24).Format("15:04:05 ") + words[web.EventNobody],
		at(40).Format("15:04:05 ") + words[web.EventIncomplete],
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"quic-sni": "quic-sni", "clock": "clock-ahead", "quic-sni+udp-drop": "quic-sni+udp-drop", "open+offline": "open+offline",
	} {
		if s, err := Find(name); err != nil || s.Name != want {
			t.Errorf("%s: %q, %v", name, s.Name, err)
		}
	}
	for name, hint := range map[string]string{
		"dns-olny": "dns-only", "quik-sni": "quic-sni", "freeze": "tcp-freeze-16k", "UDP-drop+off": "udp-drop", "prober": "nothing to play",
		"open+offlin": "offline", "a+b+c": "two", "offline+offline": "once", "clock+clock-behind": "can't both",
	} {
		_, err := Find(name)
		if err == nil || !strings.Contains(err.Error(), hint) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want a hint at %s", name, err, hint)
		}
	}
	for _, name := range []string{"", "weather", strings.Repeat("x", 1<<16)} {
		if _, err := Find(name); err == nil || strings.Contains(err.Error(), "did you mean") || len(err.Error()) > 100 {
			t.Errorf("a name of %d bytes that is like no other: %.200v", len(name), err)
		}
	}
	names := map[string]bool{}
	for _, s := range Playable() {
		names[s.Name] = true
	}
	for n := range notes {
		if !names[n] {
			t.Errorf("a note on %s, which is not played", n)
		}
	}
	if len(names) != len(censor.Scenarios())-len(unplayed) {
		t.Errorf("%d scenarios", len(names))
	}
}

// A new reader gets the news under a scenario, over what it leaves.
func TestTry(t *testing.T) {
	t.Parallel()
	w, list := newWorld(t), samples(t)
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	// Which of the ways that are left is the fastest is not ours to say.
	kindOf := map[string]func(path string) bool{
		"dns-only":            func(p string) bool { return strings.HasPrefix(p, "dns ") },
		"udp-drop":            func(p string) bool { return p != "" && !strings.HasSuffix(p, " quic") },
		"quic-sni-reassembly": func(p string) bool { return p != "" },
		"evil-peer+udp-drop":  func(p string) bool { return strings.HasSuffix(p, " tcp") || strings.HasPrefix(p, "dns ") },
		"offline":             func(p string) bool { return p == "file" },
	}
	for _, name := range slices.Sorted(maps.Keys(kindOf)) {
		s, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Try(t.Context(), s)
		if err != nil || !got.OK || got.Error != "" || got.Articles != len(list) || !kindOf[name](got.Path) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Try must be able to fail.
func TestTrySeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Publish(t.Context(), samples(t)); err != nil {
		t.Fatal(err)
	}
	open, _ := censor.Lookup("open")
	kept := w.articles[0].Title
	w.articles[0].Title += "!"
	if got, err := w.Try(t.Context(), open); err != nil || got.OK || !strings.Contains(got.Error, "not what was published") {
		t.Errorf("another title than was published: %+v, %v", got, err)
	}
	w.articles[0].Title = kept
	// A censor who claims to stop everything and stops nothing.
	if got, err := w.Try(t.Context(), censor.Scenario{Name: "leaky"}); err != nil || got.OK {
		t.Errorf("news that should not have arrived: %+v, %v", got, err)
	}
	if err := os.RemoveAll(w.Stick()); err != nil {
		t.Fatal(err)
	}
	offline, _ := censor.Lookup("offline")
	w.vain = time.Second // enough for one who waits for nothing
	if got, err := w.Try(t.Context(), offline); err != nil || got.OK {
		t.Errorf("no stick: %+v, %v", got, err)
	}
}

// The second relay lies in an evil-relay, and takes what is pushed all the same.
func TestEvilRelay(t *testing.T) {
	t.Parallel()
	w, list := newWorld(t), samples(t)
	evil, _ := censor.Lookup("evil-relay")
	stage := w.Stage(1)
	stage.Play(evil)
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Try(t.Context(), evil); err != nil || !got.OK {
		t.Errorf("%+v, %v", got, err)
	}
	w.liars.mu.Lock()
	told := w.liars.told
	w.liars.mu.Unlock()
	if told == 0 {
		t.Error("nobody lied")
	}
	stage.Play(censor.Scenario{})
	w.liars.mu.Lock()
	defer w.liars.mu.Unlock()
	if len(w.liars.relay) != 0 {
		t.Error("it lies on when the scenario is over")
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789", 400)
	honest := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body[:2000])
		_, _ = io.WriteString(w, body[2000:])
	})
	ask := func(path string, lies ...censor.Evil) (got string, err error) {
		l := &liars{}
		l.set(censor.Far{Relay: lies})
		srv := httptest.NewServer(l.wrap(honest))
		defer srv.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		limit := int64(2 * len(body))
		if lies != nil && lies[0] == censor.EvilTrickle {
			limit = 1
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, limit))
		return string(b), err
	}
	differ := func(got string) (n int) {
		for i := range min(len(got), len(body)) {
			if got[i] != body[i] {
				n++
			}
		}
		return n
	}
	if got, err := ask("/x"); err != nil || got != body {
		t.Errorf("honest: %d bytes, %v", len(got), err)
	}
	if got, err := ask("/p/intake/x", censor.EvilCut); err != nil || got != body {
		t.Errorf("a publisher was lied to: %d bytes, %v", len(got), err)
	}
	if got, err := ask("/x", censor.EvilFork, censor.EvilOld); err != nil || got != body {
		t.Errorf("lies that are not played: %d bytes, %v", len(got), err)
	}
	if got, err := ask("/x", censor.EvilFlip); err != nil || len(got) != len(body) || differ(got) != 4 {
		t.Errorf("flip: %d bytes, %d differ, %v", len(got), differ(got), err)
	}
	if got, err := ask("/x", censor.EvilGarbage); err != nil || differ(got) < len(body)*9/10 {
		t.Errorf("garbage: %d bytes, %d differ, %v", len(got), differ(got), err)
	}
	if got, err := ask("/x", censor.EvilCut); err == nil || len(got) != cutAfter {
		t.Errorf("cut: %d bytes, %v", len(got), err)
	}
	if got, err := ask("/x", censor.EvilEndless); err != nil || len(got) != 2*len(body) {
		t.Errorf("endless: %d bytes, %v", len(got), err)
	}
	// A byte a second: the first one comes after the first second.
	if got, err := ask("/x", censor.EvilTrickle); err != nil || got != body[:1] {
		t.Errorf("trickle: %q, %v", got, err)
	}
}
