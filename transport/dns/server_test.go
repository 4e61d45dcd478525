package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

// The server is checked with a DNS library that it does not use itself.
func exchange(t *testing.T, addr, network string, q *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := &mdns.Client{Net: network, UDPSize: 4096}
	resp, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Id != q.Id || !resp.Response || resp.RecursionAvailable || !slices.Equal(resp.Question, q.Question) {
		t.Fatalf("response does not fit the question: %v", resp)
	}
	return resp
}

func ask(name string, qtype uint16, edns bool) *mdns.Msg {
	q := new(mdns.Msg).SetQuestion(name, qtype)
	if edns {
		q.SetEdns0(1232, false)
	}
	return q
}

// txtBytes joins TXT strings, undoing the library's presentation form.
func txtBytes(t *testing.T, rr mdns.RR) []byte {
	t.Helper()
	txt, ok := rr.(*mdns.TXT)
	if !ok {
		t.Fatalf("not TXT: %v", rr)
	}
	var out []byte
	for _, s := range txt.Txt {
		for i := 0; i < len(s); i++ {
			switch {
			case s[i] == '\\' && i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '2':
				out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
				i += 3
			case s[i] == '\\':
				i++
				out = append(out, s[i])
			default:
				out = append(out, s[i])
			}
		}
	}
	return out
}

