package dns

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/record"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The test vectors of RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	const a, b = "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715"
	for _, c := range []struct {
		name, secret, before, addr, got, want string
		now                                   int64
		good                                  bool
	}{
		{"a new one", a, "", "198.51.100.100", "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559731985, false},
		{"the same later", a, "", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "2464c4abcf10c957010000005cf7a871d4a564a1442aca77", 1559734385, true},
		{"reserved bits, renewed", a, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "fc93fc62807ddb86010000005cf7a871", 1559734385, false},
		{"the secret before", "445536bcd2513298075a5d379663c962", b, "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "22681ab97d52c298010000005cf7c609a6bb79d16625507a", 1559741961, true},
	} {
		now := time.Unix(c.now, 0)
		ours := &cookies{secret: [16]byte(unhex(t, c.secret)), since: now, fresh: c.before == ""}
		if c.before != "" {
			ours.before = [16]byte(unhex(t, c.before))
		}
		got, good := ours.answer(nil, unhex(t, c.got), netip.MustParseAddr(c.addr), now)
		if !bytes.HasPrefix(got, unhex(t, c.want)) || len(got) != clientCookie+serverCookie || good != c.good {
			t.Errorf("%s: %x, %v", c.name, got, good)
		}
	}
}

func TestCookieIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCookies()
		addr := netip.MustParseAddr("192.0.2.1")
		first, good := c.answer(nil, []byte("client's"), addr, time.Now())
		if good {
			t.Error("nothing was good")
		}
		ok := func(cookie []byte, addr string) bool {
			_, good := c.answer(nil, cookie, netip.MustParseAddr(addr), time.Now())
			return good
		}
		if !ok(first, "192.0.2.1") || !ok(first, "::ffff:192.0.2.1") {
			t.Error("own cookie refused")
		}
		if ok(first, "192.0.2.2") || newCookies().secret == c.secret {
			t.Error("another's cookie taken")
		}
		for i := range first {
			bad := slices.Clone(first)
			bad[i] ^= 1
			if ok(bad, "192.0.2.1") {
				t.Errorf("good with byte %d changed", i)
			}
		}
		if ok(first[:len(first)-1], "192.0.2.1") || ok(append(slices.Clone(first), 0), "192.0.2.1") {
			t.Error("good with another length")
		}
		again, _ := c.answer(nil, first, addr, time.Now())
		if !bytes.Equal(again, first) {
			t.Error("not the same cookie at the same time")
		}
		time.Sleep(cookieRenew + time.Second)
		renewed, good := c.answer(nil, first, addr, time.Now())
		if !good || bytes.Equal(renewed, first) {
			t.Error("not renewed after half an hour")
		}
		time.Sleep(cookieRenew)
		if ok(first, "192.0.2.1") {
			t.Error("good after an hour")
		}
		// The secret changes; cookies of the one before are good for as long as ever.
		time.Sleep(secretLife - cookieRenew - time.Hour)
		last, _ := c.answer(nil, []byte("client's"), addr, time.Now())
		time.Sleep(cookieRenew + time.Minute)
		secret := c.secret
		if !ok(last, "192.0.2.1") || c.secret == secret {
			t.Error("the secret did not change, or a cookie was lost with it")
		}
		// One that was never used since is not kept, either.
		time.Sleep(secretLife + cookieLife)
		if len(c.secrets(time.Now())) != 1 {
			t.Error("an old secret is still good")
		}
	})
}

// limited is a server that lets a network have two answers a second, ten at once.
func limited(t *testing.T) (*Server, []byte) {
	t.Helper()
	m := NewMemory(1 << 20)
	rec := record.NewTree(record.Large, random("l", record.Large.Payload())).Top()
	if err := m.Put(rec); err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: m, Rate: 2})
	if err != nil {
		t.Fatal(err)
	}
	return srv, appendQuery(nil, 7, record.NameOf(rec).Label()+"."+testZone, record.Large)
}

