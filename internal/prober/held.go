package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// heldFor is how long a held probe waits for what a server does about it: longer than
// any server here has patience.
const heldFor = 5 * time.Minute

// dripEvery is how often one that is slow says a byte.
const dripEvery = 7 * time.Second // no timeout ends with one

// Held returns what takes time to see: connections on which nothing is said, or half
// of something, or byte by byte, and answers that nobody takes. What is compared is
// also when the server does what it does, to the second. Each waits for five minutes if
// nothing happens: ask them on a fake clock.
func Held(p Paths) []Probe {
	var out []Probe
	add := func(proto, name string, ask func(ctx context.Context, s Server) string) {
		out = append(out, Probe{Name: label("held", "%s, %s", proto, name), ask: ask, patience: heldFor})
	}
	for name, b := range map[string]string{"nothing said": "", "half a ClientHello": "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + strings.Repeat("x", 40)} {
		add("tcp", name, func(ctx context.Context, s Server) string {
			c, err := s.Network.Dial(ctx, "tcp", s.Addr)
			if err != nil {
				return ending(err)
			}
			defer c.Close()
			deadline, _ := ctx.Deadline()
			_ = c.SetDeadline(deadline)
			began := time.Now()
			_, _ = io.WriteString(c, b)
			return told(c, began)
		})
	}
	const host = "Host: " + Host + "\r\n"
	h1 := func(name, request, drip string) {
		add("h1", name, func(ctx context.Context, s Server) string { return held1(ctx, s, request, drip) })
	}
	h2 := func(name string, write, drip func(f *script), settings ...http2.Setting) {
		add("h2", name, func(ctx context.Context, s Server) string { return held2(ctx, s, write, drip, settings) })
	}
	h3 := func(name string, begin []byte, drip []byte, untaken bool) {
		add("h3", name, func(ctx context.Context, s Server) string { return held3(ctx, s, begin, drip, untaken) })
	}
	nothing := func(*script) {}
	closed := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}

	get := h3Get(p.Page)
	h1("nothing said", "", "")
	h1("half a line", "GET "+p.Page[:1], "")
	h1("half a header", "GET "+p.Page+" HTTP/1.1\r\nHost: www.", "")
	h1("a header by bytes", "GET "+p.Page+" HTTP/1.1\r\n"+host, "X: "+strings.Repeat("x", 99))
	h1("nothing more", "GET "+p.Page+" HTTP/1.1\r\n"+host+"\r\n", "")
	h2("nothing said", nothing, nil)
	h2("half a header", func(f *script) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(request("GET", p.Page)...)})
	}, nil)
	h2("nothing more", func(f *script) { f.get(1, p.Page) }, nil)
	h3("half a header", get[:len(get)-1], nil, false)
	h3("a header by bytes", get[:3], get[3:], false)
	h3("half of something unknown", frame(0x21, make([]byte, 99))[:50], nil, false)
	for name, every := range map[string]time.Duration{"nothing said": 0, "nothing said, kept alive": 10 * time.Second} {
		add("h3", name, func(ctx context.Context, s Server) string { return idle3(ctx, s, every) })
	}
	for _, path := range append([]string{p.Page, "/nothing-here"}, p.Near...) {
		for _, method := range []string{"GET", "POST", "PATCH"} {
			owed := method + " " + path + " HTTP/1.1\r\n" + host + "Upload-Offset: 0\r\nUpload-Length: 1000\r\nContent-Length: 1000\r\n\r\nabc"
			fields := request(method, path, "upload-offset", "0", "upload-length", "1000", "content-length", "1000")
			begin := func(f *script) {
				f.request(1, false, fields...)
				_ = f.WriteData(1, false, []byte("abc"))
			}
			b := append(frame(frameHeaders, h3Fields(fields...)), frame(frameData, make([]byte, 1000))[:5]...)
			h1("half of "+method+" "+path, owed, "")
			h2("half of "+method+" "+path, begin, nil)
			h3("half of "+method+" "+path, b, nil, false)
			if method == "POST" {
				h1("by bytes, "+method+" "+path, owed, strings.Repeat("x", 900))
				h2("by bytes, "+method+" "+path, begin, func(f *script) { _ = f.WriteData(1, false, []byte("x")) })
				h3("by bytes, "+method+" "+path, b, make([]byte, 900), false)
			}
		}
		h2("untaken "+path, func(f *script) { f.get(1, path) }, nil, closed)
		h3("untaken "+path, h3Get(path), nil, true)
	}
	if p.Large != "" {
		add("h1", "untaken "+p.Large, func(ctx context.Context, s Server) string { return untaken1(ctx, s, p.Large) })
		h2("untaken "+p.Large, func(f *script) { f.get(1, p.Large) }, nil)
		h3("untaken "+p.Large, h3Get(p.Large), nil, true)
	}
	return dedupe(out)
}

