package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunker "github.com/ipfs/boxo/chunker"
	boxo "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/multiformats/go-multihash"
	"github.com/prometheus/client_golang/prometheus"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	wire "tamizdat/transport/relay"
)

// twins are our gateway and boxo's over the same blocks. boxo's passes the
// gateway-conformance suite, so where both say the same, ours does. The blocks
// are those that the suite asks about: files of 256-byte blocks, duplicates, a
// block that is missing.
type twins struct {
	ours, theirs http.Handler
	cids         map[string]string // for {name} in paths
}

func newTwins(t *testing.T) *twins {
	ctx := t.Context()
	bs := blockstore.NewIdStore(blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore())))
	svc := blockservice.New(bs, nil)
	dag := merkledag.NewDAGService(svc)
	builder := cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}
	file := func(size, width int) ipld.Node {
		t.Helper()
		p := helpers.DagBuilderParams{Maxlinks: width, RawLeaves: true, CidBuilder: builder, Dagserv: dag}
		b, err := p.New(chunker.NewSizeSplitter(bytes.NewReader(noise(uint64(size), size)), 256))
		if err != nil {
			t.Fatal(err)
		}
		n, err := balanced.Layout(b)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	dir := func(entries ...any) ipld.Node {
		t.Helper()
		n := unixfs.EmptyDirNode()
		if err := n.SetCidBuilder(builder); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(entries); i += 2 {
			if err := n.AddNodeLink(entries[i].(string), entries[i+1].(ipld.Node)); err != nil {
				t.Fatal(err)
			}
		}
		if err := dag.Add(ctx, n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ascii, multi, deep, torn := file(31, 10), file(1026, 10), file(4000, 3), file(700, 10)
	tiny := file(256, 10) // one block: a raw leaf
	subdir := dir("ascii.txt", ascii, "multiblock.txt", multi, "файл.txt", tiny)
	root := dir("ascii-copy.txt", ascii, "ascii.txt", ascii, "deep", deep, "multiblock.txt", multi, "subdir", subdir)
	if err := bs.DeleteBlock(ctx, torn.Links()[1].Cid); err != nil {
		t.Fatal(err)
	}
	backend, err := boxo.NewBlocksBackend(svc)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{log: slog.New(slog.DiscardHandler)}
	source := blockSource{
		get: func(c cid.Cid) ([]byte, error) {
			b, err := bs.Get(ctx, c)
			if ipld.IsNotFound(err) {
				return nil, os.ErrNotExist
			}
			if err != nil {
				return nil, err
			}
			return b.RawData(), nil
		},
		has: func(c cid.Cid) bool { ok, _ := bs.Has(ctx, c); return ok },
	}.withIdentity()
	return &twins{
		theirs: boxo.NewHandler(boxo.Config{DisableHTMLErrors: true, DeprecatedXIpfsPath: true, MetricsRegistry: prometheus.NewRegistry()}, backend),
		ours: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Content-Type-Options", "nosniff") // Handler.read does
			h.ipfs(w, r, source, strings.TrimPrefix(r.URL.EscapedPath(), "/ipfs/"))
		}),
		cids: map[string]string{
			"root": root.Cid().String(), "subdir": subdir.Cid().String(), "multi": multi.Cid().String(),
			"deep": deep.Cid().String(), "torn": torn.Cid().String(), "tiny": tiny.Cid().String(),
			"v0":      cid.NewCidV0(root.Cid().Hash()).String(),
			"unknown": bundle.RawCID([]byte("nobody has it")).String(),
		},
	}
}

// answer is one gateway's, with the blocks of a CAR in the place of its bytes.
type answer struct {
	*http.Response
	body   string
	blocks []cid.Cid
	broken bool
}

func (tw *twins) ask(t *testing.T, h http.Handler, method, target string, header []string) (a answer) {
	t.Helper()
	for name, c := range tw.cids {
		target = strings.ReplaceAll(target, "{"+name+"}", c)
	}
	req := httptest.NewRequest(method, "https://gateway.example/ipfs/"+target, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if e := recover(); e != nil && e != http.ErrAbortHandler {
				panic(e)
			} else if e != nil {
				a.broken = true
			}
		}()
		h.ServeHTTP(w, req)
	}()
	a.Response = w.Result()
	a.body = string(bodyOf(t, a.Response))
	if a.StatusCode != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), typeCAR) || method == "HEAD" {
		return a
	}
	r, err := carv2.NewBlockReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	for {
		b, err := r.Next()
		if err == io.EOF {
			return a
		}
		if err != nil { // a broken stream, by whatever sign
			a.broken = true
			return a
		}
		a.blocks = append(a.blocks, b.Cid())
	}
}

