package relay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/simnet"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// world is a simulated net of relays, each 50 ms from everybody.
type world struct {
	t     *testing.T
	net   *simnet.Net
	hosts map[string]*simnet.Host
	desk  *simnet.Host // the publisher's
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, net: simnet.New(1), hosts: map[string]*simnet.Host{}}
	t.Cleanup(func() { w.net.Close() })
	w.desk = w.net.Host("publisher", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("198.51.100.1"))
	return w
}

// node is one relay of a world.
type node struct {
	*Relay
	ip     string
	seen   requests
	log    lockedBuffer
	closed bool
}

// relay starts a relay at an address of 192.0.2.0/24. Its folder is dir, or a
// new one.
func (w *world) relay(last int, cfg Config) *node {
	w.t.Helper()
	n := &node{ip: fmt.Sprintf("192.0.2.%d", last)}
	if w.hosts[n.ip] == nil && cfg.Network == nil {
		w.hosts[n.ip] = w.net.Host(n.ip, simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr(n.ip))
	}
	if cfg.Dir == "" {
		cfg.Dir = w.t.TempDir()
	}
	if cfg.Network == nil {
		cfg.Network = w.hosts[n.ip]
	}
	cfg.Listen = []string{n.ip + ":443"}
	inner := cfg.Hooks.Wrap
	cfg.Hooks.Wrap = func(next http.Handler) http.Handler {
		if inner != nil {
			next = inner(next)
		}
		return n.seen.count(next)
	}
	cfg.Log = slog.New(slog.NewTextHandler(&n.log, nil))
	var err error
	if n.Relay, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	if err := n.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	if !n.closed {
		n.closed = true
		n.Relay.Close()
	}
}

