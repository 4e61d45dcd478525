package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// web answers requests without a network.
type web func(*http.Request) (*http.Response, error)

func (w web) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func answer(code int, body io.Reader) (*http.Response, error) {
	return &http.Response{StatusCode: code, Body: io.NopCloser(body), ContentLength: -1, Header: http.Header{}}, nil
}

// endless yields zeros for ever and counts them.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	e.n += len(b)
	return len(b), nil
}

func block(s string, n int) ([]byte, cid.Cid) {
	b := bytes.Repeat([]byte(s), n)
	return b, bundle.RawCID(b)
}

func client(t *testing.T, w web, o Options) *Client {
	t.Helper()
	c, err := New("https://gw.example.org/sub/", w, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFetchSortsGoodFromBad(t *testing.T) {
	good, goodID := block("good", 1000)
	_, wrong := block("wrong", 10)
	_, missing := block("missing", 10)
	_, long := block("long", 10)
	_, torn := block("torn", 10)
	_, busy := block("busy", 10)
	flood := &endless{}
	c := client(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Accept") != "application/vnd.ipld.raw" || r.URL.Query().Get("format") != "raw" {
			t.Errorf("asked for %s, accepting %q", r.URL, r.Header.Get("Accept"))
		}
		switch strings.TrimPrefix(r.URL.Path, "/sub/ipfs/") {
		case goodID.String():
			return answer(200, bytes.NewReader(good))
		case wrong.String():
			return answer(200, strings.NewReader("something else"))
		case long.String():
			return answer(200, flood)
		case torn.String():
			return answer(200, io.MultiReader(strings.NewReader("torn"), &failing{}))
		case busy.String():
			return answer(503, strings.NewReader("later"))
		}
		return answer(404, strings.NewReader("no"))
	}, Options{Parallel: 2})
	got := 0
	r := transport.Request{Got: func(i, n int) {
		if i == 0 {
			got += n
		}
	}}
	for _, id := range []cid.Cid{goodID, wrong, missing, long, torn, busy, goodID} {
		r.Wants = append(r.Wants, transport.Want{CID: id})
	}
	failed := map[cid.Cid]bool{}
	yields := 0
	for b, err := range c.Fetch(t.Context(), r) {
		var we *transport.WantError
		switch {
		case errors.As(err, &we):
			failed[we.CID] = true
		case err != nil:
			t.Fatal(err)
		default:
			yields++
			if !b.CID.Equals(goodID) || !bytes.Equal(b.Data, good) {
				t.Errorf("yielded %s", b.CID)
			}
		}
	}
	if yields != 1 {
		t.Errorf("%d blocks yielded, one is there", yields)
	}
	if got != len(good) {
		t.Errorf("Got heard of %d bytes of %d", got, len(good))
	}
	for _, id := range []cid.Cid{wrong, long, torn, busy} {
		if !failed[id] {
			t.Errorf("no error for %s", id)
		}
	}
	if failed[missing] {
		t.Error("a block that is not there is an error")
	}
	if flood.n > 4*bundle.MaxBlock {
		t.Errorf("read %d bytes of an endless body", flood.n)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestSizeIsABound(t *testing.T) {
	data, id := block("x", 100)
	c := client(t, func(*http.Request) (*http.Response, error) { return answer(200, bytes.NewReader(data)) }, Options{})
	for size, ok := range map[int]bool{0: true, 100: true, 99: false, 101: false} {
		_, err := c.Block(t.Context(), id, size, nil)
		if (err == nil) != ok {
			t.Errorf("want of %d bytes: %v", size, err)
		}
	}
}

func TestDeadConnectionEndsFetch(t *testing.T) {
	gone := errors.New("connection gone")
	c := client(t, func(*http.Request) (*http.Response, error) { return nil, gone }, Options{})
	var wants []transport.Want
	for i := range 50 {
		_, id := block("x", i+1)
		wants = append(wants, transport.Want{CID: id})
	}
	n := 0
	for _, err := range c.Fetch(t.Context(), transport.Request{Wants: wants}) {
		if n++; !errors.Is(err, gone) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors, the first should be the last value", n)
	}
}

// hang is a body that never comes, until its request ends.
type hang struct{ ctx context.Context }

func (h hang) Read([]byte) (int, error) {
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

func TestSilenceTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, id := block("here", 10)
		_, silent := block("silent", 10)
		c := client(t, func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, silent.String()) {
				return answer(200, hang{r.Context()})
			}
			return answer(200, bytes.NewReader(data))
		}, Options{BlockTimeout: 20 * time.Second})
		from := time.Now()
		var got []cid.Cid
		var failed error
		for b, err := range c.Fetch(t.Context(), transport.Request{Wants: []transport.Want{{CID: silent}, {CID: id}}}) {
			if err != nil {
				failed = err
				continue
			}
			got = append(got, b.CID)
		}
		var we *transport.WantError
		if !errors.As(failed, &we) || !we.CID.Equals(silent) || !slices.Equal(got, []cid.Cid{id}) {
			t.Errorf("got %v, failed %v", got, failed)
		}
		if d := time.Since(from); d != 20*time.Second {
			t.Errorf("gave up after %v", d)
		}
	})
}

func TestBreakAndCancelEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, id := block("here", 10)
		c := client(t, func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, id.String()) {
				return answer(200, bytes.NewReader(data))
			}
			return answer(200, hang{r.Context()})
		}, Options{})
		wants := []transport.Want{{CID: id}}
		for i := range 40 {
			_, hung := block("hung", i+1)
			wants = append(wants, transport.Want{CID: hung})
		}
		from := time.Now()
		for _, err := range c.Fetch(t.Context(), transport.Request{Wants: wants}) {
			if err != nil {
				t.Error(err)
			}
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		next, stop := iter.Pull2(c.Fetch(ctx, transport.Request{Wants: wants[1:]}))
		defer stop()
		go func() { time.Sleep(time.Second); cancel() }()
		if _, err, ok := next(); ok && !errors.Is(err, context.Canceled) && !isWantError(err) {
			t.Error(err)
		}
		if d := time.Since(from); d != time.Second {
			t.Errorf("took %v of fake time", d)
		}
	})
}

// names knows one channel.
type names struct{}

func (*names) Name(ch channel.ID) (string, bool) { return "k51name", ch == channel.ID{1} }

func (*names) Head(_ channel.ID, rec []byte) ([]byte, error) { return bytes.ToUpper(rec), nil }

func TestHeadsThroughRecords(t *testing.T) {
	body := io.Reader(strings.NewReader("head"))
	c := client(t, func(r *http.Request) (*http.Response, error) {
		if r.URL.String() != "https://gw.example.org/sub/ipns/k51name?format=ipns-record" {
			t.Errorf("asked for %s", r.URL)
		}
		return answer(200, body)
	}, Options{Records: &names{}})
	p := c.Path()
	if p.Kind != transport.KindGateway || p.Name != "gateway gw.example.org" {
		t.Errorf("path %q of kind %q", p.Name, p.Kind)
	}
	if h, err := p.Heads.Head(t.Context(), channel.ID{1}, 0); err != nil || string(h) != "HEAD" {
		t.Errorf("%q, %v", h, err)
	}
	if _, err := p.Heads.Head(t.Context(), channel.ID{2}, 0); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("unknown channel: %v", err)
	}
	flood := &endless{}
	body = flood
	if _, err := p.Heads.Head(t.Context(), channel.ID{1}, 0); err == nil || flood.n > 1<<20 {
		t.Errorf("endless record: %v after %d bytes", err, flood.n)
	}
	if client(t, nil, Options{}).Path().Heads != nil {
		t.Error("heads without records")
	}
}