// As the spec and boxo have it, request by request.
func TestGatewayAnswersAsBoxos(t *testing.T) {
	tw := newTwins(t)
	car := func(s string) []string { return []string{"Accept", s} }
	const raw, v1 = "application/vnd.ipld.raw", "application/vnd.ipld.car; version=1"
	type request struct {
		target string
		header []string
	}
	var all []request
	for _, target := range []string{
		// raw
		"{root}?format=raw", "{tiny}?format=raw", "{root}/subdir?format=raw", "{root}/subdir/multiblock.txt?format=raw",
		"{unknown}?format=raw", "{root}/nothing?format=raw", "{root}/ascii.txt/deeper?format=raw", "{v0}?format=raw",
		"not-a-cid?format=raw", "?format=raw", "bafkqaaa?format=raw", "{tiny}?format=raw&filename=foobar.bin",
		"{subdir}/%D1%84%D0%B0%D0%B9%D0%BB.txt?format=raw", "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa?format=raw",
		// which blocks
		"{root}?format=car", "{root}/?format=car", "{v0}?format=car", "{subdir}/ascii.txt?format=car", "{root}/subdir/ascii.txt?format=car", "{root}/subdir?format=car&dag-scope=all",
		"{root}/subdir?format=car&dag-scope=block", "{root}/subdir/ascii.txt?format=car&dag-scope=block", "{root}?format=car&dag-scope=entity",
		"{root}/subdir/multiblock.txt?format=car&dag-scope=entity", "{root}/deep?format=car&dag-scope=entity", "{root}/deep?format=car&dag-scope=all",
		"{root}?format=car&dag-scope=most", "{unknown}?format=car", "{tiny}?format=car&dag-scope=entity", "bafkqaaa?format=car", "not-a-cid?format=car",
		// entity-bytes
		"{torn}?format=car&dag-scope=entity&entity-bytes=0:200", "{torn}?format=car&dag-scope=entity&entity-bytes=520:*",
		"{root}/multiblock.txt?format=car&dag-scope=entity&entity-bytes=0:*", "{root}?format=car&dag-scope=entity&entity-bytes=0:*",
		"{multi}?format=car&dag-scope=entity&entity-bytes=512:*", "{multi}?format=car&dag-scope=entity&entity-bytes=512:1023",
		"{multi}?format=car&dag-scope=entity&entity-bytes=512:-256", "{multi}?format=car&dag-scope=entity&entity-bytes=-5:*",
		"{multi}?format=car&dag-scope=entity&entity-bytes=-9999:*", "{multi}?format=car&dag-scope=entity&entity-bytes=-9999:-3",
		"{multi}?format=car&dag-scope=entity&entity-bytes=0:0", "{multi}?format=car&dag-scope=entity&entity-bytes=300:99999",
		"{deep}?format=car&dag-scope=entity&entity-bytes=1000:1600", "{deep}?format=car&dag-scope=entity&entity-bytes=-300:-1",
		"{tiny}?format=car&dag-scope=entity&entity-bytes=5:9", "{multi}?format=car&dag-scope=entity&entity-bytes=5",
		"{multi}?format=car&dag-scope=entity&entity-bytes=x:y", "{multi}?format=car&dag-scope=entity&entity-bytes=9:8",
		"{multi}?format=car&dag-scope=block&entity-bytes=0:9", "{multi}?format=car&dag-scope=all&entity-bytes=0:9",
		// IPIP-412 by query
		"{root}?format=car&car-version=1", "{root}?format=car&car-version=2", "{root}?format=car&car-dups=y", "{root}?format=car&car-dups=n&car-order=dfs",
		"{root}?format=car&car-dups=maybe", "{root}?format=car&car-order=bfs",
		// no format at all, or another one
		"{root}", "{root}?format=tar", "{root}?format=dag-cbor",
	} {
		all = append(all, request{target: target})
	}
	all = append(all,
		request{"{root}", car(raw)}, request{"{root}", car(v1)}, request{"{root}", car(v1 + "; order=dfs; dups=y")},
		request{"{root}", car(v1 + "; order=dfs; dups=n")}, request{"{root}", car("application/vnd.ipld.car;version=2")},
		request{"{root}", car("application/vnd.ipld.car; order=bfs")}, request{"{root}?format=car", car(v1 + "; dups=y")},
		request{"{root}?format=car", car(raw)}, request{"{root}?format=raw", car(v1 + "; dups=y")},
		request{"{root}?car-dups=n", car(v1 + "; dups=y")}, request{"bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa", car("application/vnd.ipld.car; dups=y")},
		request{"{root}", car("text/html, " + raw + ", */*;q=0.1")}, request{"{root}", car("*/*")}, request{"{root}", car("text/html")},
		request{"{root}/subdir?filename=a.car", car("application/vnd.ipld.car")},
		request{"{unknown}?format=raw", []string{"Cache-Control", "only-if-cached"}},
		request{"{tiny}?format=raw", []string{"Range", "bytes=10-19"}}, request{"{tiny}?format=raw", []string{"Range", "bytes=-10"}},
		request{"{tiny}?format=raw", []string{"Range", "bytes=900-"}}, request{"{root}?format=car", []string{"Range", "bytes=10-19"}},
	)
	// Where ours is nearer to the text of the spec, or refuses with the other of
	// two codes that it allows.
	knownly := map[string][2]int{
		"{root}": {400, 406}, // "SHOULD return 400 when the Accept header is missing"
		"{root} application/vnd.ipld.car;version=2":  {406, 400}, // "400 or 406"
		"{root} application/vnd.ipld.car; order=bfs": {406, 400},
		"{unknown}?format=car":                       {404, 200}, // "MUST return 404 when the root block is not available"
	}
	for _, q := range all {
		key := q.target
		if len(q.header) > 0 {
			key += " " + q.header[1]
		}
		for _, method := range []string{"GET", "HEAD"} {
			ours, theirs := tw.ask(t, tw.ours, method, q.target, q.header), tw.ask(t, tw.theirs, method, q.target, q.header)
			if want, ok := knownly[key]; ok && theirs.StatusCode != ours.StatusCode {
				if ours.StatusCode != want[0] || theirs.StatusCode != want[1] {
					t.Errorf("%s %s: %d here, %d there, which is not the known difference", method, key, ours.StatusCode, theirs.StatusCode)
				}
				continue
			}
			if ours.StatusCode != theirs.StatusCode {
				t.Errorf("%s %s: %d %q here, %d %q there", method, key, ours.StatusCode, ours.body, theirs.StatusCode, theirs.body)
				continue
			}
			if ours.StatusCode >= 400 {
				continue
			}
			for _, name := range []string{"Content-Type", "Cache-Control", "X-Ipfs-Roots", "X-Content-Type-Options", "Accept-Ranges", "Content-Range", "Content-Location"} {
				if a, b := ours.Header.Get(name), theirs.Header.Get(name); a != b {
					t.Errorf("%s %s: %s is %q here, %q there", method, key, name, a, b)
				}
			}
			if a, b := ours.Header.Get("X-Ipfs-Path"), theirs.Header.Get("X-Ipfs-Path"); b != "" && unescape(t, a) != strings.TrimSuffix(b, "/") {
				t.Errorf("%s %s: X-Ipfs-Path is %q here, %q there", method, key, a, b)
			}
			if a := ours.Header.Get("Content-Disposition"); !strings.HasPrefix(a, `attachment; filename="`) {
				t.Errorf("%s %s: disposition %q", method, key, a)
			}
			if ours.Header.Get("Etag") == "" {
				t.Errorf("%s %s: no tag", method, key)
			}
			switch {
			case ours.broken != theirs.broken || !slices.Equal(ours.blocks, theirs.blocks):
				t.Errorf("%s %s: blocks differ\nhere  %v %t\nthere %v %t", method, key, ours.blocks, ours.broken, theirs.blocks, theirs.broken)
			case ours.blocks == nil && ours.Header.Get("Content-Type") == typeRaw && ours.body != theirs.body:
				t.Errorf("%s %s: bodies of %d and %d bytes differ", method, key, len(ours.body), len(theirs.body))
			case method == "HEAD" && ours.body != "":
				t.Errorf("%s %s: a body", method, key)
			}
		}
	}
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	out, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What boxo does not do, or not yet, and the spec asks for.
func TestGatewayBySpec(t *testing.T) {
	tw := newTwins(t)
	get := func(target string, header ...string) answer {
		t.Helper()
		return tw.ask(t, tw.ours, "GET", target, header)
	}
	for _, c := range []struct {
		target string
		accept string
		code   int
		kind   string // of the answer
	}{
		{"{root}", "application/vnd.ipld.raw;q=0.1, application/vnd.ipld.car;q=0.2", 200, typeCAR + "; version=1; order=dfs; dups=n"},
		{"{root}", "application/vnd.ipld.raw;q=0.2, application/vnd.ipld.car;q=0.1", 200, typeRaw},
		{"{root}", "application/vnd.ipld.car;order=foo, application/vnd.ipld.car;order=dfs;dups=y;q=0.5", 200, typeCAR + "; version=1; order=dfs; dups=y"},
		{"{root}", "application/vnd.ipld.car; order=unk", 200, typeCAR + "; version=1; order=dfs; dups=n"},
		{"{root}", "application/vnd.ipld.car;q=0", 406, ""},
		{"{root}", "application/vnd.ipld.car;q=2", 406, ""},
		{"{root}", ";;;, application/vnd.ipld.raw", 200, typeRaw},
		{"{root}?format=ipns-record", "", 406, ""},
		{"{multi}?format=car&entity-bytes=0:0", "", 200, typeCAR + "; version=1; order=dfs; dups=n"},
		{"{multi}?format=car&entity-bytes=1026:*", "", 400, ""},  // wholly behind
		{"{multi}?format=car&entity-bytes=0:-1027", "", 400, ""}, // wholly before
		{"{multi}?format=car&entity-bytes=900:-900", "", 200, typeCAR + "; version=1; order=dfs; dups=n"},
		{"{root}?format=car&entity-bytes=99999999:*", "", 200, typeCAR + "; version=1; order=dfs; dups=n"}, // no file
		{"{root}" + strings.Repeat("/a", maxDepth+1) + "?format=car", "", 404, ""},
		{"{root}/%25zz?format=car", "", 404, ""},
	} {
		var header []string
		if c.accept != "" {
			header = []string{"Accept", c.accept}
		}
		if a := get(c.target, header...); a.StatusCode != c.code || c.kind != "" && a.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s, %q: %s, %q", c.target, c.accept, a.Status, a.Header.Get("Content-Type"))
		}
	}
	// entity-bytes alone means the entity; a range of nothing leaves its root.
	if n := len(get("{multi}?format=car&entity-bytes=0:0").blocks); n != 2 {
		t.Errorf("the first byte: %d blocks", n)
	}
	if n := len(get("{multi}?format=car&entity-bytes=900:-900").blocks); n != 1 {
		t.Errorf("no bytes: %d blocks", n)
	}
	if a := get("{torn}?format=car"); !a.broken {
		t.Error("a CAR without one of its blocks ends as if it were whole")
	}
	if a := get("{tiny}?format=raw&filename=test%D1%82.bin"); a.Header.Get("Content-Disposition") != `attachment; filename="test_.bin"; filename*=UTF-8''test%D1%82.bin` {
		t.Error(a.Header.Get("Content-Disposition"))
	}
}