// stamp says when something was, to the second: a round trip is less.
func stamp(began time.Time) string {
	return fmt.Sprintf("after %v", time.Since(began).Round(time.Second))
}

// told renders what comes, when, and how it ends.
func told(r io.Reader, began time.Time) string {
	var out strings.Builder
	last, b := "", make([]byte, 16<<10)
	for {
		n, err := r.Read(b)
		if at := stamp(began); n > 0 && at != last {
			fmt.Fprintf(&out, "\n[%s]\n", at)
			last = at
		}
		out.Write(b[:n])
		if err != nil {
			fmt.Fprintf(&out, "\n[%s %s]", stamp(began), ending(err))
			return out.String()
		}
	}
}

// dripping calls say every so often until it fails, done ends, or for n times.
func dripping(done context.Context, n int, say func(i int) error) {
	for i := range n {
		select {
		case <-done.Done():
			return
		case <-time.After(dripEvery):
		}
		if say(i) != nil {
			return
		}
	}
}

func held1(ctx context.Context, s Server, request, drip string) string {
	c, err := dialH1(ctx, s)
	if err != nil {
		return "no connection: " + ending(err)
	}
	began := time.Now()
	done, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	defer cancel()
	if _, err := io.WriteString(c, request); err != nil {
		return "cannot ask: " + ending(err)
	}
	wg.Go(func() {
		dripping(done, len(drip), func(i int) error { _, err := io.WriteString(c, drip[i:i+1]); return err })
	})
	return told(c, began)
}

// untaken1 asks for a page, and takes it after half of its time.
func untaken1(ctx context.Context, s Server, path string) string {
	c, err := dialH1(ctx, s)
	if err != nil {
		return "no connection: " + ending(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+Host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return "cannot ask: " + ending(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(dripEvery + heldFor/2):
	}
	n, err := io.Copy(io.Discard, c)
	return fmt.Sprintf("%d bytes [%s]", n, ending(err))
}

// held2 writes frames, drips others, answers pings, and tells what comes of a stream
// and of the connection, each by itself: how they mix is chance.
func held2(ctx context.Context, s Server, write, drip func(f *script), settings []http2.Setting) string {
	c, err := dialTLS(ctx, s, clientTLS("h2"))
	if err != nil {
		return "no connection: " + ending(err)
	}
	began := time.Now()
	done, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = c.Close() }()
	defer cancel()
	f := newScript()
	var mu sync.Mutex // f has one buffer
	flush := func(write func(f *script)) error {
		mu.Lock()
		defer mu.Unlock()
		write(f)
		_, err := c.Write(f.Bytes())
		f.Buffer.Reset()
		return err
	}
	if err := flush(func(f *script) {
		f.WriteString(http2.ClientPreface)
		_ = f.WriteSettings(settings...)
		write(f)
	}); err != nil {
		return "cannot ask: " + ending(err)
	}
	if drip != nil {
		wg.Go(func() { dripping(done, int(heldFor/dripEvery), func(int) error { return flush(drip) }) })
	}
	in := http2.NewFramer(nil, c)
	in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var conn, stream strings.Builder
	for {
		frame, err := in.ReadFrame()
		at := stamp(began)
		if err != nil {
			return fmt.Sprintf("%s%s[%s %s]", &stream, &conn, at, ending(err))
		}
		switch frame := frame.(type) {
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = flush(func(f *script) { _ = f.WritePing(true, frame.Data) })
			}
			fmt.Fprintf(&conn, "%s ping\n", at)
		case *http2.GoAwayFrame:
			fmt.Fprintf(&conn, "%s goaway: %v %s\n", at, frame.ErrCode, frame.DebugData())
		case *http2.RSTStreamFrame:
			fmt.Fprintf(&stream, "%s reset: %v\n", at, frame.ErrCode)
		case *http2.MetaHeadersFrame:
			fmt.Fprintf(&stream, "%s header, end %t\n", at, frame.StreamEnded())
			for _, h := range frame.Fields {
				fmt.Fprintf(&stream, "%s: %s\n", h.Name, h.Value)
			}
		case *http2.DataFrame:
			fmt.Fprintf(&stream, "%s: %s, end %t\n", at, frame.Data(), frame.StreamEnded())
		}
	}
}