// withOption is a query made by appendQuery with one EDNS option.
func withOption(q []byte, code byte, data []byte) []byte {
	q = slices.Clone(q)
	q[len(q)-1] = byte(4 + len(data))
	return append(append(q, 0, code, 0, byte(len(data))), data...)
}

func parsed(t *testing.T, raw []byte) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("%x: %v", raw, err)
	}
	return m
}

// Over its rate a network gets TC, or BADCOOKIE if it knows cookies, no larger
// than what it sent; whoever shows a cookie or comes over TCP gets all.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, q := limited(t)
		from := func(addr string) peer { return peer{addr: netip.MustParseAddr(addr)} }
		full := func(p peer, q []byte) bool {
			resp := parsed(t, srv.respond(t.Context(), q, nil, p))
			if len(resp.Answer) == 0 && !resp.Truncated && resp.Rcode != mdns.RcodeBadCookie {
				t.Fatalf("neither an answer nor a refusal: %v", resp)
			}
			return len(resp.Answer) == 1
		}
		count := func(addr string, n int) (got int) {
			for range n {
				if full(from(addr), q) {
					got++
				}
			}
			return got
		}
		if got := count("192.0.2.1", 20); got != 10 {
			t.Errorf("%d answers at once, want 10", got)
		}
		for addr, want := range map[string]bool{
			"192.0.2.200": false, "::ffff:192.0.2.9": false, "192.0.3.1": true, "127.0.0.1": true, "::1": true, "2001:db8::1": true,
		} {
			if full(from(addr), q) != want {
				t.Errorf("%s: answered %v", addr, !want)
			}
		}
		count("2001:db8:0:100::1", 20)
		if full(from("2001:db8:0:1ff::5"), q) || !full(from("2001:db8:0:200::1"), q) {
			t.Error("a network of IPv6 is no /56")
		}
		if resp := srv.respond(t.Context(), q, nil, from("192.0.2.1")); len(resp) > len(q) {
			t.Errorf("%d bytes back for %d", len(resp), len(q))
		}
		if !full(peer{addr: netip.MustParseAddr("192.0.2.1"), stream: true, limit: 0xffff}, q) {
			t.Error("limited over TCP")
		}
		// What is no question of ours costs as much.
		other := appendQuery(nil, 7, "example.org", record.Large)
		if resp := srv.respond(t.Context(), other, nil, from("192.0.2.1")); resp[2]&2 == 0 || len(resp) > len(other) {
			t.Errorf("refusals are not limited: %x", resp)
		}
		// What can't be read gets no code that only EDNS could tell.
		spoiled := append(withOption(q, optCookie, []byte("client's")), 0)
		if resp := parsed(t, srv.respond(t.Context(), spoiled, nil, from("192.0.2.1"))); resp.Rcode != 0 || !resp.Truncated || resp.IsEdns0() != nil {
			t.Errorf("spoiled: %v", resp)
		}
		// A cookie of its own makes BADCOOKIE of TC; the one that comes with that is
		// good.
		resp := parsed(t, srv.respond(t.Context(), withOption(q, optCookie, []byte("client's")), nil, from("192.0.2.1")))
		if resp.Rcode != mdns.RcodeBadCookie || resp.Truncated {
			t.Fatalf("%v", resp)
		}
		cookie := unhex(t, resp.IsEdns0().Option[0].(*mdns.EDNS0_COOKIE).Cookie)
		for range 30 {
			if !full(from("192.0.2.1"), withOption(q, optCookie, cookie)) {
				t.Fatal("limited with a good cookie")
			}
		}
		if full(from("192.0.2.2"), withOption(q, optCookie, cookie)) {
			t.Error("another address's cookie lifts the limit")
		}
		time.Sleep(2 * time.Second)
		if got := count("192.0.2.1", 20); got != 4 {
			t.Errorf("%d answers after two seconds, want 4", got)
		}
	})
}

