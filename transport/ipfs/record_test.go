package ipfs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"

	"tamizdat/bundle"
	"tamizdat/transport"
)

func TestRecordRoundTrip(t *testing.T) {
	e := newEdition(t)
	for _, name := range []string{e.name, "/ipns/" + e.name} {
		compact, root, err := HeadFromRecord(name, e.record)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(compact, e.compact) || !root.Equals(e.root) {
			t.Errorf("%s: another head or root came out", name)
		}
	}
	if len(e.record) > 1024 {
		t.Errorf("a record of %d bytes", len(e.record))
	}
	// Any other IPNS node accepts it: boxo's own validator is Kubo's.
	n, err := ipns.NameFromString(e.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := (ipns.Validator{}).Validate(string(n.RoutingKey()), e.record); err != nil {
		t.Errorf("Kubo would refuse the record: %v", err)
	}
}

func TestRecordRefused(t *testing.T) {
	e, other := newEdition(t), newEdition(t)
	sign := func(value string, meta map[string]any) []byte {
		sk, err := crypto.UnmarshalEd25519PrivateKey(e.ipnsKey)
		if err != nil {
			t.Fatal(err)
		}
		p, err := path.NewPath(value)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ipns.NewRecord(sk, p, 1, time.Now().Add(time.Hour), 0, ipns.WithMetadata(meta))
		if err != nil {
			t.Fatal(err)
		}
		b, err := ipns.MarshalRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	flipped := bytes.Clone(e.record)
	flipped[bytes.Index(flipped, e.compact)+20] ^= 1
	at := "/ipfs/" + e.root.String()
	for what, c := range map[string]struct {
		name string
		rec  []byte
	}{
		"wrong key":    {other.name, e.record},
		"not a name":   {"nonsense", e.record},
		"empty":        {e.name, nil},
		"cut":          {e.name, e.record[:len(e.record)-9]},
		"bit flipped":  {e.name, flipped},
		"too large":    {e.name, make([]byte, MaxRecord+1)},
		"no head":      {e.name, sign(at, nil)},
		"head a text":  {e.name, sign(at, map[string]any{headKey: "head"})},
		"head empty":   {e.name, sign(at, map[string]any{headKey: []byte{}})},
		"head too big": {e.name, sign(at, map[string]any{headKey: make([]byte, maxCompact+1)})},
		"value a name": {e.name, sign("/ipns/"+e.name, map[string]any{headKey: e.compact})},
		"value deeper": {e.name, sign(at+"/front.age", map[string]any{headKey: e.compact})},
	} {
		if _, _, err := HeadFromRecord(c.name, c.rec); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := signRecord(e.ipnsKey, e.root, make([]byte, maxCompact+1), 1, time.Now()); err == nil {
		t.Error("a head too large for a record was signed")
	}
}

func TestExpiredRecordIsRead(t *testing.T) {
	e := newEdition(t)
	old, err := signRecord(e.ipnsKey, e.root, e.compact, 7, time.Now().Add(-3*365*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if compact, _, err := HeadFromRecord(e.name, old); err != nil || !bytes.Equal(compact, e.compact) {
		t.Errorf("expired record: %v", err)
	}
}

func headsOf(t *testing.T, n *Node, e *edition, addrs []string) transport.Heads {
	t.Helper()
	p, err := n.Path("", e.ipnsPub, addrs)
	if err != nil {
		t.Fatal(err)
	}
	return p.Heads
}

// compactOf reads the head out of a record, for comparison.
func compactOf(t *testing.T, e *edition, rec []byte) []byte {
	t.Helper()
	c, _, err := HeadFromRecord(e.name, rec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHeads(t *testing.T) {
	e := newEdition(t)
	for what, mode := range map[string]Mode{"own handler": DHTOff, "dht server": DHTServer} {
		t.Run(what, func(t *testing.T) {
			srv := newNode(t, Config{Network: new(loopback), Listen: bothListen, Blocks: e.store, DHT: mode})
			reader := newNode(t, Config{Network: new(loopback)})
			h := headsOf(t, reader, e, srv.Addrs())
			if _, err := h.Head(t.Context(), [32]byte{}, 0); !errors.Is(err, transport.ErrNotFound) {
				// An own handler that has never had a record is not there at all.
				if mode == DHTServer || err == nil {
					t.Errorf("before any record: %v", err)
				}
			}
			if err := srv.SetRecord(e.name, e.record); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool {
				raw, err := h.Head(t.Context(), [32]byte{}, 0)
				return err == nil && bytes.Equal(raw, e.compact)
			})
			if b, err := h.RootNote(t.Context(), [32]byte{}, 1); err != nil || !bytes.Equal(b, e.note) {
				t.Errorf("root note: %d bytes, %v", len(b), err)
			}
			if b, err := h.Grant(t.Context(), [32]byte{}, grantName); err != nil || !bytes.Equal(b, e.grant) {
				t.Errorf("grant: %d bytes, %v", len(b), err)
			}
			if _, err := h.RootNote(t.Context(), [32]byte{}, 2); !errors.Is(err, transport.ErrNotFound) {
				t.Errorf("absent root note: %v", err)
			}
			if _, err := h.Grant(t.Context(), [32]byte{}, "../root/1"); !errors.Is(err, transport.ErrNotFound) {
				t.Errorf("a grant name that is a path: %v", err)
			}
			if err := srv.SetRecord(e.name, e.later); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool {
				raw, err := h.Head(t.Context(), [32]byte{}, 1)
				return err == nil && bytes.Equal(raw, compactOf(t, e, e.later))
			})
		})
	}
}

// waitFor polls for what another goroutine brings about soon.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come about")
}

func TestOlderRecord(t *testing.T) {
	e := newEdition(t)
	fresh, stale := server(t, new(loopback), e.store), server(t, new(loopback), e.store)
	for _, r := range [][]byte{e.later, e.record} { // the second is older: ignored
		if err := fresh.SetRecord(e.name, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := stale.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	if r, err := fresh.Record(e.name); err != nil || !bytes.Equal(r, e.later) {
		t.Errorf("the node keeps another record: %v", err)
	}
	if _, err := fresh.Record(newEdition(t).name); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("a record never given: %v", err)
	}
	want := compactOf(t, e, e.later)
	reader := newNode(t, Config{Network: new(loopback)})
	both := headsOf(t, reader, e, append(stale.Addrs(), fresh.Addrs()...))
	if raw, err := both.Head(t.Context(), [32]byte{}, 0); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("of two records the older one was taken: %v", err)
	}
	// Seen once, the newer one stays the newest though only the laggard answers.
	if err := fresh.Close(); err != nil {
		t.Fatal(err)
	}
	if raw, err := both.Head(t.Context(), [32]byte{}, 0); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("went back to an older record: %v", err)
	}
	if err := stale.SetRecord(newEdition(t).name, e.record); !errors.Is(err, ErrRecord) {
		t.Errorf("a record under another name: %v", err)
	}
	if err := fresh.SetRecord(e.name, e.later); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed node took a record: %v", err)
	}
}

// A forged record of one peer doesn't hide the true one of another.
func TestForgedRecord(t *testing.T) {
	e, evil := newEdition(t), newEdition(t)
	liar, honest := server(t, new(loopback), e.store), server(t, new(loopback), e.store)
	n, err := ipns.NameFromString(e.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := liar.SetRecord(evil.name, evil.record); err != nil {
		t.Fatal(err)
	}
	liar.mu.Lock()
	liar.records[n] = evil.later
	liar.mu.Unlock()
	if err := honest.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	reader := newNode(t, Config{Network: new(loopback)})
	if raw, err := headsOf(t, reader, e, append(liar.Addrs(), honest.Addrs()...)).Head(t.Context(), [32]byte{}, 0); err != nil || !bytes.Equal(raw, e.compact) {
		t.Errorf("%v", err)
	}
	if _, err := headsOf(t, reader, e, liar.Addrs()).Head(t.Context(), [32]byte{}, 0); !errors.Is(err, ErrRecord) {
		t.Errorf("forged record: %v", err)
	}
}

// Questions other than GET_VALUE end the stream: we are no DHT server.
func TestAnswersNothingElse(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	if err := srv.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	reader := newNode(t, Config{Network: new(loopback)})
	peers, err := parsePeers(srv.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.connect(t.Context(), peers[0]); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []dhtpb.Message_MessageType{dhtpb.Message_FIND_NODE, dhtpb.Message_PUT_VALUE, dhtpb.Message_PING} {
		s, err := reader.host.NewStream(t.Context(), peers[0].ID, kadProtocol)
		if err != nil {
			t.Fatal(err)
		}
		q, err := proto.Marshal(dhtpb.NewMessage(typ, []byte(peers[0].ID), 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := msgio.NewVarintWriter(s).WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		if b, err := msgio.NewVarintReader(s).ReadMsg(); err == nil {
			t.Errorf("%s was answered with %d bytes", typ, len(b))
		}
		s.Reset()
	}
}

// handler is a gateway without a socket: a RoundTripper over an http.Handler.
type handler struct{ http.Handler }

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

func gatewayOf(e *edition) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /secret/ipns/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") != e.name || r.FormValue("format") != "ipns-record" {
			http.NotFound(w, r)
			return
		}
		w.Write(e.record)
	})
	mux.HandleFunc("GET /secret/ipfs/{cid}", func(w http.ResponseWriter, r *http.Request) {
		c, err := cid.Decode(r.PathValue("cid"))
		b, ok := e.store.blocks[c]
		if err != nil || !ok || r.FormValue("format") != "raw" {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	})
	return mux
}

func TestGatewayHeads(t *testing.T) {
	e := newEdition(t)
	h, err := GatewayHeads(handler{gatewayOf(e)}, "https://gateway.test/secret/", e.ipnsPub)
	if err != nil {
		t.Fatal(err)
	}
	// A start may ask for the grant before the head.
	if b, err := h.Grant(t.Context(), [32]byte{}, grantName); err != nil || !bytes.Equal(b, e.grant) {
		t.Errorf("grant: %d bytes, %v", len(b), err)
	}
	if b, err := h.Head(t.Context(), [32]byte{}, 0); err != nil || !bytes.Equal(b, e.compact) {
		t.Errorf("head: %d bytes, %v", len(b), err)
	}
	if b, err := h.RootNote(t.Context(), [32]byte{}, 1); err != nil || !bytes.Equal(b, e.note) {
		t.Errorf("root note: %d bytes, %v", len(b), err)
	}
	if _, err := h.RootNote(t.Context(), [32]byte{}, 9); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("absent root note: %v", err)
	}
	for _, bad := range []string{"", "gateway.test", "ftp://gateway.test"} {
		if _, err := GatewayHeads(handler{}, bad, e.ipnsPub); err == nil {
			t.Errorf("%q is no gateway", bad)
		}
	}
	if _, err := GatewayHeads(handler{}, "https://gateway.test", ed25519.PublicKey{1}); err == nil {
		t.Error("a short key was taken")
	}
}

func TestHostileGateway(t *testing.T) {
	e := newEdition(t)
	good := gatewayOf(e)
	for what, h := range map[string]http.HandlerFunc{
		"nothing":      http.NotFound,
		"server error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"endless record": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, MaxRecord+1))
		},
		"wrong block": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/ipfs/") {
				w.Write([]byte("another block"))
				return
			}
			good.ServeHTTP(w, r)
		},
		"endless block": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/ipfs/") {
				w.Write(make([]byte, bundle.MaxBlock+1))
				return
			}
			good.ServeHTTP(w, r)
		},
	} {
		g, err := GatewayHeads(handler{h}, "https://gateway.test/secret", e.ipnsPub)
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Grant(t.Context(), [32]byte{}, grantName)
		if err == nil {
			t.Errorf("%s: a grant of %d bytes", what, len(b))
		}
		if (what == "nothing") != errors.Is(err, transport.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The edition's folders are hostile input too: nothing but a plain folder with
// a raw file in it is walked.
func TestHostileFolders(t *testing.T) {
	e := newEdition(t)
	m := e.store
	layer := e.layer[0]
	nested := m.folder(t, map[string]cid.Cid{"x": layer})
	for what, root := range map[string]cid.Cid{
		"root is a leaf":     layer,
		"folder is a leaf":   m.folder(t, map[string]cid.Cid{"grants": layer}),
		"file is a folder":   m.folder(t, map[string]cid.Cid{"grants": m.folder(t, map[string]cid.Cid{grantName: nested})}),
		"file is too large":  m.folder(t, map[string]cid.Cid{"grants": m.folder(t, map[string]cid.Cid{grantName: layer})}),
		"no folder":          m.folder(t, nil),
		"block is not there": rawCID(t, []byte("gone")),
	} {
		rec, err := signRecord(e.ipnsKey, root, e.compact, 1, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		n, err := nameOf(e.ipnsPub)
		if err != nil {
			t.Fatal(err)
		}
		h := &heads{
			resolve: func(context.Context) (*signed, error) { return parseRecord(n, rec) },
			block:   func(ctx context.Context, _, c cid.Cid, _ int) ([]byte, error) { return m.Get(ctx, c) },
		}
		if b, err := h.Grant(t.Context(), [32]byte{}, grantName); err == nil {
			t.Errorf("%s: a grant of %d bytes", what, len(b))
		}
	}
}

func TestRemoveRecord(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	if err := srv.SetRecord(e.name, e.later); err != nil {
		t.Fatal(err)
	}
	h := headsOf(t, newNode(t, Config{Network: new(loopback)}), e, srv.Addrs())
	if _, err := h.Head(t.Context(), [32]byte{}, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is none
		if err := srv.RemoveRecord("/ipns/" + e.name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := srv.Record(e.name); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("the record is still held: %v", err)
	}
	if _, err := h.Head(t.Context(), [32]byte{}, 0); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("the record is still handed out: %v", err)
	}
	// What it held counts no longer: an older one may be set.
	if err := srv.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	if r, err := srv.Record(e.name); err != nil || !bytes.Equal(r, e.record) {
		t.Errorf("a record set after the removal: %v", err)
	}
	if err := srv.RemoveRecord("nonsense"); !errors.Is(err, ErrRecord) {
		t.Errorf("not a name: %v", err)
	}
}

func TestSequence(t *testing.T) {
	e := newEdition(t)
	for want, rec := range map[uint64][]byte{1: e.record, 2: e.later} {
		if got, err := Sequence(rec); err != nil || got != want {
			t.Errorf("sequence number %d instead of %d, %v", got, want, err)
		}
	}
	for what, rec := range map[string][]byte{
		"empty": nil, "cut": e.record[:len(e.record)-9], "too large": make([]byte, MaxRecord+1),
	} {
		if _, err := Sequence(rec); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