func TestConditionalRequests(t *testing.T) {
	tw := newTwins(t)
	tags := map[string]string{}
	for _, target := range []string{
		"{root}?format=raw", "{root}?format=car", "{root}?format=car&car-dups=y", "{root}?format=car&dag-scope=block",
		"{root}/multiblock.txt?format=car&dag-scope=entity", "{root}/multiblock.txt?format=car&entity-bytes=0:9", "{root}/multiblock.txt?format=car&entity-bytes=0:*",
		"{root}/subdir?format=car",
	} {
		a := tw.ask(t, tw.ours, "GET", target, nil)
		tag := a.Header.Get("Etag")
		if other, twice := tags[tag]; twice || tag == "" {
			t.Errorf("%s and %s have the tag %q", target, other, tag)
		}
		tags[tag] = target
		strong := strings.TrimPrefix(tag, "W/")
		for _, header := range []string{tag, strong, "W/" + strong, `"other", ` + tag, `W/"a,b" ,, ` + strong, "*"} {
			for _, method := range []string{"GET", "HEAD"} {
				a := tw.ask(t, tw.ours, method, target, []string{"If-None-Match", header})
				if a.StatusCode != 304 || a.body != "" || a.Header.Get("Etag") != tag {
					t.Errorf("%s %s, If-None-Match %s: %s", method, target, header, a.Status)
				}
			}
		}
		for _, header := range []string{`"other"`, "other", strong[1:], `"` + strong, `W/`, `"`} {
			if a := tw.ask(t, tw.ours, "GET", target, []string{"If-None-Match", header}); a.StatusCode != 200 {
				t.Errorf("%s, If-None-Match %s: %s", target, header, a.Status)
			}
		}
	}
	for _, target := range []string{"{unknown}?format=raw", "{unknown}?format=car", "{root}/nothing?format=car"} {
		if a := tw.ask(t, tw.ours, "GET", target, []string{"If-None-Match", "*"}); a.StatusCode != 404 {
			t.Errorf("%s: %s", target, a.Status)
		}
	}
	// What is known already is not read: here it could not be.
	h := &Handler{log: slog.New(slog.DiscardHandler)}
	source := blockSource{get: func(cid.Cid) ([]byte, error) { return nil, errors.New("read") }, has: func(cid.Cid) bool { return true }}.withIdentity()
	for tag, target := range tags {
		for name, c := range tw.cids {
			target = strings.ReplaceAll(target, "{"+name+"}", c)
		}
		req := httptest.NewRequest("GET", "https://gateway.example/ipfs/"+target, nil)
		req.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		h.ipfs(w, req, source, strings.TrimPrefix(req.URL.EscapedPath(), "/ipfs/"))
		if w.Code != 304 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

// A node that links to itself's copies over and over costs a bounded walk.
func TestEndlessDAG(t *testing.T) {
	blocks := map[string][]byte{}
	var last cid.Cid
	for depth := range maxDepth + 4 {
		node := unixfs.EmptyDirNode()
		if err := node.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			if depth > 0 {
				if err := node.AddRawLink(fmt.Sprint(i), &ipld.Link{Cid: last}); err != nil {
					t.Fatal(err)
				}
			}
		}
		last = node.Cid()
		blocks[last.KeyString()] = node.RawData()
	}
	reads := 0
	source := blockSource{
		get: func(c cid.Cid) ([]byte, error) { reads++; return blocks[c.KeyString()], nil },
		has: func(cid.Cid) bool { return true },
	}
	for _, dups := range []string{"y", "n"} {
		reads = 0
		w := discard{http.Header{}}
		func() {
			defer func() {
				if e := recover(); e != http.ErrAbortHandler {
					t.Errorf("dups=%s: ended with %v", dups, e)
				}
			}()
			req := httptest.NewRequest("GET", "https://x/ipfs/"+last.String()+"?format=car&car-dups="+dups, nil)
			(&Handler{}).ipfs(w, req, source, last.String())
		}()
		if reads > maxBlocks+1 {
			t.Errorf("dups=%s: %d blocks read", dups, reads)
		}
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// pinned is an http.Client that knows the relay by its pin.
func pinned(tg wire.Target) *http.Client {
	return &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
			if channel.PinOf(cs.PeerCertificates[0]) != tg.Pin {
				return errors.New("another key")
			}
			return nil
		}},
	}}
}

