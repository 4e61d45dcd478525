package censor

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// query is a query for text, in wire form.
func query(t *testing.T, id uint16, name string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeTXT)
	m.Id = id
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answerer is an honest resolver: it answers every question with the text that
// f gives for its name.
func answerer(t *testing.T, f func(name string) []string) func([]byte) []byte {
	return func(b []byte) []byte {
		var q dns.Msg
		if err := q.Unpack(b); err != nil {
			t.Errorf("resolver got junk: %v", err)
			return nil
		}
		m := new(dns.Msg)
		m.SetReply(&q)
		m.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60},
			Txt: f(q.Question[0].Name),
		}}
		m.Compress = true
		out, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

func unpack(t *testing.T, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer %x: %v", b, err)
	}
	return m
}

// text joins the text of the first answer.
func text(m *dns.Msg) string {
	if len(m.Answer) == 0 {
		return ""
	}
	if txt, ok := m.Answer[0].(*dns.TXT); ok {
		return strings.Join(txt.Txt, "")
	}
	return ""
}

func TestForgedAnswers(t *testing.T) {
	scene(t, "dns-inject", func(w *world) {
		w.serveUDP(resolverTo, answerer(t, func(string) []string { return []string{"the truth"} }))
		c, err := w.c.Dial(w.soon(), "udp", resolverTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		if _, err := c.Write(query(t, 7, "a."+newsZone)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(start.Add(patience))
		var kinds []uint16
		no := 0
		for {
			buf := make([]byte, 1500)
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("the true answer never came: %v", err)
			}
			m := unpack(t, buf[:n])
			if m.Id != 7 || len(m.Question) != 1 || m.Question[0].Name != "a."+newsZone+"." || len(m.Answer) > 1 {
				t.Fatalf("answer to something else: %v", m)
			}
			if text(m) == "the truth" {
				break
			}
			if d := time.Since(start); d > rtt/2 {
				t.Errorf("forged answer after %v", d)
			}
			if m.Rcode == dns.RcodeNameError {
				no++
				continue
			}
			kinds = append(kinds, m.Answer[0].Header().Rrtype)
		}
		if !slices.Equal(kinds, []uint16{dns.TypeA, dns.TypeTXT, dns.TypeTXT}) || no != 1 || w.did(Inject) != 4 {
			t.Errorf("forged: %v, and %d times no", kinds, no)
		}
		b, err := w.ask(resolverTo, query(t, 8, "free.example"))
		if err != nil || text(unpack(t, b)) != "the truth" {
			t.Errorf("another zone: %v", err)
		}
	})
}

func TestHostileResolver(t *testing.T) {
	scene(t, "dns-hostile", func(w *world) {
		w.serveUDP(resolverTo, answerer(t, func(name string) []string {
			switch {
			case strings.HasPrefix(strings.ToLower(name), "large"):
				return []string{strings.Repeat("x", 250), strings.Repeat("x", 250)}
			case strings.HasPrefix(strings.ToLower(name), "bytes"):
				return []string{`a\200\255b`}
			}
			return []string{"fine"}
		}))
		w.serveTCP(resolverTo, echo)
		if _, err := w.c.Dial(w.soon(), "tcp", resolverTo.String()); err == nil {
			t.Error("TCP to the resolver is open")
		}
		ask := func(name string) *dns.Msg {
			b, err := w.ask(resolverTo, query(t, 9, name))
			if err != nil {
				return nil
			}
			time.Sleep(200 * time.Millisecond)
			return unpack(t, b)
		}
		if m := ask("small." + newsZone); m == nil || text(m) != "fine" || !strings.EqualFold(m.Question[0].Name, "small."+newsZone+".") {
			t.Errorf("small answer: %v", m)
		}
		if m := ask("large." + newsZone); m == nil || !m.Truncated || len(m.Answer) != 0 {
			t.Errorf("answer over 512 bytes: %v", m)
		}
		if m := ask("bytes." + newsZone); m == nil || text(m) != "a??b" {
			t.Errorf("bytes over 127: %v", m)
		}
		long := strings.Repeat("l", 72-len(newsZone)-1-20) + "." + strings.Repeat("m", 19) + "." + newsZone
		if m := ask(long); len(long) != 72 || m == nil {
			t.Errorf("name of %d characters: %v", len(long), m)
		}
		if m := ask("x" + long); m != nil {
			t.Errorf("name of 73 characters: %v", m)
		}
		mixed := false
		for range 5 {
			m := ask("letters.of.the.case." + newsZone)
			mixed = mixed || m.Question[0].Name != strings.ToLower(m.Question[0].Name)
		}
		if !mixed {
			t.Error("letter case never changed")
		}
		time.Sleep(time.Hour)
		codes := map[int]int{}
		for range 30 { // each is asked 100 ms after the one before: the first two are free
			b, err := w.ask(resolverTo, query(t, 9, "fast."+newsZone))
			if err != nil {
				t.Fatal(err)
			}
			codes[unpack(t, b).Rcode]++
		}
		if codes[dns.RcodeRefused] != 0 {
			t.Errorf("10 queries a second: %v", codes)
		}
		c, err := w.c.Dial(w.soon(), "udp", resolverTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(time.Minute + time.Second)
		for range 30 {
			_, _ = c.Write(query(t, 9, "burst."+newsZone))
		}
		clear(codes)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for range 30 {
			buf := make([]byte, 1500)
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			codes[unpack(t, buf[:n]).Rcode]++
		}
		if codes[dns.RcodeRefused] != 20 || codes[dns.RcodeSuccess] != 10 {
			t.Errorf("30 queries at once: %v", codes)
		}
	})
}

func TestZoneCoolsDown(t *testing.T) {
	scene(t, "dns-hostile", func(w *world) {
		w.serveUDP(resolverTo, answerer(t, func(string) []string { return []string{"fine"} }))
		ask := func(name string) int {
			b, err := w.ask(resolverTo, query(t, 9, name))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			return unpack(t, b).Rcode
		}
		for i := range 200 {
			if code := ask("a." + newsZone); code != 0 {
				t.Fatalf("query %d: code %d", i, code)
			}
		}
		if code := ask("b." + newsZone); code != dns.RcodeServerFailure {
			t.Errorf("query 201: code %d", code)
		}
		if code := ask("a.second.example"); code != 0 {
			t.Errorf("another zone: code %d", code)
		}
		time.Sleep(time.Minute)
		if code := ask("a." + newsZone); code != 0 {
			t.Errorf("a minute later: code %d", code)
		}
	})
}

func TestResolverKeeps(t *testing.T) {
	scene(t, "dns-ttl", func(w *world) {
		turn := 0
		honest := answerer(t, func(string) []string {
			turn++
			return []string{strings.Repeat("v", turn)}
		})
		w.serveUDP(resolverTo, honest)
		w.serveTCP(resolverTo, func(c net.Conn) {
			var n [2]byte
			for {
				if _, err := io.ReadFull(c, n[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(n[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				b = honest(b)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
		})
		ask := func(name string) string {
			id := uint16(turn + 100)
			b, err := w.ask(resolverTo, query(t, id, name))
			if err != nil {
				t.Fatal(err)
			}
			m := unpack(t, b)
			if m.Id != id || m.Question[0].Name != name+"." {
				t.Errorf("answer to something else: %v", m)
			}
			return text(m)
		}
		first := ask("head." + newsZone)
		time.Sleep(59 * time.Minute)
		if got := ask("HEAD." + newsZone); got != first {
			t.Errorf("after 59 minutes %q, want %q", got, first)
		}
		if got := ask("xyz.head." + newsZone); got == first {
			t.Error("another name got the old answer")
		}
		c, err := w.c.Dial(w.soon(), "tcp", resolverTo.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// Two queries in one piece, the second cut in the midst.
		q := query(t, 3, "head."+newsZone)
		frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
		both := append(bytes.Clone(frame), frame...)
		_, _ = c.Write(both[:len(frame)+5])
		_, _ = c.Write(both[len(frame)+5:])
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for range 2 {
			var n [2]byte
			if _, err := io.ReadFull(c, n[:]); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, binary.BigEndian.Uint16(n[:]))
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
			if got := text(unpack(t, b)); got != first {
				t.Errorf("over TCP %q, want %q", got, first)
			}
		}
		time.Sleep(2 * time.Minute)
		if got := ask("head." + newsZone); got == first {
			t.Error("after more than an hour still the same")
		}
	})
}

func TestLyingResolver(t *testing.T) {
	scene(t, "evil-resolver", func(w *world) {
		const truth = "a record that is long enough for a lie to show"
		honest := answerer(t, func(name string) []string { return []string{truth, name} })
		w.serveUDP(resolverTo, honest)
		other := relayTo
		w.serveUDP(other, honest)
		kinds := map[string]int{}
		for i := range 60 {
			name := string(rune('a'+i%20)) + "." + newsZone
			b, err := w.ask(resolverTo, query(t, uint16(i), name))
			if err != nil {
				t.Fatal(err)
			}
			var m dns.Msg
			switch err := m.Unpack(b); {
			case err != nil || m.Answer == nil:
				kinds["cut"]++
			case text(&m) == truth+name+".":
				t.Errorf("the truth, for %s", name)
			case strings.HasPrefix(text(&m), truth):
				kinds["another's"]++
			default:
				kinds["spoiled"]++
			}
		}
		if kinds["cut"] < 5 || kinds["another's"] < 5 || kinds["spoiled"] < 15 {
			t.Errorf("lies: %v", kinds)
		}
		b, err := w.ask(other, query(t, 1, "a."+newsZone))
		if err != nil || text(unpack(t, b)) != truth+"a."+newsZone+"." {
			t.Errorf("an honest resolver: %v", err)
		}
	})
}