func TestBaseIsChecked(t *testing.T) {
	for _, bad := range []string{"", "gw.example.org", "ftp://x", "https://", "https://x/?q", "https://x/#f", "https://u:p@x/"} {
		if _, err := New(bad, nil, Options{}); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

// TestEndlessBodies: a body that never ends costs no more than the longest block
// that the want could have.
func TestEndlessBodies(t *testing.T) {
	raw := bundle.RawCID([]byte("raw"))
	node := cid.NewCidV1(cid.DagProtobuf, raw.Hash())
	for name, test := range map[string]struct {
		want transport.Want
		most int
	}{
		"chunk of known size":   {transport.Want{CID: raw, Layer: bundle.LayerMedia, Size: 1000}, 1000},
		"chunk of unknown size": {transport.Want{CID: raw, Layer: bundle.LayerFront}, bundle.MaxBlock},
		"a size over the limit": {transport.Want{CID: raw, Layer: bundle.LayerMedia, Size: 1 << 20}, bundle.MaxBlock},
		"root of a file":        {transport.Want{CID: node, Layer: bundle.LayerText, Node: true}, maxFileNode},
		"node within the log":   {transport.Want{CID: node, Layer: bundle.LayerLog, Node: true}, maxFileNode},
		"node, unmarked":        {transport.Want{CID: node, Layer: bundle.LayerMedia}, maxFileNode},
		"folder":                {transport.Want{CID: node, Layer: bundle.LayerDirectory, Node: true}, bundle.MaxBlock},
		"folder of grants":      {transport.Want{CID: node, Layer: bundle.LayerGrants, Node: true}, bundle.MaxBlock},
		"grant":                 {transport.Want{CID: raw, Layer: bundle.LayerGrants}, channel.GrantLarge},
		"root note":             {transport.Want{CID: raw, Layer: bundle.LayerRoot}, channel.MaxRootNote},
	} {
		t.Run(name, func(t *testing.T) {
			for _, announced := range []bool{false, true} {
				flood, heard := &endless{}, 0
				c := client(t, func(*http.Request) (*http.Response, error) {
					a, err := answer(200, flood)
					if announced {
						a.ContentLength = int64(test.most) + 1
					}
					return a, err
				}, Options{})
				var failed error
				for _, err := range c.Fetch(t.Context(), transport.Request{Wants: []transport.Want{test.want}, Got: func(_, n int) { heard += n }}) {
					failed = err
				}
				if !errors.Is(failed, errTooLong) {
					t.Errorf("announced %v: %v", announced, failed)
				}
				if limit := test.most + 1; flood.n > limit || heard > limit || announced && flood.n > 0 {
					t.Errorf("announced %v: %d bytes were read, at most %d can be of use", announced, flood.n, test.most)
				}
			}
		})
	}
}

// TestLongestNode: the longest block of links that a file may have is let through.
func TestLongestNode(t *testing.T) {
	const links = 174
	fs := unixfs.NewFSNode(unixfs.TFile)
	n := new(merkledag.ProtoNode)
	if err := n.SetCidBuilder(merkledag.V1CidPrefix()); err != nil {
		t.Fatal(err)
	}
	for i := range links {
		fs.AddBlockSize(1 << 30)
		if err := n.AddRawLink("", &ipld.Link{Cid: bundle.RawCID([]byte{byte(i)}), Size: 1 << 62}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := fs.GetBytes()
	if err != nil {
		t.Fatal(err)
	}
	n.SetData(data)
	raw := n.RawData()
	if len(raw) > maxFileNode || len(raw) < maxFileNode*2/3 {
		t.Errorf("%d bytes, the limit is %d", len(raw), maxFileNode)
	}
	c := client(t, func(*http.Request) (*http.Response, error) { return answer(200, bytes.NewReader(raw)) }, Options{})
	w := transport.Want{CID: n.Cid(), Layer: bundle.LayerMedia, Node: true}
	for b, err := range c.Fetch(t.Context(), transport.Request{Wants: []transport.Want{w}}) {
		if err != nil || !bytes.Equal(b.Data, raw) {
			t.Errorf("it did not come through: %v", err)
		}
	}
}
