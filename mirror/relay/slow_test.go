package relay

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"tamizdat/bundle"
	"tamizdat/internal/simnet"
)

// slowWorld is a relay on a simulated net whose website has one large page, a
// host for who is slow, and how many requests are being answered.
type slowWorld struct {
	*world
	node    *node
	host    *simnet.Host
	doors   *watched
	running atomic.Int64
	gateway string // the path of readers
	intake  string // the path of an upload
}

func newSlowWorld(t *testing.T, p *press, s *sheet, folder string) *slowWorld {
	t.Helper()
	w := &slowWorld{world: newWorld(t)}
	w.doors = &watched{Host: w.net.Host("192.0.2.9", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("192.0.2.9"))}
	count := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.running.Add(1)
			defer w.running.Add(-1)
			next.ServeHTTP(rw, r)
		})
	}
	w.node = w.relay(9, Config{Decoy: folder, Network: w.doors, Hooks: Hooks{Wrap: count}})
	w.push(w.node, s)
	w.host = w.net.Host("slow", simnet.Link{Delay: 25 * time.Millisecond}, netip.MustParseAddr("203.0.113.1"))
	tg := target(t, w.node.Relay, p.ch)
	w.gateway = "/" + tg.Relay(p.batch).Prefix.Path()
	w.intake = "/" + tg.Intake.Mint([8]byte{}).Path() + "/intake/" + p.ch.String() + "/" + bundle.RawCID(noise(1, 9)).String()
	return w
}

func (w *slowWorld) at() string { return w.node.ip + ":443" }

// largePage is a folder for a website that nobody reads in one go.
func largePage(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "index.html"), noise(1, 8_000_000), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// Over HTTP/3 nobody waits for ever for a header, a body, or somebody to take an
// answer, however well the connection itself is kept alive.
func TestSlowClientsAreLetGoOverHTTP3(t *testing.T) {
	folder := largePage(t)
	p := newPress(t, "slow h3")
	s := p.edition(t, 1_000_000)
	// Of a client that takes nothing: until the handler gives up, and until the end of
	// what was written is given up.
	const unread = sendTimeout + lastBytes + time.Second
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, p, s, folder)
		get, long := h3Header("GET", "/"), h3Header("GET", "/"+strings.Repeat("long", 99))
		for name, c := range map[string]struct {
			begin []byte // what is sent at once
			then  []byte // what is then sent by the byte
			most  time.Duration
		}{
			"says next to nothing":              {[]byte{1}, nil, 11 * time.Second},
			"a header cut off":                  {get[:len(get)-1], nil, 11 * time.Second},
			"a header by bytes":                 {long[:5], long[5:], 11 * time.Second},
			"a frame that means nothing":        {h3Frame(0x21, noise(1, 99))[:50], noise(1, 49), 11 * time.Second},
			"a header too large, answer unread": {append(quicvarint.Append([]byte{1}, 1<<20), "x"...), nil, 11*time.Second + lastBytes},
			"a page unread":                     {get, nil, unread},
			"a missing page unread":             {h3Header("GET", "/nothing"), nil, unread},
			"a body by bytes":                   {append(h3Header("POST", "/"), h3Frame(0, noise(1, 999))[:9]...), noise(1, 999), unread},
			"an edition unread":                 {h3Header("GET", w.gateway+"/ipfs/"+s.head.Root.String()+"?format=car"), nil, unread},
			"an upload by bytes": {
				append(h3Header("PATCH", w.intake, "upload-offset", "0", "upload-length", "100000"), h3Frame(0, noise(1, 999))[:9]...),
				noise(1, 999), sendTimeout + unread,
			},
		} {
			conn := dialH3(t, w.host, w.at(), awake(quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1}))
			str, err := conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := str.Write(c.begin); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); time.Since(began) < c.most; time.Sleep(time.Second) {
				if len(c.then) > 0 {
					if _, err := str.Write(c.then[:1]); err != nil {
						c.then = nil
						continue
					}
					c.then = c.then[1:]
				}
			}
			var reset *quic.StreamError
			_ = str.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := io.ReadAll(str); !errors.As(err, &reset) || !reset.Remote {
				t.Errorf("%s: after %v nobody ended it: %v", name, c.most, err)
			}
			if n := w.running.Load(); n > 0 {
				t.Errorf("%s: %d requests are still being answered", name, n)
			}
			if conn.Context().Err() != nil {
				t.Errorf("%s: the connection ended with it", name)
			}
		}
	})
}

// lastBytes is how long the end of an answer has when its handler has returned.
const lastBytes = 30 * time.Second