// A signature lifts no limit: anybody can name a key. Who has one is told, signed, to
// come again over TCP.
func TestRateOfSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := testKey(t, "second.example", goodSecret)
		srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone, Serial: 7}}, Store: NewMemory(1), Rate: 2, Keys: []*Key{second}})
		if err != nil {
			t.Fatal(err)
		}
		udp := peer{addr: netip.MustParseAddr("192.0.2.1")}
		asked := func(k *Key, p peer) (raw []byte, resp *mdns.Msg, size int, mac string) {
			t.Helper()
			q, mac, err := k.sign(ask(testZone+".", mdns.TypeSOA, false), "", false)
			if err != nil {
				t.Fatal(err)
			}
			raw = srv.respond(t.Context(), q, nil, p)
			return raw, parsed(t, raw), len(q), mac
		}
		for name, k := range map[string]*Key{
			"unknown": testKey(t, "x", strings.Repeat("x", 32)), "another secret": testKey(t, "second.example", strings.Repeat("x", 32)),
		} {
			refused := 0
			for range 50 {
				raw, resp, size, _ := asked(k, udp)
				switch {
				case resp.Rcode == mdns.RcodeNotAuth:
					refused++
				case !resp.Truncated || len(resp.Answer) > 0 || len(raw) > size:
					t.Fatalf("%s: %d bytes for %d: %v", name, len(raw), size, resp)
				}
			}
			if refused != 10 {
				t.Errorf("%s: told so %d times at once, want 10", name, refused)
			}
			raw, resp, size, mac := asked(second, udp)
			if _, err := second.verify(raw, resp, mac); err != nil || !resp.Truncated || len(resp.Answer) > 0 || len(raw) > size {
				t.Errorf("the right one, over the rate: %v, %v", resp, err)
			}
			_, resp, _, _ = asked(second, peer{addr: udp.addr, stream: true, limit: 0xffff})
			if len(resp.Answer) != 1 {
				t.Errorf("the right one, over TCP: %v", resp)
			}
			time.Sleep(10 * time.Second)
			raw, resp, _, mac = asked(second, udp)
			if _, err := second.verify(raw, resp, mac); err != nil || resp.Truncated || len(resp.Answer) != 1 {
				t.Errorf("the right one, within the rate: %v, %v", resp, err)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

// TestAmplification writes down how much comes back for what was sent to an
// address that was not verified, with the 28 bytes of IPv4 and UDP headers.
func TestAmplification(t *testing.T) {
	srv, q := limited(t)
	p := peer{addr: netip.MustParseAddr("192.0.2.1")}
	resp := srv.respond(t.Context(), q, nil, p)
	const headers = 28
	times := float64(len(resp)+headers) / float64(len(q)+headers)
	if times > 13 {
		t.Errorf("%d bytes for %d", len(resp), len(q))
	}
	t.Logf("a full record: %d bytes for %d and %d of headers each, %.1f times as many", len(resp), len(q), headers, times)
	for range 2 * rateBurst {
		resp = srv.respond(t.Context(), q, nil, p)
	}
	if len(resp) > len(q) {
		t.Errorf("%d bytes for %d", len(resp), len(q))
	}
	t.Logf("over the rate: %d bytes for %d", len(resp), len(q))
}

// TestEDNS: what RFC 6891, 7873 and 7828 want of a server, asked as the wire has
// it.
func TestEDNS(t *testing.T) {
	srv, q := limited(t)
	udp := peer{addr: netip.MustParseAddr("127.0.0.1")}
	tcp := peer{addr: udp.addr, stream: true, limit: 0xffff, idle: tcpIdle}
	change := func(f func(q []byte) []byte) []byte { return f(slices.Clone(q)) }
	opt := len(q) - 11
	empty := withOption(append(slices.Concat(q[:4], make([]byte, 7), []byte{1}), q[opt:]...), optCookie, []byte("client's"))
	for name, c := range map[string]struct {
		q       []byte
		p       peer
		rcode   int
		options []uint16
		answer  bool
	}{
		"NSID is off":              {withOption(q, 3, nil), udp, 0, nil, true},
		"unknown option":           {withOption(q, 200, []byte("abc")), udp, 0, nil, true},
		"cookie":                   {withOption(q, optCookie, []byte("client's")), udp, 0, []uint16{optCookie}, true},
		"cookie of another server": {withOption(q, optCookie, []byte("client's and the server's")), udp, 0, []uint16{optCookie}, true},
		"cookie cut":               {withOption(q, optCookie, []byte("short")), udp, mdns.RcodeFormatError, nil, false},
		"cookie of 9":              {withOption(q, optCookie, []byte("nine byte")), udp, mdns.RcodeFormatError, nil, false},
		"cookie and no question":   {empty, udp, 0, []uint16{optCookie}, false},
		"option over the end":      {change(func(q []byte) []byte { q[len(q)-1] = 4; return append(q, 0, 3, 0, 9) }), udp, mdns.RcodeFormatError, nil, false},
		"keepalive over UDP":       {withOption(q, optAlive, nil), udp, 0, nil, true},
		"keepalive over TCP":       {withOption(q, optAlive, nil), tcp, 0, []uint16{optAlive}, true},
		"version 1":                {change(func(q []byte) []byte { q[opt+6] = 1; return q }), udp, mdns.RcodeBadVers, nil, false},
		"two of them":              {change(func(q []byte) []byte { q[11] = 2; return append(q, q[opt:]...) }), udp, mdns.RcodeFormatError, nil, false},
		"not of the root":          {change(func(q []byte) []byte { return slices.Concat(q[:opt], []byte{1, 'x'}, q[opt:]) }), udp, mdns.RcodeFormatError, nil, false},
		"one less than counted":    {change(func(q []byte) []byte { return q[:opt] }), udp, mdns.RcodeFormatError, nil, false},
		"something behind":         {append(slices.Clone(q), 0), udp, mdns.RcodeFormatError, nil, false},
		"another class":            {change(func(q []byte) []byte { q[opt-1] = 3; return q }), udp, mdns.RcodeRefused, nil, false},
		"another opcode":           {change(func(q []byte) []byte { q[2] |= 5 << 3; return q }), udp, mdns.RcodeNotImplemented, nil, false},
		"two questions":            {change(func(q []byte) []byte { q[5] = 2; return slices.Insert(q, opt, q[headerLen:opt]...) }), udp, mdns.RcodeFormatError, nil, false},
	} {
		raw := srv.respond(t.Context(), c.q, nil, c.p)
		resp := parsed(t, raw)
		o := resp.IsEdns0()
		var options []uint16
		if o != nil {
			for _, x := range o.Option {
				options = append(options, x.Option())
			}
		}
		if got := resp.Rcode; got != c.rcode || (len(resp.Answer) == 1) != c.answer || !slices.Equal(options, c.options) {
			t.Errorf("%s: %v", name, resp)
		}
		// Whoever speaks EDNS is answered in it, unless it can't be read.
		if (o == nil) != (c.rcode == mdns.RcodeFormatError) || o != nil && (o.Version() != 0 || o.UDPSize() != ednsSize) {
			t.Errorf("%s: EDNS %v", name, o)
		}
	}
	for _, do := range []byte{0, 0x80} {
		resp := parsed(t, srv.respond(t.Context(), change(func(q []byte) []byte { q[opt+7] = do; return q }), nil, udp))
		if resp.IsEdns0().Do() != (do != 0) || resp.AuthenticatedData {
			t.Errorf("DO %v: %v", do != 0, resp)
		}
	}
	// A full record and a cookie still fit.
	if resp := srv.respond(t.Context(), withOption(q, optCookie, []byte("client's")), nil, udp); len(resp) > ednsSize || resp[2]&2 != 0 {
		t.Errorf("%d bytes with a cookie", len(resp))
	}
}
