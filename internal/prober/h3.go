package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Frames and streams of RFC 9114, sections 6.2 and 7.2.
const (
	frameData     = 0x0
	frameHeaders  = 0x1
	frameSettings = 0x4
	frameGoAway   = 0x7
	streamControl = 0x0
)

// maxAnswer bounds what is read of one stream, in bytes.
const maxAnswer = 1 << 20

// h3Conn is a connection on which nothing was said yet.
type h3Conn struct {
	*quic.Conn
	close func()
}

func dialH3(ctx context.Context, s Server, cfg *tls.Config, tap func(net.PacketConn) net.PacketConn) (*h3Conn, error) {
	return dialQUIC(ctx, s, cfg, &quic.Config{HandshakeIdleTimeout: patience / 2}, tap)
}

func dialQUIC(ctx context.Context, s Server, cfg *tls.Config, qcfg *quic.Config, tap func(net.PacketConn) net.PacketConn) (*h3Conn, error) {
	pc, err := s.Network.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	if tap != nil {
		pc = tap(pc)
	}
	to, err := s.udp()
	if err != nil {
		pc.Close()
		return nil, err
	}
	tr := &quic.Transport{Conn: pc}
	c, err := tr.DialEarly(ctx, to, cfg, qcfg)
	if err != nil {
		_ = tr.Close()
		pc.Close()
		return nil, err
	}
	return &h3Conn{c, func() {
		_ = c.CloseWithError(0, "")
		_ = tr.Close()
		pc.Close()
	}}, nil
}

// control opens the stream that has to come first.
func (c *h3Conn) control(frames []byte) error {
	s, err := c.OpenUniStream()
	if err != nil {
		return err
	}
	_, err = s.Write(append([]byte{streamControl}, frames...))
	return err
}

// ask writes to a stream of its own, ends it, and renders what comes back.
func (c *h3Conn) ask(ctx context.Context, b []byte) string {
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		return "[" + quicEnding(err) + "]"
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	_, _ = s.Write(b)
	_ = s.Close()
	answer, err := io.ReadAll(io.LimitReader(s, maxAnswer))
	return h3Answer(answer) + "[" + quicEnding(err) + "]"
}

// h3Answer renders frames; fields are sorted, since servers send them as they
// come out of a map.
func h3Answer(b []byte) string {
	var out strings.Builder
	var body []byte
	for len(b) > 0 {
		kind, n, err := quicvarint.Parse(b)
		size, m, err2 := quicvarint.Parse(b[min(n, len(b)):])
		if err != nil || err2 != nil || size > uint64(len(b)-n-m) {
			fmt.Fprintf(&out, "cut off: %x\n", b)
			break
		}
		payload := b[n+m:][:size]
		b = b[n+m+int(size):]
		switch kind {
		case frameData:
			body = append(body, payload...)
		case frameHeaders:
			next := qpack.NewDecoder().Decode(payload)
			var lines []string
			for {
				f, err := next()
				if err != nil {
					break
				}
				lines = append(lines, f.Name+": "+f.Value)
			}
			slices.Sort(lines)
			out.WriteString(strings.Join(lines, "\n") + "\n")
		default:
			fmt.Fprintf(&out, "frame %#x: %x\n", kind, payload)
		}
	}
	out.Write(body)
	return out.String()
}

// quicEnding says how a stream or a connection ended, without who said it.
func quicEnding(err error) string {
	var stream *quic.StreamError
	var app *quic.ApplicationError
	var tr *quic.TransportError
	switch {
	case err == nil:
		return "end"
	case errors.As(err, &stream):
		return fmt.Sprintf("stream reset: %#x", uint64(stream.ErrorCode))
	case errors.As(err, &app):
		return fmt.Sprintf("connection closed: %#x %s", uint64(app.ErrorCode), app.ErrorMessage)
	case errors.As(err, &tr):
		return fmt.Sprintf("connection closed by transport: %#x %s", uint64(tr.ErrorCode), tr.ErrorMessage)
	}
	return ending(err)
}

func frame(kind uint64, payload []byte) []byte {
	b := quicvarint.Append(nil, kind)
	b = quicvarint.Append(b, uint64(len(payload)))
	return append(b, payload...)
}

