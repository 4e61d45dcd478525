package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// ask sends a request below a reader's prefix, without a network.
func ask(t *testing.T, r *Relay, p *press, method, path string, header ...string) *http.Response {
	t.Helper()
	tg := target(t, r, p.ch)
	req := httptest.NewRequest(method, "https://relay.example.org/"+tg.Relay(p.batch).Prefix.Path()+path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w.Result()
}

func bodyOf(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRawBlocks(t *testing.T) {
	p := newPress(t, "raw")
	r := start(t, Config{})
	s := p.edition(t, 100_000)
	push(t, r, s)
	b := s.packed.Blocks[len(s.packed.Blocks)-1]
	url := "/ipfs/" + b.CID.String()
	resp := ask(t, r, p, "GET", url+"?format=raw")
	if resp.StatusCode != 200 || !bytes.Equal(bodyOf(t, resp), b.Data) {
		t.Fatal(resp.Status)
	}
	for k, want := range map[string]string{
		"Content-Type": "application/vnd.ipld.raw", "Etag": `"` + b.CID.String() + `.raw"`, "Cache-Control": immutable, "X-Content-Type-Options": "nosniff",
	} {
		if got := resp.Header.Get(k); got != want {
			t.Errorf("%s: %q", k, got)
		}
	}
	if resp := ask(t, r, p, "GET", url, "Accept", "application/vnd.ipld.raw"); resp.StatusCode != 200 || !bytes.Equal(bodyOf(t, resp), b.Data) {
		t.Errorf("by Accept header: %s", resp.Status)
	}
	if resp := ask(t, r, p, "HEAD", url+"?format=raw"); resp.StatusCode != 200 || resp.Header.Get("Content-Length") != fmt.Sprint(len(b.Data)) || len(bodyOf(t, resp)) != 0 {
		t.Errorf("HEAD: %v", resp)
	}
	if resp := ask(t, r, p, "GET", url+"?format=raw", "Range", "bytes=10-19"); resp.StatusCode != 206 || !bytes.Equal(bodyOf(t, resp), b.Data[10:20]) {
		t.Errorf("range: %s", resp.Status)
	}
	if resp := ask(t, r, p, "GET", url+"?format=raw", "If-None-Match", `"`+b.CID.String()+`.raw"`); resp.StatusCode != 304 {
		t.Errorf("not modified: %s", resp.Status)
	}
	for path, code := range map[string]int{
		url: 400, url + "?format=tar": 406, "/ipfs/xyz?format=raw": 400, "/ipfs/" + bundle.RawCID([]byte("x")).String() + "?format=raw": 404,
		url + "/deeper?format=raw": 406, url + "/deeper?format=car": 404, "/other": 404, "/ipns/k51?format=ipns-record": 404, "/ipns/k51": 400, "/ipns/k51?format=car": 406, "/head/" + newPress(t, "x").ch.String(): 404,
		"/head/" + p.ch.String() + "?root=-1": 400, "/head/" + p.ch.String() + "?have=many": 400,
	} {
		if resp := ask(t, r, p, "GET", path); resp.StatusCode != code {
			t.Errorf("%s: %s, want %d", path, resp.Status, code)
		}
	}
	if resp := ask(t, r, p, "DELETE", url); resp.StatusCode != 405 {
		t.Errorf("DELETE: %s", resp.Status)
	}
}

// The memory of a block that was sent is of use for the next one, unless somebody may
// still be reading it.
func TestRawBlockIsGivenBack(t *testing.T) {
	p := newPress(t, "lent")
	r := start(t, Config{})
	s := p.edition(t, 100_000)
	push(t, r, s)
	b := s.packed.Blocks[len(s.packed.Blocks)-1]
	pool := &r.store.buffers.ones
	for ranges, back := range map[string]bool{"": true, "bytes=10-19": true, "bytes=0-9,20-29": false, "bytes=0-9, 20-29": false} {
		t.Run(ranges, func(t *testing.T) {
			got := false
			for range 100 { // a pool may lose what it is given
				lent := new([maxSection]byte)
				pool.Put(lent)
				if resp := ask(t, r, p, "GET", "/ipfs/"+b.CID.String()+"?format=raw", "Range", ranges); resp.StatusCode >= 300 {
					t.Fatal(resp.Status)
				}
				for other := pool.Get(); other != nil; other = pool.Get() {
					got = got || other == any(lent) && bytes.HasPrefix(lent[:], b.Data)
				}
			}
			if got != back {
				t.Errorf("given back: %v", got)
			}
		})
	}
}

func cidsOf(t *testing.T, resp *http.Response) []cid.Cid {
	t.Helper()
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", resp.Status, bodyOf(t, resp))
	}
	r, err := car.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out []cid.Cid
	for {
		b, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.CID)
	}
}

