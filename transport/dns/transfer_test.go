package dns

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// versioned is a Memory that counts versions.
type versioned struct {
	*Memory
	mu     sync.Mutex
	serial uint32
	newer  chan struct{}
	held   int // snapshots
}

var _ Versioned = (*versioned)(nil)

func (v *versioned) Version() (uint32, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.serial, v.newer
}

func (v *versioned) Snapshot() (*Snapshot, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held++
	return &Snapshot{Serial: v.serial, Entries: v.All(), Release: func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.held--
	}}, nil
}

func (v *versioned) next() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.serial++
	close(v.newer)
	v.newer = make(chan struct{})
}

func testKey(t *testing.T, name, secret string) *Key {
	t.Helper()
	k, err := ParseKey("hmac-sha256:" + name + ":" + base64.StdEncoding.EncodeToString([]byte(secret)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const goodSecret = "a secret of thirty-two bytes ..."

// primary serves newWorld's edition to whoever has the key "second".
func primary(t *testing.T) (*world, *versioned, *Server) {
	t.Helper()
	w := newWorld(t)
	v := &versioned{Memory: w.store, serial: 7, newer: make(chan struct{})}
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: v, Keys: []*Key{testKey(t, "Second.Example", goodSecret), testKey(t, "other", strings.Repeat("o", 32))}})
	if err != nil {
		t.Fatal(err)
	}
	w.addr = start(t, w.nw, srv)
	return w, v, srv
}

func axfr() *mdns.Msg { return new(mdns.Msg).SetAxfr(testZone + ".") }

// fetchZone fetches a zone with another implementation, and returns its TXT data
// by name and how many SOAs there were.
func fetchZone(t *testing.T, addr string, q *mdns.Msg) (txt map[string][]byte, soas []uint32, others int) {
	t.Helper()
	q.SetTsig("second.example.", mdns.HmacSHA256, 300, time.Now().Unix())
	tr := &mdns.Transfer{TsigSecret: map[string]string{"second.example.": base64.StdEncoding.EncodeToString([]byte(goodSecret))}}
	ch, err := tr.In(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	txt = map[string][]byte{}
	messages := 0
	for env := range ch {
		if env.Error != nil {
			t.Fatal(env.Error)
		}
		messages++
		for _, rr := range env.RR {
			switch rr := rr.(type) {
			case *mdns.SOA:
				soas = append(soas, rr.Serial)
			case *mdns.TXT:
				if _, ok := txt[rr.Hdr.Name]; ok {
					t.Errorf("%s twice", rr.Hdr.Name)
				}
				txt[rr.Hdr.Name] = txtBytes(t, rr)
			default:
				others++
			}
		}
	}
	if len(txt) > 0 && messages < 3 {
		t.Errorf("all in %d messages: too few to test more than one", messages)
	}
	return txt, soas, others
}

func TestTransfer(t *testing.T) {
	w, _, _ := primary(t)
	for name, q := range map[string]*mdns.Msg{"axfr": axfr(), "ixfr": new(mdns.Msg).SetIxfr(testZone+".", 6, "ns.", "x.")} {
		txt, soas, others := fetchZone(t, w.addr, q)
		if len(soas) != 2 || soas[0] != 7 || soas[1] != 7 || others != 1 {
			t.Errorf("%s: SOAs %v, %d others", name, soas, others)
		}
		n := 0
		for e := range w.store.All() {
			names := []string{e.Label + "." + testZone + "."}
			if e.Named {
				names = append(names, "*."+names[0])
			}
			for _, owner := range names {
				if n++; !bytes.Equal(txt[owner], e.txt()) {
					t.Errorf("%s: %s: %d bytes", name, owner, len(txt[owner]))
				}
			}
		}
		if n != len(txt) {
			t.Errorf("%s: %d records for %d", name, len(txt), n)
		}
	}
	if txt, soas, _ := fetchZone(t, w.addr, new(mdns.Msg).SetIxfr(testZone+".", 7, "ns.", "x.")); len(txt) != 0 || len(soas) != 1 {
		t.Errorf("to whom it is no news: %d records, SOAs %v", len(txt), soas)
	}
}

// Who has no key, or the wrong one, learns nothing but that.
func TestTransferRefused(t *testing.T) {
	w, _, _ := primary(t)
	good := base64.StdEncoding.EncodeToString([]byte(goodSecret))
	for name, c := range map[string]struct {
		key, alg, secret string
		at               int64 // seconds from now
		network          string
		rcode            int
		tsig             uint16
		signed           bool
	}{
		"no key":          {rcode: mdns.RcodeRefused},
		"no key, udp":     {rcode: mdns.RcodeRefused, network: "udp"},
		"unknown key":     {key: "third.", secret: good, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadKey},
		"wrong secret":    {key: "second.example.", secret: base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(goodSecret))), rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadSig},
		"other's secret":  {key: "other.", secret: good, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadSig},
		"other algorithm": {key: "second.example.", alg: mdns.HmacSHA512, secret: good, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadKey},
		"weak algorithm":  {key: "second.example.", alg: mdns.HmacSHA1, secret: good, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadKey},
		"clock ahead":     {key: "second.example.", secret: good, at: 400, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadTime, signed: true},
		"clock behind":    {key: "second.example.", secret: good, at: -400, rcode: mdns.RcodeNotAuth, tsig: mdns.RcodeBadTime, signed: true},
		"udp":             {key: "second.example.", secret: good, network: "udp", rcode: mdns.RcodeRefused, signed: true},
	} {
		t.Run(name, func(t *testing.T) {
			q := axfr()
			raw, err := q.Pack()
			if c.key != "" {
				if c.alg == "" {
					c.alg = mdns.HmacSHA256
				}
				q.SetTsig(c.key, c.alg, 300, time.Now().Unix()+c.at)
				raw, _, err = mdns.TsigGenerate(q, c.secret, "", false)
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.network == "" {
				c.network = "tcp"
			}
			conn, err := mdns.DialTimeout(c.network, w.addr, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(raw); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			buf := make([]byte, 65535)
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			resp := new(mdns.Msg)
			if err := resp.Unpack(buf[:n]); err != nil {
				t.Fatal(err)
			}
			if resp.Rcode != c.rcode || len(resp.Answer) != 0 {
				t.Errorf("answered %s with %d records", mdns.RcodeToString[resp.Rcode], len(resp.Answer))
			}
			mark := resp.IsTsig()
			if (mark == nil) != (c.key == "") {
				t.Fatalf("signature: %v", mark)
			}
			if mark != nil && (mark.Error != c.tsig || (mark.MACSize > 0) != c.signed) {
				t.Errorf("tsig error %d instead of %d, %d bytes of MAC", mark.Error, c.tsig, mark.MACSize)
			}
		})
	}
}

// A secondary signs whatever it asks, and wants signed answers.
func TestSignedQueries(t *testing.T) {
	w, _, _ := primary(t)
	secret := map[string]string{"second.example.": base64.StdEncoding.EncodeToString([]byte(goodSecret))}
	for _, network := range []string{"udp", "tcp"} {
		c := &mdns.Client{Net: network, TsigSecret: secret, UDPSize: 4096}
		asked := func(q *mdns.Msg) *mdns.Msg {
			t.Helper()
			q.SetTsig("second.example.", mdns.HmacSHA256, 300, time.Now().Unix())
			resp, _, err := c.Exchange(q, w.addr)
			if err != nil || resp.IsTsig() == nil {
				t.Fatalf("%s: %v, %v", network, resp, err)
			}
			return resp
		}
		resp := asked(ask(testZone+".", mdns.TypeSOA, true))
		if len(resp.Answer) != 1 || resp.Answer[0].(*mdns.SOA).Serial != 7 {
			t.Errorf("%s: SOA: %v", network, resp)
		}
		head := asked(ask(w.ch.Label()+"."+testZone+".", mdns.TypeTXT, true))
		if len(head.Answer) != 1 || !bytes.Equal(txtBytes(t, head.Answer[0]), w.head.Compact()) {
			t.Errorf("%s: head: %v", network, head)
		}
		leaf := ""
		for e := range w.store.All() {
			if len(e.Data) > 1000 && !e.Named {
				leaf = e.Label
			}
		}
		cut := asked(ask(leaf+"."+testZone+".", mdns.TypeTXT, false))
		if cut.Truncated != (network == "udp") {
			t.Errorf("%s: truncated: %v", network, cut.Truncated)
		}
	}
	c := &mdns.Client{Net: "udp", TsigSecret: secret}
	q := new(mdns.Msg).SetIxfr(testZone+".", 6, "ns.", "x.")
	q.SetTsig("second.example.", mdns.HmacSHA256, 300, time.Now().Unix())
	if resp, _, err := c.Exchange(q, w.addr); err != nil || len(resp.Answer) != 1 || resp.Answer[0].(*mdns.SOA).Serial != 7 {
		t.Errorf("IXFR over UDP: %v, %v", resp, err)
	}
}

// TestTransfersAreBounded: no more zones are handed out at once than there are
// slots, and a client that went away gives its own back.
func TestTransfersAreBounded(t *testing.T) {
	w, v, srv := primary(t)
	for range maxTransfers {
		srv.transfers <- struct{}{}
	}
	q := axfr().SetTsig("second.example.", mdns.HmacSHA256, 300, time.Now().Unix())
	tr := &mdns.Transfer{TsigSecret: map[string]string{"second.example.": base64.StdEncoding.EncodeToString([]byte(goodSecret))}}
	ch, err := tr.In(q, w.addr)
	if err != nil {
		t.Fatal(err)
	}
	if env := <-ch; env.Error == nil {
		t.Error("one more than there are slots")
	}
	for range maxTransfers {
		<-srv.transfers
	}
	client, server := net.Pipe()
	client.Close()
	raw, _, err := testKey(t, "second.example", goodSecret).sign(axfr(), "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.transfer(t.Context(), server, raw); err == nil {
		t.Error("a zone went to nobody")
	}
	if len(srv.transfers) != 0 || v.held != 0 {
		t.Errorf("%d slots and %d snapshots are held", len(srv.transfers), v.held)
	}
}

// secondary answers NOTIFY as answer says; told gets the serials that came signed.
func secondary(t *testing.T, key *Key, answer func(n int, q *mdns.Msg, mac string) []byte) (addr string, told chan uint32) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	told = make(chan uint32, 100)
	go func() {
		buf := make([]byte, 4096)
		for n := 0; ; n++ {
			k, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(mdns.Msg)
			if err := q.Unpack(buf[:k]); err != nil {
				t.Error(err)
				return
			}
			mac, err := key.verify(buf[:k], q, "")
			if err != nil || q.Opcode != mdns.OpcodeNotify || !q.Authoritative || len(q.Answer) != 1 {
				t.Errorf("no signed NOTIFY: %v, %v", q, err)
				return
			}
			told <- q.Answer[0].(*mdns.SOA).Serial
			if raw := answer(n, q, mac); raw != nil {
				_, _ = pc.WriteTo(raw, from)
			}
		}
	}()
	return pc.LocalAddr().String(), told
}

// TestNotify: secondaries are told of each version until they have answered,
// whatever others say in their name.
func TestNotify(t *testing.T) {
	key := testKey(t, "second.example", goodSecret)
	w, v, srv := primary(t)
	addr, told := secondary(t, key, func(n int, q *mdns.Msg, mac string) []byte {
		resp := new(mdns.Msg).SetReply(q)
		resp.Extra = nil
		signer := key
		switch n {
		case 0: // lost
			return nil
		case 1: // forged
			signer = testKey(t, "second.example", strings.Repeat("x", 32))
		}
		raw, _, err := signer.sign(resp, mac, false)
		if err != nil {
			t.Error(err)
		}
		return raw
	})
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Notify(ctx, w.nw, []Secondary{{Addr: addr, Key: key}})
	}()
	for n, want := range []uint32{7, 7, 7, 8, 9} {
		if got := <-told; got != want {
			t.Errorf("NOTIFY %d has serial %d instead of %d", n, got, want)
		}
		if n >= 2 {
			v.next()
		}
	}
	cancel()
	<-done
}