// boxo's own clients read an edition from a relay under its prefix: block by
// block, as CARs, and from the channel's IPNS name.
func TestBoxoReadsFromARelay(t *testing.T) {
	p := newPress(t, "boxo")
	r := start(t, Config{})
	s := p.edition(t, 400_000)
	push(t, r, s)
	tg := target(t, r, p.ch)
	if err := pusher(t, r.cfg.Network, tg).PublishRecord(t.Context(), p.ch, p.record(t, s, 1)); err != nil {
		t.Fatal(err)
	}
	base := "https://" + tg.Address() + "/" + tg.Relay(p.batch).Prefix.Path()
	client := pinned(tg)
	defer client.CloseIdleConnections()
	cars, err := boxo.NewRemoteCarBackend([]string{base}, client, boxo.WithPrometheusRegistry(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := boxo.NewRemoteBlocksBackend([]string{base}, client)
	if err != nil {
		t.Fatal(err)
	}
	for name, backend := range map[string]boxo.IPFSBackend{"CARs": cars, "blocks": blocks} {
		t.Run(name, func(t *testing.T) {
			front := boxo.NewHandler(boxo.Config{DeserializedResponses: true, DisableHTMLErrors: true, MetricsRegistry: prometheus.NewRegistry()}, backend)
			for _, l := range []string{bundle.LayerFront, bundle.LayerText, bundle.LayerMedia} {
				want := layerOf(t, r, s, l)
				at := "/ipfs/" + s.head.Root.String() + "/" + l + ".age"
				if code, got := readBoxo(t, front, at); code != 200 || !bytes.Equal(got, want) {
					t.Errorf("%s: %d, %d bytes of %d", l, code, len(got), len(want))
				}
				from, to := len(want)/2, len(want)/2+len(want)/4
				if code, got := readBoxo(t, front, at, "Range", fmt.Sprintf("bytes=%d-%d", from, to)); code != 206 || !bytes.Equal(got, want[from:to+1]) {
					t.Errorf("a part of %s: %d, %d bytes", l, code, len(got))
				}
			}
			if code, _ := readBoxo(t, front, "/ipfs/"+s.head.Root.String()+"/nothing.age"); code/100 == 2 {
				t.Errorf("a file that does not exist: %d", code)
			}
			name, err := ipns.NameFromString(p.name(t))
			if err != nil {
				t.Fatal(err)
			}
			rec, err := backend.GetIPNSRecord(t.Context(), name.Cid())
			if err != nil || !bytes.Equal(rec, served(t, r, p)) {
				t.Errorf("record: %v", err)
			}
			at, _, _, err := backend.ResolveMutable(t.Context(), mustPath(t, "/ipns/"+name.String()))
			if err != nil || at.String() != "/ipfs/"+s.head.Root.String() {
				t.Errorf("the name leads to %s, %v", at, err)
			}
		})
	}
	// Without the prefix there is nothing of the kind.
	for _, elsewhere := range []string{"https://" + tg.Address(), base[:len(base)-1] + "_"} {
		resp, err := client.Get(elsewhere + "/ipfs/bafkqaaa?format=raw")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 404 || resp.Header.Get("X-Ipfs-Path") != "" {
			t.Errorf("%s", resp.Status)
		}
		resp.Body.Close()
	}
	if resp, err := client.Get(base + "/ipfs/bafkqaaa?format=raw"); err != nil || resp.StatusCode != 200 || resp.ContentLength != 0 {
		t.Errorf("probe: %v", err)
	}
}

func mustPath(t *testing.T, s string) path.Path {
	t.Helper()
	p, err := path.NewPath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readBoxo reads a file through a whole gateway of boxo's, which fetches what it
// needs with its client.
func readBoxo(t *testing.T, front http.Handler, at string, header ...string) (int, []byte) {
	t.Helper()
	req := httptest.NewRequest("GET", "https://gateway.example"+at, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	front.ServeHTTP(w, req)
	return w.Code, w.Body.Bytes()
}

// layerOf is a layer's file as the relay holds it.
func layerOf(t *testing.T, r *Relay, s *sheet, name string) (out []byte) {
	t.Helper()
	block := func(c cid.Cid) []byte {
		t.Helper()
		b, err := r.store.Block(s.head.Channel, c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dir, err := bundle.ParseDirectory(s.head.Root, block(s.head.Root))
	if err != nil {
		t.Fatal(err)
	}
	c, ok := dir.Layers[name]
	if !ok {
		t.Fatal("no layer " + name)
	}
	if c.Type() == cid.Raw {
		return block(c)
	}
	leaves, err := bundle.ParseFile(c, block(c), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leaves {
		out = append(out, block(l.CID)...)
	}
	return out
}