// line is what the volunteer of n hands out.
func (n *node) line(t *testing.T, ch channel.ID) wire.Pull {
	t.Helper()
	target(t, n.Relay, ch) // carries it
	p, err := n.PullLine(ch)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// size is how many editions the newest head covers.
func (n *node) size(ch channel.ID) uint64 {
	h, _ := n.Store().Head(ch)
	if h == nil {
		return 0
	}
	return h.Size
}

// requests counts what a relay is asked for below a prefix.
type requests struct {
	mu    sync.Mutex
	heads int
	cars  []string // the Range of each request for a CAR
	bytes int64    // of CARs
}

func (q *requests) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		switch {
		case strings.Contains(r.URL.Path, "/head/"):
			q.heads++
		case strings.Contains(r.URL.Path, "/edition/"):
			q.cars = append(q.cars, r.Header.Get("Range"))
			w = &counting{w, q}
		}
		q.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

type counting struct {
	http.ResponseWriter
	q *requests
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	c.q.bytes += int64(n)
	return n, err
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (q *requests) get() (heads, cars int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heads, len(q.cars), q.bytes
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// push gives an edition to one relay.
func (w *world) push(n *node, s *sheet) {
	w.t.Helper()
	p := pusher(w.t, w.desk, target(w.t, n.Relay, s.head.Channel))
	defer p.Close()
	if err := p.Publish(w.t.Context(), s.source(), nil); err != nil {
		w.t.Fatal(err)
	}
}

// until waits on the fake clock, for three hours at most, and returns how long it took.
func (w *world) until(what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > 3*time.Hour {
			w.t.Fatalf("not within three hours: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

func TestRelaysFollowEachOther(t *testing.T) {
	for name, edges := range map[string][][2]int{ // who follows whom
		"line": {{1, 0}, {2, 1}},
		"ring": {{0, 2}, {1, 0}, {2, 1}},
		"all":  {{0, 1}, {0, 2}, {1, 0}, {1, 2}, {2, 0}, {2, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPress(t, "follow")
			var sheets, beats []*sheet
			for range 3 {
				edge := p.tree.Edge()
				s := p.edition(t, 300_000)
				sheets = append(sheets, s)
				beats = append(beats, p.sign(t, s.packed, edge, s.head.Time.Add(time.Second)))
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
				start := func(pulls [3][]wire.Pull) (nodes []*node) {
					for i, dir := range dirs {
						nodes = append(nodes, w.relay(i+1, Config{Dir: dir, Pull: pulls[i]}))
					}
					return nodes
				}
				// Once to make keys and lines, then as it will run.
				nodes := start([3][]wire.Pull{})
				var pulls [3][]wire.Pull
				for _, e := range edges {
					pulls[e[0]] = append(pulls[e[0]], nodes[e[1]].line(t, p.ch))
				}
				for _, n := range nodes {
					target(t, n.Relay, p.ch)
					n.close()
				}
				nodes = start(pulls)
				has := func(size uint64, at time.Time) func() bool {
					return func() bool {
						for _, n := range nodes {
							h, _ := n.Store().Head(p.ch)
							if h == nil || h.Size != size || !h.Time.Equal(at) {
								return false
							}
						}
						return true
					}
				}
				time.Sleep(10 * time.Minute) // nothing is there yet
				for i, s := range sheets {
					at := nodes[0]
					if i == 2 && name != "line" {
						at = nodes[2] // the publisher's way to the first is blocked
					}
					w.push(at, s)
					took := w.until("edition everywhere", has(s.head.Size, s.head.Time))
					t.Logf("edition %d of %d kB was everywhere after %v", i, len(s.car)/1000, took)
					if took > 5*time.Second {
						t.Errorf("edition %d took %v", i, took)
					}
					time.Sleep(5 * time.Minute)
					beat := beats[i]
					w.push(nodes[0], beat)
					took = w.until("heartbeat everywhere", has(s.head.Size, beat.head.Time))
					if took > 5*time.Second {
						t.Errorf("heartbeat %d took %v", i, took)
					}
					time.Sleep(5 * time.Minute)
				}
				// A relay fetches each edition once, and who was pushed to none.
				cars := 0
				for _, n := range nodes {
					_, c, _ := n.seen.get()
					cars += c
				}
				if want := 2 * 6; cars != want {
					t.Errorf("%d CARs were fetched for 6 editions at 2 more relays each", cars)
				}
				heads := 0
				for _, n := range nodes {
					h, _, _ := n.seen.get()
					heads -= h
				}
				time.Sleep(time.Hour)
				for _, n := range nodes {
					h, _, _ := n.seen.get()
					heads += h
				}
				if most := 70 * len(edges); heads > most {
					t.Errorf("%d requests in an hour without news, of %d lines", heads, len(edges))
				}
				// The name follows as well.
				head, _ := nodes[0].Store().Head(p.ch)
				pub := pusher(t, w.desk, target(t, nodes[0].Relay, p.ch))
				if err := pub.PublishRecord(t.Context(), p.ch, p.record(t, &sheet{head: head}, 1)); err != nil {
					t.Fatal(err)
				}
				w.until("record everywhere", func() bool {
					for _, n := range nodes {
						if n.Store().ipns(p.ch) == nil {
							return false
						}
					}
					return true
				})
				for _, n := range nodes {
					if s := n.log.String(); strings.Contains(s, "192.0.2") || strings.Contains(s, "refused") {
						t.Errorf("in a log: %s", s)
					}
					parts, _ := filepath.Glob(filepath.Join(n.cfg.Dir, "incoming", "*", "*"))
					if len(parts) > 0 {
						t.Errorf("left behind: %v", parts)
					}
				}
			})
		})
	}
}

func TestPullResumesAfterARestart(t *testing.T) {
	p := newPress(t, "resume")
	s := p.edition(t, 1_900_000)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.relay(1, Config{})
		line := a.line(t, p.ch)
		dir := t.TempDir()
		r, err := New(Config{Dir: dir, Network: w.desk})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.carried.add(p.ch); err != nil {
			t.Fatal(err)
		}
		w.push(a, s)
		w.hosts[a.ip].SetLink(simnet.Link{Delay: 25 * time.Millisecond, Up: 250_000})
		parts := func() (n int64) {
			files, _ := filepath.Glob(filepath.Join(dir, "incoming", "*", "*"+pullSuffix))
			for _, f := range files {
				if st, err := os.Stat(f); err == nil {
					n += st.Size()
				}
			}
			return n
		}
		for round := range 3 { // each time it is ended in the middle
			b := w.relay(2, Config{Dir: dir, Pull: []wire.Pull{line}})
			had := parts()
			w.until("another part", func() bool { return parts() >= had+2*pullPart })
			if b.size(p.ch) != 0 {
				t.Fatalf("round %d: half an edition is visible", round)
			}
			b.close()
		}
		b := w.relay(2, Config{Dir: dir, Pull: []wire.Pull{line}})
		w.until("the edition", func() bool { return b.size(p.ch) == 1 })
		a.seen.mu.Lock()
		defer a.seen.mu.Unlock()
		for i, from := range a.seen.cars {
			if resumed := from != ""; resumed != (i > 0) {
				t.Errorf("request %d was for %q", i, from)
			}
		}
		if most := int64(len(s.car)) * 3 / 2; a.seen.bytes > most {
			t.Errorf("%d bytes were sent of a CAR of %d", a.seen.bytes, len(s.car))
		}
	})
}

// A relay that was told of another by its line believes it nothing.
func TestLyingRelayChangesNothing(t *testing.T) {
	p := newPress(t, "honest")
	first, second, third := p.edition(t, 0), p.edition(t, 0), p.edition(t, 100_000)
	other := newPress(t, "foreign").edition(t, 50_000)
	twin := newPress(t, "honest") // the same keys, another history
	twin.edition(t, 0)
	twin.edition(t, 77)
	forked := twin.edition(t, 50_000)

	front := third.car[:bytes.Index(third.car, third.packed.Blocks[0].Data)]
	head := func(s *sheet) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			text := s.head.Text()
			c := bundle.RawCID(text)
			w.Header().Set("Etag", `"`+c.String()+time.Now().String()+`"`) // always another one
			out, err := car.NewWriter(w, []cid.Cid{c, s.head.Root})
			if err == nil {
				err = out.Put(c, text)
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	}
	body := func(length int, r func() io.Reader) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if length > 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			_, _ = io.CopyN(w, r(), cmp.Or(int64(length), 50_000_000))
		}
	}
	whole := func(s *sheet) http.HandlerFunc {
		return body(len(s.car), func() io.Reader { return bytes.NewReader(s.car) })
	}
	flipped := bytes.Clone(third.car)
	flipped[len(flipped)-9] ^= 1
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	const limit = 1_000_000
	for name, lie := range map[string]struct {
		head, edition http.HandlerFunc
		reason        string // in the log
	}{
		"an old head":              {head(first), whole(first), ""},
		"the head that is held":    {head(second), whole(second), ""},
		"a fork":                   {head(forked), whole(forked), "was the publisher's folder copied"},
		"a foreign channel":        {head(other), whole(other), "another channel"},
		"a true head, foreign CAR": {head(third), whole(other), "another channel"},
		"a true head, older CAR":   {head(third), whole(first), "not the one announced"},
		"a flipped bit":            {head(third), body(len(flipped), func() io.Reader { return bytes.NewReader(flipped) }), "hash"},
		"endless junk":             {head(third), body(900_000, func() io.Reader { return endless('x') }), "no header"},
		"a front, then junk": {head(third), body(900_000, func() io.Reader {
			return io.MultiReader(bytes.NewReader(front), endless(0))
		}), "refused"},
		"an endless CAR":    {head(third), body(1<<40, func() io.Reader { return bytes.NewReader(third.car) }), "larger than this relay takes"},
		"no length":         {head(third), body(0, func() io.Reader { return endless('x') }), ""},
		"a byte a second":   {head(third), drip(len(third.car)), ""},
		"nothing, at once":  {status(304), status(404), ""},
		"errors":            {status(500), status(500), ""},
		"a head, no CAR":    {head(third), status(404), ""},
		"junk for a head":   {body(0, func() io.Reader { return io.LimitReader(endless('h'), 1<<20) }), status(404), ""},
		"an answer of ages": {drip(1 << 20), status(404), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var mu sync.Mutex
				lying := true
				a := w.relay(1, Config{Hooks: Hooks{Wrap: func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						mu.Lock()
						lie, on := lie, lying
						mu.Unlock()
						switch {
						case !on:
							next.ServeHTTP(rw, r)
						case strings.Contains(r.URL.Path, "/head/"):
							lie.head(rw, r)
						case strings.Contains(r.URL.Path, "/edition/"):
							lie.edition(rw, r)
						default:
							http.NotFound(rw, r)
						}
					})
				}}})
				b := w.relay(2, Config{Limits: Limits{Edition: limit}, Pull: []wire.Pull{a.line(t, p.ch)}})
				w.push(b, first)
				w.push(b, second)
				before, _ := b.Store().Head(p.ch)
				time.Sleep(2 * time.Hour)
				if now, _ := b.Store().Head(p.ch); now != before {
					t.Fatal("it changed what is held")
				}
				if _, err := b.Store().Block(p.ch, third.head.Root); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a part of it is served: %v", err)
				}
				files, _ := filepath.Glob(filepath.Join(b.cfg.Dir, "incoming", "*", "*"))
				if len(files) > 1 {
					t.Errorf("on disk: %v", files)
				}
				heads, cars, sent := a.seen.get()
				if heads > 1100 || cars > 90 || sent > 40*limit {
					t.Errorf("in two hours it was asked %d times, and for %d CARs, %d bytes of which came", heads, cars, sent)
				}
				log := b.log.String()
				if !strings.Contains(log, lie.reason) || lie.reason == "" && strings.Contains(log, "refused") {
					t.Errorf("the log says %s", log)
				}
				if strings.Contains(log, "192.0.2") || strings.Count(log, "\n") > 60 {
					t.Errorf("%d lines in the log: %s", strings.Count(log, "\n"), log)
				}
				// It mends its ways, and is believed what can be checked.
				mu.Lock()
				lying = false
				mu.Unlock()
				w.push(a, third)
				w.until("the edition after all", func() bool { return b.size(p.ch) == 3 })
			})
		})
	}
}

