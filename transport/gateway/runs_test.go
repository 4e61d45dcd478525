package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/transport"
)

// film is a layer of many blocks, and a gateway that has it.
type film struct {
	root   cid.Cid
	blocks [][]byte
	wants  []transport.Want
	node   []byte // stands for what leads to the blocks

	mu        sync.Mutex
	cars, raw int // requests
}

func newFilm(n int) *film {
	f := &film{node: []byte("a node")}
	f.root = cid.NewCidV1(cid.DagProtobuf, bundle.RawCID(f.node).Hash())
	at := int64(0)
	for i := range n {
		data := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 30_000)
		f.blocks = append(f.blocks, data)
		f.wants = append(f.wants, transport.Want{CID: bundle.RawCID(data), Layer: bundle.LayerMedia, Offset: at, Size: len(data), File: f.root})
		at += int64(len(data))
	}
	return f
}

func (f *film) request() transport.Request {
	return transport.Request{Wants: f.wants}
}

// car is the answer to a request for bytes from to to of the layer.
func (f *film) car(from, to int64) []byte {
	var out bytes.Buffer
	w, _ := car.NewWriter(&out, []cid.Cid{f.root})
	_ = w.Put(f.root, f.node)
	for i, want := range f.wants {
		if want.Offset <= to && want.Offset+int64(want.Size) > from {
			_ = w.Put(want.CID, f.blocks[i])
		}
	}
	return out.Bytes()
}

// serve answers requests for raw blocks well, and those for CARs with what odd makes
// of a good answer.
func (f *film) serve(t *testing.T, odd func(ctx context.Context, good []byte) (*http.Response, error)) web {
	return func(r *http.Request) (*http.Response, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if r.URL.Query().Get("format") == "raw" {
			f.raw++
			for i, w := range f.wants {
				if strings.HasSuffix(r.URL.Path, w.CID.String()) {
					return answer(200, bytes.NewReader(f.blocks[i]))
				}
			}
			return answer(404, strings.NewReader("no"))
		}
		f.cars++
		var from, to int64
		q := r.URL.Query()
		if _, err := fmt.Sscanf(q.Get("entity-bytes"), "%d:%d", &from, &to); err != nil || q.Get("format") != "car" || q.Get("dag-scope") != "entity" ||
			r.URL.Path != "/sub/ipfs/"+f.root.String() || !strings.HasPrefix(r.Header.Get("Accept"), typeCAR) {
			t.Errorf("asked for %s, accepting %q", r.URL, r.Header.Get("Accept"))
		}
		return odd(r.Context(), f.car(from, to))
	}
}

func carOf(body io.Reader) (*http.Response, error) {
	resp, err := answer(200, body)
	resp.Header.Set("Content-Type", typeCAR+"; version=1; order=dfs; dups=n")
	return resp, err
}

func good(_ context.Context, b []byte) (*http.Response, error) { return carOf(bytes.NewReader(b)) }

// fast is a client who has found that the line is.
func fast(t *testing.T, w web, o Options) *Client {
	t.Helper()
	c := client(t, w, o)
	c.pace.note(100_000_000, time.Second)
	return c
}

// got is what a Fetch has brought.
type got struct {
	blocks int
	bad    []error
	lies   int
}

func (f *film) fetch(t *testing.T, blocks iter.Seq2[transport.Block, error]) (g got) {
	t.Helper()
	seen := map[cid.Cid]bool{}
	for b, err := range blocks {
		switch {
		case err != nil:
			g.bad = append(g.bad, err)
		case seen[b.CID]:
			t.Errorf("%s was yielded twice", b.CID)
		case bundle.CheckBlock(b.CID, b.Data) != nil:
			g.lies++
		case slices.ContainsFunc(f.wants, func(w transport.Want) bool { return w.CID == b.CID }):
			seen[b.CID] = true
			g.blocks++
		default:
			t.Errorf("%s was not asked for", b.CID)
		}
	}
	return g
}

