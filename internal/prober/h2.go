package prober

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// lastStream carries the request that shows whether a connection is still there.
const lastStream = 1001

// h2 writes frames over HTTP/2. It listens until the streams in wait and
// lastStream have ended, or the connection has.
func h2(name string, page string, wait []uint32, write func(f *script)) Probe {
	return Probe{Name: label("h2", "%s", name), ask: func(ctx context.Context, s Server) string {
		c, err := dialTLS(ctx, s, clientTLS("h2"))
		if err != nil {
			return "no connection: " + ending(err)
		}
		defer func() { _ = c.Close() }()
		if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
			return "speaks " + p
		}
		f := newScript()
		f.WriteString(http2.ClientPreface)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		_ = f.WriteWindowUpdate(0, 1<<20)
		write(f)
		f.get(lastStream, page)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = c.Write(f.Bytes())
		}()
		text := h2Answer(http2.NewFramer(nil, c), append(slices.Clone(wait), lastStream))
		_ = c.Close()
		<-sent
		return text
	}}
}

// h2Answer renders what a server sends, stream by stream: how streams mix is
// chance. Window updates are left out for the same reason.
func h2Answer(f *http2.Framer, wait []uint32) string {
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	streams := make(map[uint32]*strings.Builder)
	at := func(id uint32) *strings.Builder {
		if streams[id] == nil {
			streams[id] = &strings.Builder{}
		}
		return streams[id]
	}
	waited := append([]uint32{0}, wait...)
	done := func(id uint32) { wait = slices.DeleteFunc(wait, func(w uint32) bool { return w == id }) }
	end := ""
	for end == "" && len(wait) > 0 {
		frame, err := f.ReadFrame()
		if err != nil && !errors.As(err, new(http2.StreamError)) {
			end = ending(err)
			break
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			out := at(frame.StreamID)
			for _, h := range frame.Fields {
				fmt.Fprintf(out, "%s: %s\n", h.Name, h.Value)
			}
			if frame.StreamEnded() {
				out.WriteString("[end]\n")
				done(frame.StreamID)
			}
		case *http2.DataFrame:
			out := at(frame.StreamID)
			out.Write(frame.Data())
			if frame.StreamEnded() {
				out.WriteString("[end]\n")
				done(frame.StreamID)
			}
		case *http2.RSTStreamFrame:
			fmt.Fprintf(at(frame.StreamID), "[reset: %v]\n", frame.ErrCode)
			done(frame.StreamID)
		case *http2.SettingsFrame:
			_ = frame.ForeachSetting(func(s http2.Setting) error {
				fmt.Fprintf(at(0), "%v\n", s)
				return nil
			})
			if frame.IsAck() {
				at(0).WriteString("settings ack\n")
			}
		case *http2.PingFrame:
			fmt.Fprintf(at(0), "ping %x %v\n", frame.Data, frame.IsAck())
		case *http2.GoAwayFrame:
			if end = fmt.Sprintf("goaway: %v %s", frame.ErrCode, frame.DebugData()); frame.ErrCode == http2.ErrCodeNo {
				at(0).WriteString(end + "\n")
				end = ""
			}
		}
	}
	if strings.HasPrefix(end, "goaway") {
		return "[" + end + "]" // how far it came with other streams is chance
	}
	var out strings.Builder
	ids := make([]uint32, 0, len(streams))
	for id := range streams {
		if slices.Contains(waited, id) { // how far another one came is chance
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		fmt.Fprintf(&out, "stream %d:\n%s", id, streams[id])
	}
	fmt.Fprintf(&out, "[%s]", end)
	return out.String()
}

// script is frames to be written.
type script struct {
	*http2.Framer
	bytes.Buffer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newScript() *script {
	s := &script{}
	s.Framer = http2.NewFramer(&s.Buffer, nil)
	s.AllowIllegalWrites = true
	s.enc = hpack.NewEncoder(&s.block)
	return s
}

// fields encodes name, value, name, value …
func (s *script) fields(kv ...string) []byte {
	s.block.Reset()
	for i := 0; i+1 < len(kv); i += 2 {
		_ = s.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(s.block.Bytes())
}

func (s *script) get(id uint32, path string) { s.request(id, true, request("GET", path)...) }

// request writes a HEADERS frame.
func (s *script) request(id uint32, end bool, kv ...string) {
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.fields(kv...), EndStream: end, EndHeaders: true})
}

// request is the fields of a request that could be a browser's.
func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":authority", Host, ":path", path}, more...)
}