// endless is a byte over and over.
type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

// drip answers with a byte a second.
func drip(length int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(length))
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte("d")); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			pause(r.Context(), time.Second)
		}
	}
}

// One line of many lies slowly: the others don't wait for it, and a publisher
// who pushes the same edition doesn't meet its bytes.
func TestSlowLineHoldsUpNobody(t *testing.T) {
	p := newPress(t, "slow")
	s := p.edition(t, 600_000)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow := w.relay(1, Config{Hooks: Hooks{Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, "/edition/") {
					next.ServeHTTP(rw, r)
					return
				}
				rw.Header().Set("Content-Length", fmt.Sprint(len(s.car)))
				_, _ = rw.Write(s.car[:2000])
				for range 1000 {
					if pause(r.Context(), time.Second); r.Context().Err() != nil {
						return
					}
					if _, err := rw.Write(make([]byte, 6000)); err != nil {
						return
					}
				}
			})
		}}})
		quick := w.relay(2, Config{})
		pulls := []wire.Pull{slow.line(t, p.ch), quick.line(t, p.ch)}
		b, c := w.relay(3, Config{Pull: pulls}), w.relay(4, Config{Pull: pulls[:1]})
		target(t, b.Relay, p.ch)
		target(t, c.Relay, p.ch)
		time.Sleep(time.Minute) // they notice
		w.push(slow, s)
		time.Sleep(time.Second) // it is ahead
		w.push(quick, s)
		if took := w.until("the edition from the other", func() bool { return b.size(p.ch) == 1 }); took > 2*pullHead {
			t.Errorf("it took %v", took)
		}
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := pusher(t, w.desk, target(t, c.Relay, p.ch)).Publish(ctx, s.source(), nil); err != nil {
			t.Errorf("pushed while another relay drips the same: %v", err)
		}
	})
}