func TestRuns(t *testing.T) {
	gap := func(w []transport.Want) { // the 21st is here already
		for i := range w[20:] {
			w[20+i].Offset += 5
		}
	}
	for name, test := range map[string]struct {
		opts      Options
		slow      bool
		change    func(*transport.Request)
		cars, raw int
	}{
		"neighbours":          {opts: Options{Runs: RunsTried}, cars: 1},
		"with a gap":          {opts: Options{Runs: RunsTrusted}, change: func(r *transport.Request) { gap(r.Wants) }, cars: 2},
		"one of another file": {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) { r.Wants[39].File = r.Wants[0].CID }, cars: 1, raw: 1},
		"line not known":      {opts: Options{Runs: RunsTried}, slow: true, raw: 40},
		"bytes are dear":      {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) { r.Once = true }, raw: 40},
		"no file known": {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) {
			for i := range r.Wants {
				r.Wants[i].File = cid.Undef
			}
		}, raw: 40},
		"never":              {raw: 40},
		"too few":            {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) { r.Wants = r.Wants[:3] }, raw: 3},
		"of unknown sizes":   {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) { r.Wants[0].Size = 0; r.Wants = r.Wants[:1] }, raw: 1},
		"not in their order": {opts: Options{Runs: RunsTried}, change: func(r *transport.Request) { slices.Reverse(r.Wants) }, raw: 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFilm(40)
				r := f.request()
				r.Wants = slices.Clone(f.wants)
				heard := map[int]int{}
				var mu sync.Mutex
				r.Got = func(i, n int) { mu.Lock(); defer mu.Unlock(); heard[i] += n }
				if test.change != nil {
					test.change(&r)
				}
				w := f.serve(t, good)
				c := fast(t, w, test.opts)
				if test.slow {
					c = client(t, func(r *http.Request) (*http.Response, error) { time.Sleep(time.Second); return w(r) }, test.opts)
				}
				if g := f.fetch(t, c.Fetch(t.Context(), r)); g.blocks != len(r.Wants) || len(g.bad) > 0 {
					t.Errorf("%+v", g)
				}
				if f.cars != test.cars || f.raw != test.raw {
					t.Errorf("%d requests for CARs and %d for blocks", f.cars, f.raw)
				}
				for i := range r.Wants {
					if heard[i] != 60_000 {
						t.Errorf("Got heard of %d bytes of want %d", heard[i], i)
					}
				}
			})
		})
	}
}

// A line that turns out to bring much is asked for runs in the same Fetch.
func TestRunsBegin(t *testing.T) {
	f := newFilm(200)
	c := client(t, f.serve(t, good), Options{Runs: RunsTrusted})
	if g := f.fetch(t, c.Fetch(t.Context(), f.request())); g.blocks != 200 || len(g.bad) > 0 {
		t.Errorf("%+v", g)
	}
	if f.cars == 0 || f.raw == 0 || f.raw > 100 {
		t.Errorf("%d requests for CARs and %d for blocks", f.cars, f.raw)
	}
}

