package relay

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"tamizdat/internal/netreal"
	wire "tamizdat/transport/relay"
)

// An address has its rate and its number of requests at once; all of a /64 is one,
// and what has ended no longer counts.
func TestTurnstileCountsAddresses(t *testing.T) {
	held := make(chan struct{})
	inside := make(chan struct{})
	d := &turnstile{
		next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/held" {
				inside <- struct{}{}
				<-held
			}
		}),
		rates: newRates[netip.Prefix](1), places: wire.NewPlaces[netip.Prefix](5, 3),
	}
	ask := func(from, path string) int {
		r := httptest.NewRequest("GET", "https://x"+path, nil)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		return w.Code
	}
	ended := make(chan int)
	hold := func(from string) {
		go func() { ended <- ask(from, "/held") }()
		<-inside
	}
	for i := range 3 {
		hold(fmt.Sprintf("[2001:db8::%d]:1", i))
	}
	for from, want := range map[string]int{"[2001:db8::9]:1": 429, "[2001:db8:0:1::9]:1": 200, "192.0.2.1:1": 200} {
		if code := ask(from, "/"); code != want {
			t.Errorf("beside three of one /64, %s: %d", from, code)
		}
	}
	hold("192.0.2.1:1")
	hold("192.0.2.2:1")
	if code := ask("192.0.2.3:1", "/"); code != 429 {
		t.Errorf("beside as many as there may be: %d", code)
	}
	close(held)
	for range 5 {
		<-ended
	}
	if code := ask("192.0.2.3:1", "/"); code != 200 || len(places(d.places)) > 0 {
		t.Errorf("when they have ended: %d, and places are still taken", code)
	}
	limited := 0
	for i := range 2 * burst {
		if ask(fmt.Sprintf("[2001:db8:7::%d]:1", i), "/") == 429 {
			limited++
		}
	}
	if limited < burst-1 || limited > burst+1 {
		t.Errorf("of %d requests of one /64 %d were too many", 2*burst, limited)
	}
}

// places says who has one, by asking for those that could.
func places(p *wire.Places[netip.Prefix]) (taken []string) {
	for _, from := range []string{"2001:db8::/64", "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"} {
		if p.Of(netip.MustParsePrefix(from)) > 0 {
			taken = append(taken, from)
		}
	}
	return taken
}

// Whoever has stolen an invite can't have all readers wait in vain: a batch may hold
// so many polls, and another one has its own.
func TestPollsOfABatchAreLimited(t *testing.T) {
	p := newPress(t, "crowd")
	r := start(t, Config{Throttle: Throttle{PollsPerBatch: 3}})
	push(t, r, p.edition(t, 0))
	tg := target(t, r, p.ch)
	poll := func(tag [8]byte) *http.Request {
		return httptest.NewRequest("GET", "https://x/"+tg.Mint.Mint(tag).Path()+"/head/"+p.ch.String()+"?have=1&wait=60", nil)
	}
	for range 3 {
		ctx := t.Context()
		go r.handler.ServeHTTP(httptest.NewRecorder(), poll([8]byte{1}).WithContext(ctx))
	}
	waiting(t, r, 3)
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, poll([8]byte{1}))
	if w.Code != http.StatusTooManyRequests {
		t.Errorf("a fourth: %d", w.Code)
	}
	go r.handler.ServeHTTP(httptest.NewRecorder(), poll([8]byte{2}).WithContext(t.Context()))
	waiting(t, r, 4)
}

// A relay that follows is one among others.
func TestFollowersAreLimited(t *testing.T) {
	p := newPress(t, "followers")
	r := start(t, Config{Throttle: Throttle{PerBatch: 1}})
	push(t, r, p.edition(t, 0))
	line, err := r.PullLine(p.ch)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for range burst + 1 {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest("GET", "https://x/"+line.Prefix.Path()+"/head/"+p.ch.String(), nil))
		last = w.Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after a burst: %d", last)
	}
}

// Only a WebSocket makes a tunnel of a connection: over HTTP/2 in clear the site
// behind could be asked for anything, past limits and past what is taken out of
// requests.
func TestUpstreamMakesNoTunnel(t *testing.T) {
	heard := make(chan http.Header, 1)
	url := behind(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard <- r.Header.Clone() }))
	s := listen(t, ownCert(t), upstream(t, url, io.Discard))
	c := secure(t, &netreal.Network{}, s.Addr().String(), "http/1.1")
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if h := <-heard; h.Get("Upgrade") != "" || h.Get("Connection") != "" || h.Get("Http2-Settings") != "" {
		t.Errorf("the site behind heard %v", h)
	}
}