func TestPullLine(t *testing.T) {
	p := newPress(t, "line")
	r := start(t, Config{})
	if _, err := r.PullLine(p.ch); !errors.Is(err, ErrNotCarried) {
		t.Errorf("a line for nothing: %v", err)
	}
	s := p.edition(t, 100_000)
	push(t, r, s)
	line, err := r.PullLine(p.ch)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.PullLine(p.ch); err != nil || again.Prefix == line.Prefix {
		t.Errorf("two relays get the same line: %v", err)
	}
	for _, host := range []string{line.Host, "relay.example.org", "2001:db8::1"} {
		line.Host = host
		back, err := wire.ParsePull(" " + line.String() + "\n")
		if err != nil || back != line {
			t.Errorf("%s: %v", host, err)
		}
	}
	text := line.String()
	for i := range text {
		for _, c := range []string{"", "/", text[i:i+1] + "x"} {
			if bad := text[:i] + c + text[i+1:]; bad != text {
				if got, err := wire.ParsePull(bad); err == nil && got.String() != bad {
					t.Errorf("accepted %q", bad)
				} else if err != nil && !errors.Is(err, wire.ErrBadPull) {
					t.Error(err)
				}
			}
		}
	}
	tg := target(t, r, p.ch)
	if _, err := wire.ParsePull(tg.String()); err == nil || !strings.Contains(err.Error(), "--pull") {
		t.Errorf("no hint in %v", err)
	}
	// With it one fetches, and that is all.
	ask := func(method, prefix, path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+tg.Address()+"/"+prefix+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := pinned(tg).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	at := "/edition/" + p.ch.String() + "/" + bundle.RawCID(s.head.Text()).String()
	if resp := ask("GET", line.Prefix.Path(), at); resp.StatusCode != 200 || !bytes.Equal(bodyOf(t, resp), s.car) {
		t.Errorf("the edition: %s", resp.Status)
	}
	reader := tg.Relay(p.batch).Prefix.Path()
	for path, code := range map[string]int{at + "x": 400, "/edition/" + p.ch.String() + "/" + bundle.RawCID(nil).String(): 404, "/edition/" + newPress(t, "x").ch.String() + "/x": 404} {
		if resp := ask("GET", line.Prefix.Path(), path); resp.StatusCode != code {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if resp := ask("GET", reader, at); resp.StatusCode != 404 {
		t.Errorf("a reader has the whole edition: %s", resp.Status)
	}
	if resp := ask("PATCH", line.Prefix.Path(), "/intake/"+p.ch.String()+"/x"); resp.StatusCode != 405 || resp.Header.Get(wire.HeaderOffset) != "" {
		t.Errorf("a follower pushes: %s", resp.Status)
	}
	imposter := line
	imposter.Host, imposter.Pin[0] = tg.Host, line.Pin[0]^1
	f, err := wire.NewPuller(r.cfg.Network, imposter)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Head(t.Context(), 0, 0); err == nil || errors.Is(err, transport.ErrNoNewer) {
		t.Errorf("wrong pin: %v", err)
	}
}
