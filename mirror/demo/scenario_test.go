package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"tamizdat/internal/censor"
	"tamizdat/internal/netreal"
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

// Under each of these an article published while it is played arrives, though
// the reader's connections were open before.
func TestScenariosOnThePage(t *testing.T) {
	l, link := startLive(t)
	v := visit(t, link)
	v.until("sample article", func() bool { return v.headline(samples(t)[0].Title) != "" })
	for _, name := range []string{"udp-drop", "dns-only", "tcp-freeze-16k", "quic-sni", "ip-block", "allowlist", "loss-5-5", "clock-behind"} {
		t.Run(name, func(t *testing.T) {
			v := &visitor{t, v.client, v.origin}
			v.choose(name)
			if page := text(v.get("/")); !strings.Contains(page, name+" played") || !strings.Contains(page, "file taken out") {
				t.Fatalf("the page does not tell that %s is played and the stick is out: %s", name, page)
			}
			v.press("Publish a new article")
			title := l.newest()
			v.until("bulletin under "+name, func() bool { return v.headline(title) != "" })
		})
	}
	if page := text(v.get("/")); !strings.Contains(page, Note("clock-behind")) {
		t.Errorf("what is special about it here is not on the page: %s", page)
	}
	v.press("Lift: clock-behind")
	if page := text(v.get("/")); strings.Contains(page, " played") || strings.Contains(page, "file taken out") {
		t.Errorf("after the last one was lifted the page says %s", page)
	}
}

// What the censor leaves is what brings the news: DNS alone, here, and the page
// tells so.
func TestDNSOnlyBringsItOverDNS(t *testing.T) {
	l, link := startLive(t)
	v := visit(t, link)
	v.until("sample article", func() bool { return v.headline(samples(t)[0].Title) != "" })
	v.choose("dns-only")
	v.press("Publish a new article")
	title := l.newest()
	v.until("bulletin", func() bool { return v.headline(title) != "" })
	v.until("DNS on the panel", func() bool {
		page := text(v.get("/"))
		return strings.Contains(page, "DNS open answered first") && strings.Contains(page, "relay over QUIC stopped by the censor") && strings.Contains(page, zone) && strings.Contains(page, "What the censor leaves: DNS.")
	})
	if n := l.censor.Done()[censor.Drop]; n == 0 {
		t.Error("the censor dropped nothing")
	}
}

// Offline nothing arrives, the page says so, and the stick brings it.
func TestOfflineOnThePage(t *testing.T) {
	l, link := startLive(t)
	v := visit(t, link)
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

// Two at once, by the second menu; a third takes no place beside them.
func TestPairOnThePage(t *testing.T) {
	l, link := startLive(t)
	v := visit(t, link)
	v.choose("quic-sni")
	v.press("Add a second one")
	page := text(v.get("/"))
	if !strings.Contains(page, "besides quic-sni") {
		t.Fatalf("the second menu says %s", page)
	}
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
}

// The menu offers everything that can be played, each with its words.
func TestMenu(t *testing.T) {
	l, link := startLive(t)
	v := visit(t, link)
	v.press("Choose what the censor does")
	page := text(v.get("/"))
	for _, s := range Playable() {
		if !strings.Contains(page, s.Name) || !strings.Contains(page, s.Seen) {
			t.Errorf("%s or where it was seen is not on the page", s.Name)
		}
	}
	v.press("Close the menu")
	if strings.Contains(text(v.get("/")), "quic-sni-reassembly") {
		t.Error("the menu is still open")
	}
	for _, action := range []string{"play prober", "play nothing", "play ", "lift quic-sni", "menu", "play open+open"} {
		if err := (panel{l}).Do(t.Context(), action); err == nil {
			t.Errorf("action %q was taken", action)
		}
	}
	if got := l.plays().Name; got != "open" || l.censor.Blocked(transport.KindFile) {
		t.Errorf("it plays %s", got)
	}
	// A hand on the switch wins over the scenario that began or ended meanwhile.
	for _, action := range []string{"play offline", "open file", "block file", "lift offline"} {
		if err := (panel{l}).Do(t.Context(), action); err != nil {
			t.Fatal(err)
		}
	}
	if !l.censor.Blocked(transport.KindFile) {
		t.Error("the stick was put back against the hand that took it")
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
		"dns-olny": "dns-only", "quik-sni": "quic-sni", "freeze": "tcp-freeze-16k", "UDP-drop+off": "udp-drop", "prober": "open",
		"open+offlin": "offline", "a+b+c": "two", "offline+offline": "once", "clock+clock-behind": "can't both",
	} {
		_, err := Find(name)
		if err == nil || name != "prober" && !strings.Contains(err.Error(), hint) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want a hint at %s", name, err, hint)
		}
	}
	if _, err := Find(strings.Repeat("x", 1<<16)); err == nil {
		t.Error("a name of 64 KiB was found")
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
	if got, err := w.Try(t.Context(), offline); err != nil || got.OK {
		t.Errorf("no stick: %+v, %v", got, err)
	}
}

// The second relay lies in an evil-relay, and takes what is pushed all the same.
func TestEvilRelay(t *testing.T) {
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

// A line changes under what is open: datagrams go on by the same socket, streams
// are cut.
func TestLineChanges(t *testing.T) {
	real := &netreal.Network{}
	l := newLine(real, 1)
	far, err := real.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	here, err := l.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := here.LocalAddr().String()
	got := make(chan string)
	go func() { // reads all along
		defer close(got)
		b := make([]byte, 2000)
		for {
			n, _, err := here.ReadFrom(b)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("read: %v", err)
				}
				return
			}
			got <- string(b[:n])
		}
	}()
	both := func(what string) {
		t.Helper()
		b := make([]byte, 2000)
		if _, err := here.WriteTo([]byte(what), far.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		n, from, err := far.ReadFrom(b)
		if err != nil || string(b[:n]) != what || from.String() != port {
			t.Fatalf("%q came from %v, %v; want %q from %s", b[:n], from, err, what, port)
		}
		if _, err := far.WriteTo([]byte(what), here.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != what {
			t.Fatalf("%q came back, want %q", s, what)
		}
	}
	both("first")
	ln, err := real.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := l.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Set(censor.Line{MTU: 600})
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a stream goes on over a new line")
	}
	if _, err := here.WriteTo(make([]byte, 1000), far.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	both("small enough") // the large one is gone, or it would have come first
	l.Set(censor.Line{})
	both(strings.Repeat("large again ", 80))
	l.Set(censor.Line{RTT: 1})
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	if _, more := <-got; more {
		t.Error("something comes after the close")
	}
	if n := len(l.sockets) + len(l.conns); n != 0 {
		t.Errorf("%d closed sockets are still remembered", n)
	}
}
