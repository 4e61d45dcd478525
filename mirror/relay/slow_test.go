package relay

import (
	"bufio"
	"context"
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
	"golang.org/x/net/http2"

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

// Over HTTP/2 nobody waits for ever either, whether it is the stream that stands
// still or the whole connection.
func TestSlowClientsAreLetGoOverHTTP2(t *testing.T) {
	folder := largePage(t)
	p := newPress(t, "slow h2")
	s := p.edition(t, 1_000_000)
	noCredit := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	credit := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, p, s, folder)
		car := w.gateway + "/ipfs/" + s.head.Root.String() + "?format=car"
		dripped := func(c *h2Raw, stream uint32) error { return c.WriteData(stream, false, []byte("x")) }
		for name, c := range map[string]struct {
			settings []http2.Setting
			begin    func(*h2Raw) (uint32, error)
			then     func(*h2Raw, uint32) error // once a second
			unread   bool                       // of all that comes nothing is read
			most     time.Duration
		}{
			"a header cut off": {begin: func(c *h2Raw) (uint32, error) {
				return 1, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("GET", "/")[:3]})
			}, most: 50 * time.Second},
			"a header by bytes": {begin: func(c *h2Raw) (uint32, error) {
				return 1, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields("GET", "/")[:3]})
			}, then: func(c *h2Raw, stream uint32) error { return c.WriteContinuation(stream, false, nil) }, most: 50 * time.Second},
			"a frame cut off": {begin: func(c *h2Raw) (uint32, error) {
				_, err := c.Conn.Write([]byte{0, 0, 99, 1})
				return 1, err
			}, most: 50 * time.Second},
			"a body by bytes": {
				settings: []http2.Setting{noCredit},
				begin:    func(c *h2Raw) (uint32, error) { return c.open(false, "POST", "/") },
				then:     dripped, most: sendTimeout + 5*time.Second,
			},
			"an upload by bytes": {
				begin: func(c *h2Raw) (uint32, error) {
					return c.open(false, "PATCH", w.intake, "upload-offset", "0", "upload-length", "100000")
				},
				then: dripped, most: sendTimeout + 5*time.Second,
			},
			"a page unread": {
				settings: []http2.Setting{noCredit},
				begin:    func(c *h2Raw) (uint32, error) { return c.open(true, "GET", "/") }, most: sendTimeout + 5*time.Second,
			},
			"a missing page unread": {
				settings: []http2.Setting{noCredit},
				begin:    func(c *h2Raw) (uint32, error) { return c.open(true, "GET", "/nothing") }, most: sendTimeout + 5*time.Second,
			},
			"an edition unread": {
				settings: []http2.Setting{noCredit},
				begin:    func(c *h2Raw) (uint32, error) { return c.open(true, "GET", car) }, most: sendTimeout + 5*time.Second,
			},
			"an edition by bytes": {
				settings: []http2.Setting{noCredit},
				begin:    func(c *h2Raw) (uint32, error) { return c.open(true, "GET", car) },
				then:     func(c *h2Raw, stream uint32) error { return c.WriteWindowUpdate(stream, 10) }, most: sendTimeout + 5*time.Second,
			},
			"a connection unread": {
				settings: []http2.Setting{credit},
				begin: func(c *h2Raw) (uint32, error) {
					if err := c.WriteWindowUpdate(0, 1<<30); err != nil {
						return 0, err
					}
					return c.open(true, "GET", "/")
				}, unread: true, most: 50 * time.Second,
			},
		} {
			conn := dialH2(t, w.host, w.at(), c.settings...)
			began := time.Now()
			stream, err := c.begin(conn)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.most)
			var ends <-chan bool
			if !c.unread {
				ends = conn.watch()
			}
			ended := func() bool {
				select {
				case <-ends: // reset, or the connection closed
					return true
				default:
				}
				_, gone := w.doors.closed.Load(conn.Conn.LocalAddr().String())
				return gone
			}
			for ctx.Err() == nil && !ended() {
				if c.then != nil {
					conn.mu.Lock()
					_ = c.then(conn, stream) // when it is over this fails
					conn.mu.Unlock()
				}
				time.Sleep(time.Second)
			}
			if ctx.Err() != nil {
				t.Errorf("%s: after %v nobody ended it", name, time.Since(began))
			}
			cancel()
			synctest.Wait()
			if n := w.running.Load(); n > 0 {
				t.Errorf("%s: %d requests are still being answered", name, n)
			}
			conn.Conn.Close()
		}
	})
}

// Who owes a body over HTTP/1.1 is waited for, and then has his answer all the same.
func TestOwedBodyIsAnswered(t *testing.T) {
	p := newPress(t, "owed")
	s := p.edition(t, 0)
	synctest.Test(t, func(t *testing.T) {
		w := newSlowWorld(t, p, s, "")
		c := secure(t, w.host, w.at(), "http/1.1")
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusMethodNotAllowed || !resp.Close {
			t.Errorf("%v, %v", resp, err)
		}
	})
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