// TestOddCARs: whatever a gateway answers, the blocks come raw where its CAR does not
// bring them, it costs little, and it is not asked for a CAR again soon.
func TestOddCARs(t *testing.T) {
	junk := func(n int) []byte { // sections of blocks that nobody wants
		b := bytes.Repeat([]byte("junk"), n/4)
		return append(car.AppendStart(nil, bundle.RawCID(b), len(b)), b...)
	}
	start := func(good []byte) []byte { return good[:1+good[0]] } // the header
	whole := func(b []byte) func(context.Context, []byte) (*http.Response, error) {
		return func(context.Context, []byte) (*http.Response, error) { return carOf(bytes.NewReader(b)) }
	}
	flood := &endless{}
	for name, test := range map[string]struct {
		odd  func(ctx context.Context, good []byte) (*http.Response, error)
		fine bool // not odd at all
		lies int  // blocks yielded that are none
	}{
		"as it should be": {odd: good, fine: true},
		"in another order": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			f, out := newFilm(40), bytes.NewBuffer(start(b))
			for i, w := range slices.Backward(f.wants) {
				out.Write(append(car.AppendStart(nil, w.CID, w.Size), f.blocks[i]...))
			}
			return carOf(out)
		}, fine: true},
		"one block twice": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			f := newFilm(1)
			first := append(car.AppendStart(nil, f.wants[0].CID, f.wants[0].Size), f.blocks[0]...)
			return carOf(io.MultiReader(bytes.NewReader(start(b)), bytes.NewReader(first), bytes.NewReader(b[len(start(b)):])))
		}, fine: true},
		"more behind the last": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(b), flood))
		}, fine: true},
		"a block's bytes wrong": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			b[len(b)-1] ^= 1
			return carOf(bytes.NewReader(b))
		}, fine: true, lies: 1},
		"not found":   {odd: func(context.Context, []byte) (*http.Response, error) { return answer(404, strings.NewReader("no")) }},
		"not known":   {odd: func(context.Context, []byte) (*http.Response, error) { return answer(406, strings.NewReader("no")) }},
		"a page":      {odd: func(context.Context, []byte) (*http.Response, error) { return answer(200, strings.NewReader("<html>")) }},
		"no bytes":    {odd: whole(nil)},
		"header only": {odd: func(_ context.Context, b []byte) (*http.Response, error) { return carOf(bytes.NewReader(start(b))) }},
		"long header": {odd: whole([]byte{0xff, 0xff, 0x7f, 1, 2, 3})},
		"version 2":   {odd: whole(append([]byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02}, make([]byte, 100)...))},
		"an end in the middle": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(bytes.NewReader(b[:len(b)/2]))
		}},
		"broken off": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(b[:len(b)/2]), &failing{}))
		}},
		"a huge section": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(start(b)), bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}), flood))
		}},
		"an empty section": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(start(b)), flood))
		}},
		"a CID of nothing": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(start(b)), strings.NewReader("\x50"), flood))
		}},
		"a block of another size": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			f, out := newFilm(1), bytes.NewBuffer(start(b))
			out.Write(append(car.AppendStart(nil, f.wants[0].CID, 59_999), f.blocks[0]...))
			return carOf(out)
		}},
		"one block short": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(bytes.NewReader(b[:len(b)-60_000-39]))
		}},
		"others' blocks without end": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(start(b)), &again{of: junk(50_000)}))
		}},
		"small ones without end": {odd: func(_ context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(start(b)), &again{of: junk(4)}))
		}},
		"slower than it may be": {odd: func(ctx context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(b[:len(b)/2]), hang{ctx}))
		}},
	} {
		for _, runs := range []Runs{RunsTried, RunsTrusted} {
			t.Run(fmt.Sprintf("%s %d", name, runs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFilm(40)
					flood.n = 0
					c := fast(t, f.serve(t, test.odd), Options{Runs: runs})
					g := f.fetch(t, c.Fetch(t.Context(), f.request()))
					var lied, slow int
					for _, err := range g.bad {
						switch {
						case !isWantError(err):
							t.Errorf("it ended with %v", err)
						case errors.Is(err, bundle.ErrBlock):
							lied++
						case errors.Is(err, context.DeadlineExceeded):
							slow++
						}
					}
					if n := g.blocks + len(g.bad) + g.lies; n != 40 || g.lies != test.lies {
						t.Errorf("%+v", g)
					}
					if want := runs == RunsTrusted && strings.HasSuffix(name, "without end"); (lied > 0) != want {
						t.Errorf("%d lies", lied)
					}
					if (slow > 0) != strings.HasPrefix(name, "slower") {
						t.Errorf("%d that were too slow", slow)
					}
					if test.fine != (f.raw == 0) || flood.n > 64<<10 {
						t.Errorf("%d blocks asked for raw, %d bytes read of what has no end", f.raw, flood.n)
					}
					before := f.cars
					if g := f.fetch(t, c.Fetch(t.Context(), f.request())); g.blocks != 40-g.lies || test.fine != (f.cars > before) {
						t.Errorf("the second time: %+v, %d CARs", g, f.cars-before)
					}
					time.Sleep(oddFor)
					if f.fetch(t, c.Fetch(t.Context(), f.request())); f.cars == before {
						t.Error("it is never asked for a CAR again")
					}
				})
			})
		}
	}
}