// oddRequests are requests that a browser would not send, for HTTP/2 and 3.
func oddRequests(path string) [][]string {
	return [][]string{
		{":method", "GET", ":scheme", "https", ":path", path},
		{":method", "GET", ":authority", Host, ":path", path},
		{":scheme", "https", ":authority", Host, ":path", path},
		{":method", "GET", ":scheme", "https", ":authority", Host},
		{":method", "GET", ":scheme", "https", ":authority", Host, ":path", ""},
		{":method", "GET", ":scheme", "http", ":authority", Host, ":path", path},
		{":method", "CONNECT", ":authority", Host + ":443"},
		{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", Host, ":path", path},
		{":method", "GET", ":method", "GET", ":scheme", "https", ":authority", Host, ":path", path},
		{"x", "1", ":method", "GET", ":scheme", "https", ":authority", Host, ":path", path},
		request("GET", path, ":unknown", "x"), request("GET", path, "X-Upper", "1"), request("GET", path, "connection", "close"), request("GET", path, "transfer-encoding", "chunked"), request("GET", path, "te", "gzip"),
		request("GET", path, "te", "trailers"), request("GET", path, "host", "other.example"), request("GET", path, "x", "a\nb"), request("GET", path, "content-length", "5"), request("GET", path, "content-length", "x"),
		request("GET", path, "expect", "100-continue"), request("GET", path, "range", "bytes=0-3"), request("GET", path, "if-none-match", "*"), request("GET", path, "early-data", "1"), request("G T", path), request("", path),
		request("GET", path, "x", strings.Repeat("x", 10_000)), request("GET", path, "cookie", "a=b", "cookie", "c=d"), request("GET", "x"+path), request("GET", "https://other.example"+path), request("GET", "*"), request("OPTIONS", "*"),
	}
}

func h2Probes(p Paths) []Probe {
	var out []Probe
	add := func(name string, wait []uint32, write func(f *script)) {
		out = append(out, h2(name, p.Page, wait, write))
	}
	one := []uint32{1}
	for _, path := range append(append([]string{}, p.Known...), p.Near...) {
		add("GET "+path, one, func(f *script) { f.get(1, path) })
		add("POST "+path, one, func(f *script) {
			f.request(1, false, request("POST", path, "upload-offset", "0", "upload-length", "10")...)
			_ = f.WriteData(1, true, []byte("abc"))
		})
		add("half of POST "+path, nil, func(f *script) { f.request(1, false, request("POST", path, "content-length", "1000")...) })
	}
	places := []string{p.Page}
	if len(p.Near) > 0 {
		places = append(places, p.Near[0])
	}
	for _, path := range places {
		for _, kv := range oddRequests(path) {
			add(strings.Join(kv, " "), one, func(f *script) { f.request(1, true, kv...) })
		}
		block := func(f *script) []byte { return f.fields(request("GET", path)...) }
		for name, write := range map[string]func(f *script){
			"DATA on an idle stream":       func(f *script) { _ = f.WriteData(1, true, []byte("x")) },
			"even stream":                  func(f *script) { f.get(2, path) },
			"stream 0":                     func(f *script) { f.request(0, true, request("GET", path)...) },
			"CONTINUATION without HEADERS": func(f *script) { _ = f.WriteContinuation(1, true, nil) },
			"HEADERS cut by PING": func(f *script) {
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(f)[:5]})
				_ = f.WritePing(false, [8]byte{1})
			},
			"HEADERS in two": func(f *script) {
				b := block(f)
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:5], EndStream: true})
				_ = f.WriteContinuation(1, true, b[5:])
			},
			"HEADERS never ended":           func(f *script) { _ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(f)}) },
			"padding longer than the frame": func(f *script) { _ = f.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{200, 1}) },
			"SETTINGS on a stream":          func(f *script) { _ = f.WriteRawFrame(http2.FrameSettings, 0, 1, nil) },
			"SETTINGS of five bytes":        func(f *script) { _ = f.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1, 2, 3, 4, 5}) },
			"SETTINGS with a huge window":   func(f *script) { _ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) },
			"SETTINGS unknown":              func(f *script) { _ = f.WriteSettings(http2.Setting{ID: 0x7777, Val: 1}) },
			"PING":                          func(f *script) { _ = f.WritePing(false, [8]byte{1, 2, 3}) },
			"PING of seven bytes":           func(f *script) { _ = f.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) },
			"WINDOW_UPDATE of nothing":      func(f *script) { _ = f.WriteWindowUpdate(0, 0) },
			"WINDOW_UPDATE too far":         func(f *script) { _ = f.WriteWindowUpdate(0, 1<<31-1) },
			"RST_STREAM of an idle stream":  func(f *script) { _ = f.WriteRSTStream(1, http2.ErrCodeCancel) },
			"PUSH_PROMISE from a client": func(f *script) {
				_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: block(f), EndHeaders: true})
			},
			"PRIORITY on itself": func(f *script) { _ = f.WritePriority(1, http2.PriorityParam{StreamDep: 1}) },
			"unknown frame":      func(f *script) { _ = f.WriteRawFrame(0x42, 0xff, 1, []byte("x")) },
			"frame too large":    func(f *script) { _ = f.WriteRawFrame(http2.FrameHeaders, 4, 1, make([]byte, 1<<20)) },
			"broken header compression": func(f *script) {
				_ = f.WriteRawFrame(http2.FrameHeaders, 5, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
			},
			"GOAWAY":                func(f *script) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) },
			"a second preface":      func(f *script) { f.WriteString(http2.ClientPreface) },
			"HTTP/1.1 on top":       func(f *script) { f.WriteString("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n") },
			"stream used twice":     func(f *script) { f.get(1, path); f.get(1, path) },
			"stream ids going down": func(f *script) { f.get(5, path); f.get(3, path) },
			"fields too large": func(f *script) {
				f.request(1, false, request("GET", path, "x", strings.Repeat("x", 15_000), "y", strings.Repeat("y", 900))...)
			},
			"DATA behind the end":         func(f *script) { f.get(1, path); _ = f.WriteData(1, true, []byte("x")) },
			"trailers with pseudo-fields": func(f *script) { f.request(1, false, request("POST", path)...); f.request(1, true, ":path", "/x") },
			"more than was promised": func(f *script) {
				f.request(1, false, request("POST", path, "content-length", "1")...)
				_ = f.WriteData(1, true, []byte("abc"))
			},
			"less than was promised": func(f *script) {
				f.request(1, false, request("POST", path, "content-length", "9")...)
				_ = f.WriteData(1, true, []byte("abc"))
			},
		} {
			var wait []uint32
			if name == "HEADERS in two" {
				wait = one
			}
			add(name+" for "+path, wait, write)
		}
	}
	return dedupe(out)
}