func TestServer(t *testing.T) {
	w := newWorld(t)
	srv, err := NewServer(ServerConfig{Store: w.store, Zones: []Zone{
		{Name: "NEWS.test.", Serial: 7, NS: []NS{{Host: "a.ns.news.test", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}}},
		{Name: "other.example"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	addr := start(t, w.nw, srv)
	name := w.e.Names()["front"].Large.Label()
	for _, network := range []string{"udp", "tcp"} {
		// A record, asked for in mixed case, in any zone; its bytes are exact.
		for _, zone := range []string{"news.test.", "Other.eXample."} {
			resp := exchange(t, addr, network, ask(strings.ToUpper(name)+"."+zone, mdns.TypeTXT, true))
			if !resp.Authoritative || len(resp.Answer) != 1 || resp.Answer[0].Header().Ttl != 86400 {
				t.Fatalf("%s: %v", network, resp)
			}
			if got := txtBytes(t, resp.Answer[0]); record.NameOf(got).Label() != name {
				t.Errorf("%s: %d bytes with another hash", network, len(got))
			}
		}
		for _, label := range []string{w.ch.Label(), "zufall." + w.ch.Label(), "a.b." + w.ch.Label()} {
			resp := exchange(t, addr, network, ask(label+".news.test.", mdns.TypeTXT, true))
			if len(resp.Answer) != 1 || resp.Answer[0].Header().Ttl != 60 || !bytes.Equal(txtBytes(t, resp.Answer[0]), w.head.Compact()) {
				t.Errorf("head: %v", resp)
			}
		}
		// Apex.
		if resp := exchange(t, addr, network, ask("news.test.", mdns.TypeSOA, true)); len(resp.Answer) != 1 || resp.Answer[0].(*mdns.SOA).Serial != 7 {
			t.Errorf("SOA: %v", resp)
		}
		if resp := exchange(t, addr, network, ask("news.test.", mdns.TypeNS, true)); len(resp.Answer) != 1 || resp.Answer[0].(*mdns.NS).Ns != "a.ns.news.test." {
			t.Errorf("NS: %v", resp)
		}
		for qtype, want := range map[uint16]string{mdns.TypeA: "192.0.2.1", mdns.TypeAAAA: "2001:db8::1"} {
			if resp := exchange(t, addr, network, ask("a.ns.news.test.", qtype, true)); len(resp.Answer) != 1 || !strings.HasSuffix(resp.Answer[0].String(), want) {
				t.Errorf("glue: %v", resp)
			}
		}
		// What there is not: NXDOMAIN for names, no data for types, with the SOA.
		for q, rcode := range map[*mdns.Msg]int{
			ask("nothing.news.test.", mdns.TypeTXT, true):                                    mdns.RcodeNameError,
			ask("x."+name+".news.test.", mdns.TypeTXT, true):                                 mdns.RcodeNameError,
			ask(record.NameOf([]byte("nothing")).Label()+".news.test.", mdns.TypeTXT, false): mdns.RcodeNameError,
			ask(strings.Repeat("a", 63)+".news.test.", mdns.TypeTXT, true):                   mdns.RcodeNameError,
			ask("news.test.", mdns.TypeTXT, true):                                            mdns.RcodeSuccess,
			ask("ns.news.test.", mdns.TypeA, true):                                           mdns.RcodeSuccess,
			ask(w.ch.Label()+".news.test.", mdns.TypeA, true):                                mdns.RcodeSuccess,
			ask(name+".news.test.", mdns.TypeAAAA, true):                                     mdns.RcodeSuccess,
			ask(w.ch.RootLabel(1)+".news.test.", mdns.TypeNS, true):                          mdns.RcodeSuccess,
			ask(`a\.ns.news.test.`, mdns.TypeA, true):                                        mdns.RcodeNameError,
			ask(`x\.`+w.ch.Label()+".news.test.", mdns.TypeTXT, true):                        mdns.RcodeNameError,
			ask(`_dnslink\.`+w.ch.Label()+".news.test.", mdns.TypeTXT, true):                 mdns.RcodeNameError,
			ask("_dmarc.deep.below.nothing.news.test.", mdns.TypeMX, true):                   mdns.RcodeNameError,
		} {
			resp := exchange(t, addr, network, q)
			if resp.Rcode != rcode || len(resp.Answer) != 0 || len(resp.Ns) != 1 || !resp.Authoritative {
				t.Errorf("%v: %v", q.Question, resp)
				continue
			}
			if soa := resp.Ns[0].(*mdns.SOA); soa.Minttl != 60 || soa.Hdr.Ttl != 60 || soa.Hdr.Name != "news.test." {
				t.Errorf("%v: %v", q.Question, soa)
			}
		}
		// Not ours, or not understood.
		chaos := ask("version.bind.", mdns.TypeTXT, false)
		chaos.Question[0].Qclass = mdns.ClassCHAOS
		badvers := ask("news.test.", mdns.TypeSOA, true)
		badvers.IsEdns0().SetVersion(9)
		update := ask("news.test.", mdns.TypeSOA, false)
		update.Opcode = mdns.OpcodeNotify
		for q, rcode := range map[*mdns.Msg]int{
			ask("example.org.", mdns.TypeA, true):  mdns.RcodeRefused,
			ask(`news\.test.`, mdns.TypeSOA, true): mdns.RcodeRefused,
			ask(`x.news\.test.`, mdns.TypeA, true): mdns.RcodeRefused,
			ask("test.", mdns.TypeA, true):         mdns.RcodeRefused,
			ask(".", mdns.TypeNS, true):            mdns.RcodeRefused,
			ask("xnews.test.", mdns.TypeA, true):   mdns.RcodeRefused,
			chaos:                                  mdns.RcodeRefused,
			badvers:                                mdns.RcodeBadVers,
		} {
			if resp := exchange(t, addr, network, q); resp.Rcode != rcode || len(resp.Answer)+len(resp.Ns) != 0 {
				t.Errorf("%v: %v", q.Question, resp)
			}
		}
		c := &mdns.Client{Net: network}
		if resp, _, err := c.Exchange(update, addr); err != nil || resp.Rcode != mdns.RcodeNotImplemented {
			t.Errorf("notify: %v, %v", resp, err)
		}
	}
}

// On a machine with several addresses each answer comes from the one that was asked, as
// resolvers want it.
func TestAnswersComeFromWhereAsked(t *testing.T) {
	w := newWorld(t)
	for _, open := range []string{":0", "0.0.0.0:0", "[::]:0", "127.0.0.1:0"} {
		t.Run(open, func(t *testing.T) {
			srv, err := NewServer(ServerConfig{Store: w.store, Zones: []Zone{{Name: testZone}}})
			if err != nil {
				t.Fatal(err)
			}
			pc, ln, err := Listen(t.Context(), w.nw, open)
			if err != nil {
				t.Skipf("can't listen on %s: %v", open, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- srv.Serve(ctx, pc, ln) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			_, port, err := net.SplitHostPort(pc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			// A whole 127.0.0.0/8 is a machine's own on Linux only.
			ask := []string{"127.0.0.1", "127.0.1.9", "::1"}
			switch {
			case open == "127.0.0.1:0":
				ask = ask[:1]
			case runtime.GOOS != "linux":
				t.Skip("only Linux answers for several addresses of loopback unasked")
			case open == "0.0.0.0:0" || !hasIPv6():
				ask = ask[:2]
			}
			for _, host := range ask {
				c, err := net.Dial("udp", net.JoinHostPort(host, port)) // takes nothing from elsewhere
				if err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := c.Write(appendQuery(nil, 7, w.ch.Label()+"."+testZone, record.Large)); err != nil {
					t.Fatal(err)
				}
				n, err := c.Read(make([]byte, 2048))
				if err != nil || n < 200 {
					t.Errorf("asked at %s: %d bytes, %v", host, n, err)
				}
				c.Close()
			}
		})
	}
}

func hasIPv6() bool {
	pc, err := net.ListenPacket("udp", "[::1]:0")
	if err == nil {
		pc.Close()
	}
	return err == nil
}

// The sizes that the design promises: a full record in 1,232, a full small one
// in 512 without EDNS, with the longest zone name and the random label.
func TestAnswersFit(t *testing.T) {
	m := NewMemory(1 << 20)
	zone := strings.Repeat("z", 27) + ".onion" // 33 characters
	large := record.NewTree(record.Large, random("l", record.Large.Payload())).Top()
	small := record.NewTree(record.Small, random("s", record.Small.Payload())).Top()
	for _, rec := range [][]byte{large, small} {
		if err := m.Put(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.PutNamed("aaaaaaaaaaaaa-s0", small); err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: zone}}, Store: m})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		label string
		class record.Class
		limit int
	}{
		{record.NameOf(large).Label(), record.Large, ednsSize},
		{record.NameOf(small).Label(), record.Small, plainSize},
		{"12345678.aaaaaaaaaaaaa-s0", record.Small, plainSize},
	} {
		resp := srv.respond(t.Context(), appendQuery(nil, 1, q.label+"."+zone, q.class), nil, peer{})
		if len(resp) > q.limit || resp[2]&2 != 0 || resp[7] != 1 {
			t.Errorf("%v: %d bytes, TC %d, %d answers", q.class, len(resp), resp[2]&2, resp[7])
		}
		t.Logf("%v: %d bytes", q.class, len(resp))
	}
	// The same large record without EDNS is cut.
	q := appendQuery(nil, 1, record.NameOf(large).Label()+"."+zone, record.Large)
	q[11] = 0
	if resp := srv.respond(t.Context(), q[:len(q)-11], nil, peer{}); resp[2]&2 == 0 || resp[7] != 0 || len(resp) > plainSize {
		t.Errorf("without EDNS: %d bytes, TC %d", len(resp), resp[2]&2)
	}
}

type brokenStore struct{}

func (brokenStore) Record(context.Context, record.Name) ([]byte, error) {
	return nil, errors.New("disk")
}
func (brokenStore) Named(context.Context, string) ([]byte, error) { return nil, errors.New("disk") }

func TestStoreFails(t *testing.T) {
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: brokenStore{}})
	if err != nil {
		t.Fatal(err)
	}
	if resp := srv.respond(t.Context(), appendQuery(nil, 1, "x."+testZone, record.Large), nil, peer{}); resp[3]&15 != 2 {
		t.Errorf("rcode %d, want SERVFAIL", resp[3]&15)
	}
}

// What is not a query is not answered, over TCP it ends the connection; and the
// server goes on.
func TestServerGarbage(t *testing.T) {
	w := newWorld(t).serve()
	for _, garbage := range [][]byte{{}, {1}, random("g", 11), append([]byte{0, 1, 0x80, 0}, make([]byte, 20)...), {0xff, 0xff, 0, 0, 0}} {
		for _, network := range []string{"udp", "tcp"} {
			conn, err := net.Dial(network, w.addr)
			if err != nil {
				t.Fatal(err)
			}
			if network == "tcp" {
				_ = writeFrame(conn, garbage)
				if n, err := io.Copy(io.Discard, conn); n != 0 {
					t.Errorf("%d bytes in answer to %x, %v", n, garbage, err)
				}
			} else {
				_, _ = conn.Write(garbage)
			}
			_ = conn.Close()
		}
	}
	w.heads(testContext(t), w.client())
}

// Connections over the limit are closed at once; the others stay.
func TestServerTCPLimit(t *testing.T) {
	w := newWorld(t)
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: w.store, MaxTCP: 2})
	if err != nil {
		t.Fatal(err)
	}
	addr := start(t, w.nw, srv)
	q := appendQuery(nil, 5, w.ch.Label()+"."+testZone, record.Large)
	var conns []net.Conn
	answered := 0
	for range 3 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		_ = writeFrame(conn, q)
		if resp, err := readFrame(conn, make([]byte, maxMessage)); err == nil && len(resp) > 0 {
			answered++
		}
	}
	if answered != 2 {
		t.Errorf("%d of %d connections served, limit 2", answered, len(conns))
	}
}

