package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	wire "tamizdat/transport/relay"
)

// Who has many slots gives up the oldest for who has few, who has few is left alone
// for a while, and what was given up is not given back a second time.
func TestSlotsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2*(slotsAhead+1), slotsAhead+1)
		greedy, few := visitorOf("[2001:db8:0:1::1]:1"), visitorOf("192.0.2.1:1")
		if greedy != visitorOf("[2001:db8:0:2::9]:7") || greedy == visitorOf("[2001:db8:1::1]:1") || few == visitorOf("192.0.2.2:1") {
			t.Fatal("not whom a slot counts for")
		}
		var ended []string
		enter := func(from, name string) (leave func(), ok bool) {
			return s.enter(visitorOf(from), func() { ended = append(ended, name) })
		}
		var first func()
		for i := range slotsAhead + 1 {
			leave, ok := enter(fmt.Sprintf("[2001:db8:0:%x::1]:1", i), fmt.Sprint("greedy ", i))
			if !ok {
				t.Fatal("refused where there is room")
			}
			if i == 0 {
				first = leave
			}
		}
		if _, ok := enter("[2001:db8:0:fe::1]:1", ""); ok {
			t.Error("one visitor has more than his share")
		}
		for i := range slotsAhead + 1 {
			if _, ok := enter(fmt.Sprintf("198.51.100.%d:1", i), fmt.Sprint("other ", i)); !ok {
				t.Fatal("refused where there is room")
			}
		}
		leave, ok := enter("192.0.2.1:1", "few")
		if !ok || fmt.Sprint(ended) != "[greedy 0]" {
			t.Errorf("one who has none: %t, %v ended", ok, ended)
		}
		first() // which was given up
		if s.taken != s.all {
			t.Errorf("%d taken of %d", s.taken, s.all)
		}
		// Now nobody has so many more than another one.
		if _, ok := enter("192.0.2.2:1", ""); ok {
			t.Error("somebody who has few was sent away at once")
		}
		time.Sleep(slotTime)
		if _, ok := enter("192.0.2.2:1", "new"); !ok || len(ended) != 2 {
			t.Errorf("beside those who have been there for long: %t, %v ended", ok, ended)
		}
		leave()
		if _, ok := enter("192.0.2.3:1", "new"); !ok || len(ended) != 2 {
			t.Errorf("where there is room again: %t, %v ended", ok, ended)
		}
	})
}

// Slow bodies that take all slots don't keep the website from others.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	began := make(chan struct{})
	u := upstream(t, behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			began <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "page")
	})), io.Discard)
	const each = slotsAhead + 1
	u.slots = newSlots(2*each, each)
	answers := make(chan int)
	var bodies []io.Closer
	for i := range 2 * each {
		body, silent := io.Pipe()
		bodies = append(bodies, silent)
		go func() {
			r := httptest.NewRequest("POST", "/", body)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i%2)
			w := httptest.NewRecorder()
			u.ServeHTTP(w, r)
			answers <- w.Code
		}()
		_, _ = silent.Write([]byte("x")) // it is being read
		<-began
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "198.51.100.1:1"
	w := httptest.NewRecorder()
	u.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.String() != "page" {
		t.Errorf("a visitor gets %d %q", w.Code, w.Body)
	}
	for _, b := range bodies { // those over the wire end without: see TestSlotIsGivenUpAtOnce
		b.Close()
	}
	made := 0
	for range bodies {
		if <-answers == http.StatusServiceUnavailable {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d made room for one", made)
	}
}

// Over the wire, too, a body that does not come is given up at once, and so is a
// WebSocket in which nothing is said.
func TestSlotIsGivenUpAtOnce(t *testing.T) {
	began := make(chan struct{})
	u := upstream(t, behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			began <- struct{}{}
			_, _ = rw.ReadByte()
			return
		}
		if r.Method == http.MethodPost {
			began <- struct{}{}
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})), io.Discard)
	u.slots = newSlots(1, 1)
	s := listen(t, ownCert(t), &turnstile{next: u, places: wire.NewPlaces[netip.Prefix](-1, -1)})
	for name, request := range map[string]string{
		"a body":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
		"a websocket": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n",
	} {
		c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}).DialContext(t.Context(), "tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		<-began
		u.slots.mu.Lock()
		for _, held := range u.slots.of {
			held[0].at = held[0].at.Add(-slotTime)
		}
		u.slots.mu.Unlock()
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "198.51.100.1:1"
		ctx, cancel := context.WithTimeout(t.Context(), sendTimeout*5/6) // by which a silent body would end itself
		w := httptest.NewRecorder()
		u.ServeHTTP(w, r.WithContext(ctx))
		if w.Code != http.StatusOK {
			t.Errorf("beside %s: %d", name, w.Code)
		}
		// And who held it hears of it, if only that.
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, nil)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case resp.StatusCode == http.StatusSwitchingProtocols:
			_, err = in.ReadByte()
		case resp.StatusCode != http.StatusServiceUnavailable:
			t.Errorf("%s is answered %d", name, resp.StatusCode)
		}
		if ctx.Err() != nil || resp != nil && resp.StatusCode == http.StatusSwitchingProtocols && err == nil {
			t.Errorf("%s went on, %v", name, ctx.Err())
		}
		cancel()
	}
}