func TestCARs(t *testing.T) {
	p := newPress(t, "cars")
	r := start(t, Config{})
	s := p.edition(t, 400_000)
	push(t, r, s)
	root := "/ipfs/" + s.head.Root.String()
	block := func(c cid.Cid) []byte {
		b, err := r.store.Block(p.ch, c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	d, err := bundle.ParseDirectory(s.head.Root, block(s.head.Root))
	if err != nil {
		t.Fatal(err)
	}
	media := d.Layers[bundle.LayerMedia]
	leaves, err := bundle.ParseFile(media, block(media), 0)
	if err != nil || len(leaves) < 6 {
		t.Fatal(len(leaves), err)
	}
	all := cidsOf(t, ask(t, r, p, "GET", root+"?format=car"))
	if len(all) != len(s.packed.Blocks) || !all[0].Equals(s.head.Root) {
		t.Errorf("whole edition: %d blocks of %d", len(all), len(s.packed.Blocks))
	}
	if got := cidsOf(t, ask(t, r, p, "GET", root+"?format=car&dag-scope=block")); !slices.Equal(got, []cid.Cid{s.head.Root}) {
		t.Errorf("scope block: %v", got)
	}
	if got := cidsOf(t, ask(t, r, p, "GET", root+"?format=car&dag-scope=entity")); !slices.Equal(got, []cid.Cid{s.head.Root}) {
		t.Errorf("a folder's entity: %v", got)
	}
	file := root + "/media.age?format=car&dag-scope=entity"
	if got := cidsOf(t, ask(t, r, p, "GET", file)); len(got) != 2+len(leaves) || !got[1].Equals(media) {
		t.Errorf("a file by path: %d blocks for %d leaves", len(got), len(leaves))
	}
	from, to := leaves[2].Offset+1, leaves[3].Offset
	want := []cid.Cid{s.head.Root, media, leaves[2].CID, leaves[3].CID}
	if got := cidsOf(t, ask(t, r, p, "GET", fmt.Sprintf("%s&entity-bytes=%d:%d", file, from, to))); !slices.Equal(got, want) {
		t.Errorf("a range of a file: %v", got)
	}
	last := leaves[len(leaves)-1]
	if got := cidsOf(t, ask(t, r, p, "GET", file+"&entity-bytes=-1:*")); !slices.Equal(got, []cid.Cid{s.head.Root, media, last.CID}) {
		t.Errorf("a file's end: %v", got)
	}
	for _, bad := range []string{"&entity-bytes=x:1", "&entity-bytes=1", "&entity-bytes=-9223372036854775808:*", "&entity-bytes=9:8", "&entity-bytes=-1:-2", "&entity-bytes=0:x", "&entity-bytes=9999999:*", "&entity-bytes=0:-9999999"} {
		if resp := ask(t, r, p, "GET", file+bad); resp.StatusCode != 400 {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
	if resp := ask(t, r, p, "GET", root+"?format=car&dag-scope=most"); resp.StatusCode != 400 {
		t.Error(resp.Status)
	}
	tag := ask(t, r, p, "HEAD", file).Header.Get("Etag")
	if resp := ask(t, r, p, "GET", file, "If-None-Match", tag); resp.StatusCode != 304 {
		t.Errorf("not modified: %s", resp.Status)
	}
}

func TestRottenBlockIsNotServed(t *testing.T) {
	p := newPress(t, "rotten")
	r := start(t, Config{})
	s := p.edition(t, 100_000)
	push(t, r, s)
	b := s.packed.Blocks[len(s.packed.Blocks)-1]
	e := r.store.snapshot(p.ch)[0]
	flip(t, e.path, e.index[b.CID.KeyString()].off)
	if resp := ask(t, r, p, "GET", "/ipfs/"+b.CID.String()+"?format=raw"); resp.StatusCode != 500 {
		t.Errorf("a rotten block: %s", resp.Status)
	}
}

func TestHeadTags(t *testing.T) {
	p := newPress(t, "tags")
	r := start(t, Config{})
	edge := p.tree.Edge()
	s := p.edition(t, 0)
	push(t, r, s)
	url := "/head/" + p.ch.String()
	resp := ask(t, r, p, "GET", url)
	tag := resp.Header.Get("Etag")
	if resp.StatusCode != 200 || tag == "" {
		t.Fatal(resp.Status)
	}
	for query, code := range map[string]int{"": 304, "?have=1": 304, "?have=0": 200, "?have=9": 304} {
		if resp := ask(t, r, p, "GET", url+query, "If-None-Match", tag); resp.StatusCode != code {
			t.Errorf("%q: %s, want %d", query, resp.Status, code)
		}
	}
	// A heartbeat reaches those who say which head they have.
	push(t, r, p.sign(t, s.packed, edge, s.head.Time.AddDate(0, 0, 1)))
	if resp := ask(t, r, p, "GET", url+"?have=1", "If-None-Match", tag); resp.StatusCode != 200 {
		t.Errorf("heartbeat: %s", resp.Status)
	}
	if resp := ask(t, r, p, "GET", url+"?have=1"); resp.StatusCode != 304 {
		t.Errorf("heartbeat, no tag: %s", resp.Status)
	}
}

func TestLongPollWakes(t *testing.T) {
	p := newPress(t, "poll")
	r := start(t, Config{})
	first, second := p.edition(t, 0), p.edition(t, 0)
	push(t, r, first)
	c, err := wire.New(wire.Config{Network: &netreal.Network{}, Relay: target(t, r, p.ch).Relay(p.batch), Wait: wire.MaxWait})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for _, path := range c.Paths() {
		wg.Go(func() {
			head, err := path.Heads.Head(t.Context(), p.ch, 1)
			if err != nil || !bytes.Equal(head, second.head.Text()) {
				t.Errorf("%s: %v", path.Kind, err)
			}
		})
	}
	for r.handler.polls.n.Load() < int64(len(c.Paths())) { // all requests are held
		if t.Context().Err() != nil {
			t.Fatal("nobody waits")
		}
		runtime.Gosched()
	}
	push(t, r, second)
	wg.Wait()
}

func TestRecordsServeWhatIsStored(t *testing.T) {
	p := newPress(t, "dns")
	r := start(t, Config{})
	first, second := p.edition(t, 0), p.edition(t, 50_000)
	push(t, r, first)
	rs, err := r.Records()
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Close()
	ctx := context.Background()
	head := func() []byte {
		b, err := rs.Named(ctx, p.ch.Label())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(head(), first.head.Compact()) {
		t.Error("another head")
	}
	push(t, r, second)
	if !bytes.Equal(head(), second.head.Compact()) {
		t.Error("a new edition's head is not in DNS")
	}
	for _, s := range []*sheet{first, second} {
		for _, name := range []record.Name{s.head.Front.Large, s.head.Front.Small} {
			rec, err := rs.Record(ctx, name)
			if err != nil || record.NameOf(rec) != name {
				t.Errorf("front of edition %d: %v", s.head.Edition, err)
			}
		}
	}
	if _, err := rs.Named(ctx, p.ch.RootLabel(1)); err != nil {
		t.Errorf("root note: %v", err)
	}
	if _, err := rs.Named(ctx, p.batch.GrantName(p.ch)); err != nil {
		t.Errorf("grant: %v", err)
	}
	if _, err := rs.Record(ctx, record.Name{1}); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("unknown record: %v", err)
	}
	if _, err := rs.Named(ctx, newPress(t, "nobody").ch.Label()); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("unknown label: %v", err)
	}
}

func TestConfigIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	c, err := LoadConfig(dir)
	if err != nil || len(c.Listen) != 0 {
		t.Fatal(c, err)
	}
	path := dir + "/" + ConfigFile
	if err := os.WriteFile(path, []byte("listen = [\":9\"]\nchannel_mb = 5\nconnections = 7\nrequests_per_second = -1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = LoadConfig(dir); err != nil || c.Listen[0] != ":9" || c.Limits().Channel != 5_000_000 || c.Throttle().Conns.Conns != 7 || c.Throttle().PerAddress != -1 {
		t.Error(c, err)
	}
	for _, bad := range []string{"listn = 1", "listen =", "total_mb = -1", "incoming_mb = -1"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(dir); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestSecretsStayPrivate(t *testing.T) {
	r := start(t, Config{})
	target(t, r, channel.ID{1})
	for _, name := range []string{relaySecretFile, intakeSecretFile, keyFile, carriedFile} {
		st, err := os.Stat(r.cfg.Dir + "/" + name)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st, err)
		}
	}
}