func TestMemoryLimit(t *testing.T) {
	m := NewMemory(1000)
	if err := m.Put(random("a", 500)); err != nil {
		t.Fatal(err)
	}
	if err := m.Put(random("a", 500)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := m.Put(random("b", 500)); !errors.Is(err, ErrFull) {
		t.Errorf("over the limit: %v", err)
	}
	for range 100 {
		if err := m.PutNamed("head", random("h", 300)); err != nil {
			t.Fatalf("replacing: %v", err)
		}
	}
	if _, err := m.Named(t.Context(), "x"); !errors.Is(err, transport.ErrNotFound) {
		t.Error(err)
	}
}

// queries are what a server may be asked, well-formed or not.
func queries(f *testing.F) [][]byte {
	files, err := filepath.Glob("testdata/queries/*.bin")
	if err != nil || len(files) < 20 {
		f.Fatalf("%d queries to begin with, %v", len(files), err)
	}
	var out [][]byte
	for _, file := range files {
		q, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, q)
	}
	return out
}

// FuzzRespond: over UDP nothing is larger than what fits, nor than what came if
// the network has had enough; and all of it can be read.
func FuzzRespond(f *testing.F) {
	m := NewMemory(1 << 20)
	_ = m.PutNamed("head", random("head", 1000))
	zones := []Zone{{Name: testZone, NS: []NS{{Host: "ns." + testZone, Addrs: []netip.Addr{netip.IPv4Unspecified()}}}}}
	srv, err := NewServer(ServerConfig{Zones: zones, Store: m, Rate: -1})
	if err != nil {
		f.Fatal(err)
	}
	strict, err := NewServer(ServerConfig{Zones: zones, Store: m, Rate: 1})
	if err != nil {
		f.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	for _, b := range strict.rates.buckets {
		b.SetBurst(0) // everybody has had enough
	}
	for _, q := range queries(f) {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, req []byte) {
		udp := srv.respond(t.Context(), req, nil, peer{addr: addr})
		tcp := srv.respond(t.Context(), req, nil, peer{addr: addr, stream: true, limit: 0xffff, idle: tcpIdle})
		less := strict.respond(t.Context(), req, nil, peer{addr: addr})
		if (udp == nil) != (tcp == nil) || (udp == nil) != (less == nil) {
			t.Fatal("answered here, dropped there")
		}
		// A cookie is all that may come on top, where one was asked for.
		if room := clientCookie + serverCookie; len(udp) > ednsSize || len(less) > len(req)+room {
			t.Fatalf("%d bytes, or %d, for %d", len(udp), len(less), len(req))
		}
		for _, resp := range [][]byte{udp, tcp, less} {
			if resp == nil {
				continue
			}
			if resp[2]&0x80 == 0 || !bytes.Equal(resp[:2], req[:2]) {
				t.Fatalf("response %x", resp)
			}
			if resp[11] == 0 && resp[3]&15 > 5 {
				t.Fatalf("a code that needs EDNS without it: %x", resp)
			}
			// Names with odd bytes are legal on the wire and refused by some parsers; all
			// others must parse.
			if new(mdns.Msg).Unpack(req) == nil {
				if err := new(mdns.Msg).Unpack(resp); err != nil {
					t.Fatalf("%x: %v", resp, err)
				}
			}
		}
	})
}