func TestParseKey(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte(goodSecret))
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"bind":      {"// made today\nkey \"n.example\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n", true},
		"bind bare": {"key n.example. { secret " + secret + "; algorithm HMAC-SHA256; };", true},
		"knot":      {"# hmac-sha256:n.example:" + secret + "\nkey:\n  - id: n.example\n    algorithm: hmac-sha256\n    secret: " + secret + "\n", true},
		"line":      {"hmac-sha256:N.example:" + secret, true},
		"windows":   {"hmac-sha256:n.example:" + secret + "\r\n", true},
		"empty":     {"", false},
		"no alg":    {"key n.example { secret " + secret + "; };", false},
		"md5":       {"hmac-md5:n.example:" + secret, false},
		"sha1":      {"key n.example { algorithm hmac-sha1; secret " + secret + "; };", false},
		"short":     {"hmac-sha256:n.example:c2hvcnQ=", false},
		"long":      {"hmac-sha256:n.example:" + strings.Repeat("AAAA", 200), false},
		"no base64": {"hmac-sha256:n.example:" + secret[1:], false},
		"odd name":  {"hmac-sha256:n..example:" + secret, false},
	} {
		k, err := ParseKey(c.text)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			if strings.Contains(err.Error(), secret[1:8]) {
				t.Errorf("%s: the secret is in the error", name)
			}
			continue
		}
		if k.Name() != "n.example" || k.algorithm != mdns.HmacSHA256 || k.secret != secret {
			t.Errorf("%s: another key", name)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k)
		for _, said := range []string{log.String(), fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k), fmt.Sprintf("%v %+v %#v %s", *k, *k, *k, []any{*k, k})} {
			if strings.Contains(said, secret) || strings.Contains(said, "example") {
				t.Errorf("%s: the key is told: %s", name, said)
			}
		}
	}
	k := testKey(t, "same", goodSecret)
	if _, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: NewMemory(1), Keys: []*Key{k, k}}); err == nil {
		t.Error("two keys of one name")
	}
	if _, err := k.verify(nil, new(mdns.Msg), ""); !errors.Is(err, mdns.ErrNoSig) {
		t.Errorf("no signature: %v", err)
	}
}

// A name server is told of the zones that it holds.
func TestSecondaryHolds(t *testing.T) {
	for zones, want := range map[string]bool{"": true, "news.test": true, "other.test NEWS.test.": true, "other.test": false, "test": false} {
		if (Secondary{Zones: strings.Fields(zones)}).holds("news.test") != want {
			t.Errorf("%q: %v", zones, !want)
		}
	}
}