// slowQUIC keeps a connection for as long as a probe takes, or leaves that to the server;
// window is what it takes of a stream without being read.
func slowQUIC(keepAlive time.Duration, window uint64) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout: patience / 2, MaxIdleTimeout: 2 * heldFor, KeepAlivePeriod: keepAlive,
		InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window,
	}
}

// idle3 says nothing but settings.
func idle3(ctx context.Context, s Server, keepAlive time.Duration) string {
	c, err := dialQUIC(ctx, s, clientTLS("h3"), slowQUIC(keepAlive, 0), nil)
	if err != nil {
		return "no connection: " + quicEnding(err)
	}
	defer c.close()
	began := time.Now()
	if err := c.control(frame(frameSettings, nil)); err != nil {
		return "no control stream: " + quicEnding(err)
	}
	select {
	case <-c.Context().Done():
		return fmt.Sprintf("[%s %s]", stamp(began), quicEnding(context.Cause(c.Context())))
	case <-ctx.Done():
		return "still there"
	}
}

// held3 writes to a stream and drips the rest, over a connection that is kept alive. Of
// an answer that is not taken only its end is looked for.
func held3(ctx context.Context, s Server, begin, drip []byte, untaken bool) string {
	var window uint64
	if untaken {
		window = 1
	}
	c, err := dialQUIC(ctx, s, clientTLS("h3"), slowQUIC(10*time.Second, window), nil)
	if err != nil {
		return "no connection: " + quicEnding(err)
	}
	defer c.close()
	began := time.Now()
	if err := c.control(frame(frameSettings, nil)); err != nil {
		return "no control stream: " + quicEnding(err)
	}
	str, err := c.OpenStream()
	if err != nil {
		return "no stream: " + quicEnding(err)
	}
	deadline, _ := ctx.Deadline()
	_ = str.SetDeadline(deadline)
	if _, err := str.Write(begin); err != nil {
		return "cannot ask: " + quicEnding(err)
	}
	if untaken {
		_ = str.Close()
		for {
			if _, err := str.Read(nil); err != nil { // takes nothing, and hears of a reset
				return fmt.Sprintf("[%s %s]", stamp(began), quicEnding(err))
			}
			select {
			case <-ctx.Done():
				return "still there"
			case <-time.After(time.Second):
			}
		}
	}
	done, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var refused error
	wg.Go(func() {
		dripping(done, len(drip), func(i int) error { _, refused = str.Write(drip[i : i+1]); return refused })
	})
	b, err := io.ReadAll(io.LimitReader(str, maxAnswer))
	text := fmt.Sprintf("%s[%s %s]", h3Answer(b), stamp(began), quicEnding(err))
	cancel()
	wg.Wait()
	if errors.As(refused, new(*quic.StreamError)) {
		text += " [" + quicEnding(refused) + "]"
	}
	return text
}