// FuzzSigned: with a signature or without, nothing that is sent brings the server
// down, or gets more than fits out of it.
func FuzzSigned(f *testing.F) {
	m := NewMemory(1 << 20)
	_ = m.PutNamed("head", random("head", 1000))
	key, err := ParseKey("hmac-sha512:a.key.with.a.long.name.example:" + strings.Repeat("QUJD", 16))
	if err != nil {
		f.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: &versioned{Memory: m, serial: 7}, Keys: []*Key{key}})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []*mdns.Msg{axfr(), ask("head."+testZone+".", mdns.TypeTXT, true), ask(testZone+".", mdns.TypeSOA, false), new(mdns.Msg).SetIxfr(testZone+".", 6, "a.", "b.")} {
		raw, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		if raw, _, err = key.sign(q, "", false); err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, req []byte) {
		for range 2 {
			resp := srv.respond(t.Context(), req, nil, peer{})
			if resp != nil && (len(resp) > ednsSize || resp[2]&0x80 == 0) {
				t.Fatalf("response of %d bytes: %x", len(resp), resp)
			}
			if asksForZone(req) {
				client, server := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, client) }()
				_ = srv.transfer(t.Context(), server, req) // of nonsense
				server.Close()
				client.Close()
			}
			// The same again, by somebody who has the key.
			q := new(mdns.Msg)
			if q.Unpack(req) != nil {
				return
			}
			if req, _, err = key.sign(q, "", false); err != nil {
				return
			}
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	q := appendQuery(nil, 1, "head."+testZone, record.Large)
	f.Add(withTXT(q, []byte("a record")))
	f.Add(withA(q))
	f.Add(withCode(q, 3))
	f.Fuzz(func(t *testing.T, msg []byte) {
		a, err := readAnswer(msg, "head."+testZone)
		if err == nil && (a.kind == answerRecords) != (len(a.txt) > 0) || len(a.txt) > maxCandidates {
			t.Fatalf("%+v", a)
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	m := NewMemory(1 << 20)
	rec := record.NewTree(record.Large, random("l", record.Large.Payload())).Top()
	_ = m.Put(rec)
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: m})
	if err != nil {
		b.Fatal(err)
	}
	q := appendQuery(nil, 1, record.NameOf(rec).Label()+"."+testZone, record.Large)
	out := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if len(srv.respond(b.Context(), q, out, peer{})) < len(rec) {
			b.Fatal("no answer")
		}
	}
}