// again is the same for ever; what has been read of it is bounded by who reads.
type again struct {
	of []byte
	at int
	n  int
}

func (a *again) Read(b []byte) (int, error) {
	n := copy(b, a.of[a.at:])
	if a.n += n; a.n > 1<<20 {
		return 0, errors.New("somebody reads on and on")
	}
	a.at = (a.at + n) % len(a.of)
	return n, nil
}

// ended is a body that notes whether it was read to its end before it was closed.
type ended struct {
	io.Reader
	end    bool
	closed func(end bool)
}

func (e *ended) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	e.end = e.end || err == io.EOF
	return n, err
}

func (e *ended) Close() error {
	e.closed(e.end)
	return nil
}

// A CAR is read to its end, so that the connection is of use again, unless more comes
// than should or nothing does: that holds nobody up for long.
func TestRunsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		then  func(ctx context.Context) io.Reader // behind the last block
		ended bool
		most  time.Duration
	}{
		"at once":         {then: func(context.Context) io.Reader { return strings.NewReader("") }, ended: true},
		"soon":            {then: func(context.Context) io.Reader { return &late{time.Second / 2} }, ended: true, most: time.Second / 2},
		"never":           {then: func(ctx context.Context) io.Reader { return hang{ctx} }, most: endTime},
		"after much more": {then: func(context.Context) io.Reader { return &endless{} }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFilm(40)
				closed := 0
				c := fast(t, f.serve(t, func(ctx context.Context, b []byte) (*http.Response, error) {
					resp, err := carOf(nil)
					resp.Body = &ended{Reader: io.MultiReader(bytes.NewReader(b), test.then(ctx)), closed: func(end bool) {
						if closed++; end != test.ended {
							t.Errorf("read to its end: %v", end)
						}
					}}
					return resp, err
				}), Options{Runs: RunsTried})
				from := time.Now()
				if g := f.fetch(t, c.Fetch(t.Context(), f.request())); g.blocks != 40 || len(g.bad) > 0 {
					t.Errorf("%+v", g)
				}
				if d := time.Since(from); d > test.most || closed != 1 || f.raw > 0 {
					t.Errorf("it took %v of fake time, %d CARs and %d blocks", d, closed, f.raw)
				}
			})
		})
	}
}

// late is a body that ends after a while.
type late struct{ time.Duration }

func (l *late) Read([]byte) (int, error) {
	time.Sleep(l.Duration)
	return 0, io.EOF
}

// A run that is cut off gives back what has come, of which nothing was yielded.
func TestRunIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFilm(40)
		const rest = 100_000
		c := fast(t, f.serve(t, func(ctx context.Context, b []byte) (*http.Response, error) {
			return carOf(io.MultiReader(bytes.NewReader(b[:len(b)-rest]), hang{ctx}))
		}), Options{Runs: RunsTrusted})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		kept := 0
		n := 0
		for _, err := range c.FetchKeeping(ctx, f.request(), func(id cid.Cid, data []byte) {
			if i := slices.IndexFunc(f.wants, func(w transport.Want) bool { return w.CID == id }); i < 0 || !bytes.HasPrefix(f.blocks[i], data) {
				t.Errorf("%d bytes of something else", len(data))
			}
			kept += len(data)
		}) {
			if err == nil {
				n += 60_000
			} else if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if all := 40*60_000 - rest + 39; n+kept != all { // one section's start is in the rest
			t.Errorf("%d bytes in blocks and %d begun are not %d", n, kept, all)
		}
	})
}
