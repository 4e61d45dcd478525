package relay

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
)

func (p *press) name(t *testing.T) string {
	t.Helper()
	name, err := ipfs.Name(public(p.ipns))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// record signs the IPNS record of a sheet.
func (p *press) record(t *testing.T, s *sheet, seq uint64) []byte {
	t.Helper()
	raw, err := ipfs.Record(p.ipns, s.head, seq, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// served is the record that readers get, nil if none.
func served(t *testing.T, r *Relay, p *press) []byte {
	t.Helper()
	resp := ask(t, r, p, "GET", "/ipns/"+p.name(t)+"?format=ipns-record")
	if resp.StatusCode != 200 {
		return nil
	}
	return bodyOf(t, resp)
}

func TestRecordIsStoredAndServed(t *testing.T) {
	for _, way := range []*only{{udp: true}, {tcp: true}} {
		p := newPress(t, "named")
		s := p.edition(t, 0)
		r := start(t, Config{})
		push(t, r, s)
		if served(t, r, p) != nil {
			t.Fatal("a record out of nothing")
		}
		raw := p.record(t, s, 5)
		pub := pusher(t, way, target(t, r, p.ch))
		for range 2 { // the same one again is no news and no error
			if err := pub.PublishRecord(t.Context(), p.ch, raw); err != nil {
				t.Fatal(err)
			}
		}
		n, err := ipns.NameFromString(p.name(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, spelling := range []string{p.name(t), n.Peer().String(), n.Cid().String()} {
			resp := ask(t, r, p, "GET", "/ipns/"+spelling, "Accept", "application/vnd.ipfs.ipns-record")
			if resp.StatusCode != 200 || !bytes.Equal(bodyOf(t, resp), raw) || resp.Header.Get("Content-Type") != "application/vnd.ipfs.ipns-record" {
				t.Errorf("/ipns/%s: %s", spelling, resp.Status)
			}
		}
		if resp := ask(t, r, p, "HEAD", "/ipns/"+p.name(t)+"?format=ipns-record"); resp.StatusCode != 200 || len(bodyOf(t, resp)) != 0 {
			t.Errorf("HEAD: %s", resp.Status)
		}
		// Another channel's readers don't get it, nor a name of nobody.
		other := newPress(t, "other")
		push(t, r, other.edition(t, 0))
		for path, reader := range map[string]*press{"/ipns/" + p.name(t): other, "/ipns/" + other.name(t): p, "/ipns/": p, "/ipns/" + strings.Repeat("k", 200): p} {
			if resp := ask(t, r, reader, "GET", path+"?format=ipns-record"); resp.StatusCode != 404 {
				t.Errorf("%s: %s", path, resp.Status)
			}
		}
		// The publisher's prefix opens no gateway, the readers' no intake.
		tg := target(t, r, p.ch)
		for method, prefix := range map[string]channel.Prefix{"GET": tg.Intake.Mint([8]byte{3}), "PUT": tg.Relay(p.batch).Prefix} {
			req := httptest.NewRequest(method, "https://x/"+prefix.Path()+"/ipns/"+p.name(t)+"?format=ipns-record", bytes.NewReader(raw))
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, req)
			if w.Code < 400 {
				t.Errorf("%s under the other prefix: %d", method, w.Code)
			}
		}
	}
}

func TestRecordSurvivesRestart(t *testing.T) {
	p := newPress(t, "kept")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	s := p.edition(t, 0)
	push(t, r, s)
	raw := p.record(t, s, 5)
	if err := pusher(t, r.cfg.Network, target(t, r, p.ch)).PublishRecord(t.Context(), p.ch, raw); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = start(t, Config{Dir: dir})
	if !bytes.Equal(served(t, r, p), raw) {
		t.Error("gone with a restart")
	}
	if err := pusher(t, r.cfg.Network, target(t, r, p.ch)).PublishRecord(t.Context(), p.ch, p.record(t, s, 4)); err != nil || !bytes.Equal(served(t, r, p), raw) {
		t.Errorf("an older one after a restart: %v", err)
	}
	r.Close()
	// A damaged one is left out, and the next push heals it.
	file := filepath.Join(dir, "editions", p.ch.String(), ipnsFile)
	flip(t, file, int64(len(raw)/2))
	r = start(t, Config{Dir: dir})
	if served(t, r, p) != nil {
		t.Error("a damaged record is served")
	}
	if err := pusher(t, r.cfg.Network, target(t, r, p.ch)).PublishRecord(t.Context(), p.ch, raw); err != nil || !bytes.Equal(served(t, r, p), raw) {
		t.Errorf("pushed again: %v", err)
	}
	if onDisk, err := os.ReadFile(file); err != nil || !bytes.Equal(onDisk, raw) {
		t.Errorf("on disk: %v", err)
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	p, other, fork := newPress(t, "ours"), newPress(t, "theirs"), newPress(t, "ours")
	first, second := p.edition(t, 0), p.edition(t, 10)
	unheld := p.edition(t, 20)
	foreign := other.edition(t, 0)
	fork.edition(t, 1)
	forked := fork.edition(t, 77) // number 1 of another history
	forgedHead := *second.head
	forgedHead.Time = forgedHead.Time.Add(time.Hour)
	r := start(t, Config{})
	pub := pusher(t, r.cfg.Network, target(t, r, p.ch))
	early := p.record(t, first, 3)
	if err := pub.PublishRecord(t.Context(), p.ch, early); !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "no edition") {
		t.Errorf("before any edition: %v", err)
	}
	push(t, r, first)
	push(t, r, second)
	held := p.record(t, second, 10)
	if err := pub.PublishRecord(t.Context(), p.ch, held); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(held)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"signed by another key":      {other.record(t, second, 99), ""},
		"another channel's":          {other.record(t, foreign, 99), ""},
		"another channel's head":     {p.record(t, foreign, 99), "head"},
		"an edition not held":        {p.record(t, unheld, 99), "not held"},
		"another history":            {p.record(t, forked, 99), "another"},
		"a head nobody signed":       {p.record(t, &sheet{head: &forgedHead}, 99), "signature"},
		"back to an earlier edition": {p.record(t, first, 99), "back"},
		"a flipped bit":              {flipped, ""},
		"no record at all":           {[]byte("<html>hello</html>"), ""},
		"empty":                      {nil, "0 bytes"},
		"too large":                  {make([]byte, transport.MaxRecord+1), "bytes"},
	} {
		err := pub.PublishRecord(t.Context(), p.ch, c.raw)
		if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a refusal that says %q", name, err, c.says)
		}
		if !bytes.Equal(served(t, r, p), held) {
			t.Errorf("%s: it replaced the good one", name)
		}
	}
	// Older by number: ignored, as the seam has it.
	if err := pub.PublishRecord(t.Context(), p.ch, p.record(t, second, 9)); err != nil || !bytes.Equal(served(t, r, p), held) {
		t.Errorf("an older record: %v", err)
	}
	// Newer: a heartbeat's head in it is fine, though the edition came with an earlier one.
	beat := p.sign(t, second.packed, channelEdge(p, 1), time.Unix(1_900_000_000, 0))
	newer := p.record(t, beat, 11)
	if err := pub.PublishRecord(t.Context(), p.ch, newer); err != nil || !bytes.Equal(served(t, r, p), newer) {
		t.Errorf("a newer record: %v", err)
	}
	// A relay does not trust the client's limit.
	intake := target(t, r, p.ch).Intake.Mint([8]byte{}).Path()
	for method, code := range map[string]int{"PUT": 413, "GET": 405, "PATCH": 405} {
		req := httptest.NewRequest(method, "https://x/"+intake+"/ipns/"+p.ch.String(), bytes.NewReader(make([]byte, 1<<20)))
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, req)
		if w.Code != code || w.Header().Get("Upload-Offset") != "0" {
			t.Errorf("%s of a megabyte: %d", method, w.Code)
		}
	}
	if err := pub.PublishRecord(t.Context(), other.ch, other.record(t, foreign, 1)); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("to another channel's intake: %v", err)
	}
	stranger := target(t, r, p.ch)
	stranger.Intake = stranger.Mint
	if err := pusher(t, &netreal.Network{}, stranger).PublishRecord(t.Context(), p.ch, newer); !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "no intake") {
		t.Errorf("from a reader: %v", err)
	}
}