func h3Fields(kv ...string) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for i := 0; i+1 < len(kv); i += 2 {
		_ = e.WriteField(qpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return b.Bytes()
}

func h3Get(path string) []byte { return frame(frameHeaders, h3Fields(request("GET", path)...)) }

// said opens a connection, says on its control stream what is to come first there,
// and tells what then does; or what was in the way.
func said(ctx context.Context, s Server, control []byte, then func(*h3Conn) string) string {
	c, err := dialH3(ctx, s, clientTLS("h3"), nil)
	if err != nil {
		return "no connection: " + quicEnding(err)
	}
	defer c.close()
	if err := c.control(control); err != nil {
		return "no control stream: " + quicEnding(err)
	}
	return then(c)
}

// h3 sends settings and one request, and then one that shows whether the
// connection is still there.
func h3(name, page string, control, request []byte) Probe {
	return Probe{Name: label("h3", "%s", name), ask: func(ctx context.Context, s Server) string {
		return said(ctx, s, control, func(c *h3Conn) string {
			return c.ask(ctx, request) + "\n" + c.ask(ctx, h3Get(page))
		})
	}}
}

func h3Probes(p Paths) []Probe {
	settings := frame(frameSettings, nil)
	var out []Probe
	add := func(name string, request []byte) { out = append(out, h3(name, p.Page, settings, request)) }
	for _, path := range append(append([]string{}, p.Known...), p.Near...) {
		add("GET "+path, h3Get(path))
		add("HEAD "+path, frame(frameHeaders, h3Fields(request("HEAD", path)...)))
		add("POST "+path, append(frame(frameHeaders, h3Fields(request("POST", path, "upload-offset", "0", "upload-length", "10")...)), frame(frameData, []byte("abc"))...))
		out = append(out, h3("half of POST "+path, p.Page, settings, frame(frameHeaders, h3Fields(request("POST", path, "content-length", "1000")...))))
		add("truncated GET "+path, h3Get(path)[:20])
	}
	places := []string{p.Page}
	if len(p.Near) > 0 {
		places = append(places, p.Near[0])
	}
	for _, path := range places {
		for _, kv := range oddRequests(path) {
			add(strings.Join(kv, " "), frame(frameHeaders, h3Fields(kv...)))
		}
		get := h3Get(path)
		for name, b := range map[string][]byte{
			"DATA first":               frame(frameData, []byte("x")),
			"SETTINGS on a request":    append(frame(frameSettings, nil), get...),
			"GOAWAY on a request":      append(frame(frameGoAway, []byte{0}), get...),
			"unknown frame":            append(frame(0x21, []byte("x")), get...),
			"HTTP/2's frame":           append(frame(0x2, nil), get...),
			"HEADERS twice":            append(bytes.Clone(get), get...),
			"trailers":                 append(bytes.Clone(get), frame(frameHeaders, h3Fields("x", "1"))...),
			"broken field compression": frame(frameHeaders, []byte{0xff, 0xff, 0xff, 0xff}),
			"a dynamic table":          frame(frameHeaders, []byte{0x02, 0x00, 0x80}),
			"nothing":                  nil,
			"HTTP/1.1":                 []byte("GET " + path + " HTTP/1.1\r\nHost: " + Host + "\r\n\r\n"),
			"a huge frame":             append(quicvarint.Append([]byte{frameHeaders}, 1<<40), "x"...),
			"fields too large":         frame(frameHeaders, h3Fields(request("GET", path, "x", strings.Repeat("x", 40_000))...)),
			"more than was promised":   append(frame(frameHeaders, h3Fields(request("POST", path, "content-length", "1")...)), frame(frameData, []byte("abc"))...),
			"less than was promised":   append(frame(frameHeaders, h3Fields(request("POST", path, "content-length", "9")...)), frame(frameData, []byte("abc"))...),
		} {
			add(name+" for "+path, b)
		}
	}
	for name, control := range map[string][]byte{
		"no settings": frame(0x21, []byte("x")), "settings twice": append(frame(frameSettings, nil), frame(frameSettings, nil)...), "HTTP/2's setting": frame(frameSettings, []byte{0x2, 0x1}),
		"a setting twice": frame(frameSettings, []byte{0x6, 0x1, 0x6, 0x1}), "DATA on control": append(frame(frameSettings, nil), frame(frameData, nil)...), "cut settings": {frameSettings, 40, 1},
	} {
		// The answer to the first request may come before the complaint: only the end counts.
		out = append(out, Probe{Name: label("h3", "%s", name), ask: func(ctx context.Context, s Server) string {
			return said(ctx, s, control, func(c *h3Conn) string { return c.ask(ctx, h3Get(p.Page)) })
		}})
	}
	out = append(out, Probe{Name: label("h3", "settings"), ask: func(ctx context.Context, s Server) string {
		c, err := dialH3(ctx, s, clientTLS("h3"), nil)
		if err != nil {
			return "no connection: " + quicEnding(err)
		}
		defer c.close()
		str, err := c.AcceptUniStream(ctx)
		if err != nil {
			return quicEnding(err)
		}
		r := quicvarint.NewReader(str)
		var nums [3]uint64 // stream type, frame type, length
		for i := range nums {
			if nums[i], err = quicvarint.Read(r); err != nil {
				return quicEnding(err)
			}
		}
		b := make([]byte, min(nums[2], 1<<10))
		_, err = io.ReadFull(str, b)
		return fmt.Sprintf("%v %v", nums, settingsOf(b)) + quicEnding(err)
	}})
	return dedupe(out)
}

// settingsOf sorts them: their order is a map's.
func settingsOf(b []byte) []string {
	var out []string
	for len(b) > 0 {
		id, n, err := quicvarint.Parse(b)
		v, m, err2 := quicvarint.Parse(b[min(n, len(b)):])
		if err != nil || err2 != nil {
			return append(out, "cut off")
		}
		b = b[n+m:]
		if id%0x1f == 0x21%0x1f { // reserved, drawn by lot (section 7.2.4.1)
			out = append(out, "reserved")
			continue
		}
		out = append(out, fmt.Sprintf("%#x=%d", id, v))
	}
	slices.Sort(out)
	return out
}
