package static

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"tamizdat/internal/bucket"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// WebDAV is a folder on a WebDAV server (RFC 4918), as web hosts and cloud
// storage offer it. It asks for PUT, MKCOL, DELETE and PROPFIND, and for MOVE
// where the server has it: without that, the server's PUT alone decides whether
// a reader may see half of a new head. A file is as durable as the server's
// answer says.
type WebDAV struct {
	base       string // ends in a slash
	user, pass string
	rt         *http.Transport
	end        context.CancelFunc

	mu   sync.Mutex
	made map[string]bool // folders that are there
}

var _ Store = (*WebDAV)(nil)

const (
	// davTimeout bounds one request: a block of 64 KiB at 1 KB/s and a slow disk.
	davTimeout = 2 * time.Minute
	// maxPropfind bounds a listing in bytes: some 600 for each file.
	maxPropfind = 512 << 20
)

// NewWebDAV opens nothing yet but the file of credentials: "USER:PASSWORD" on one
// line, which nobody but its owner may be able to read; "" for none. Plain http
// is for loopback only.
func NewWebDAV(network transport.Network, base, secret string) (*WebDAV, error) {
	u, err := bucket.ParseURL(base)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	d := &WebDAV{
		base: strings.TrimSuffix(u.String(), "/") + "/", rt: gateway.NewTransport(life, network, gateway.Trust{}), end: end,
		made: map[string]bool{},
	}
	if secret == "" {
		return d, nil
	}
	line, err := bucket.ReadSecret(secret)
	if err == nil {
		var ok bool
		if d.user, d.pass, ok = strings.Cut(line, ":"); !ok || strings.ContainsAny(line, "\r\n") {
			err = errors.New("credentials: the file is not one line USER:PASSWORD")
		}
	}
	if err != nil {
		end()
		return nil, err
	}
	return d, nil
}

// Close ends all connections.
func (d *WebDAV) Close() error {
	d.end()
	d.rt.CloseIdleConnections()
	return nil
}

// Begin implements Store.
func (*WebDAV) Begin(context.Context) (func(string, bool) error, error) {
	return func(string, bool) error { return nil }, nil
}

// send sends one request and returns the answer's status; read, if not nil,
// gets its body if that is a success.
func (d *WebDAV) send(ctx context.Context, method, name string, body []byte, header map[string]string, read func(io.Reader) error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, davTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, d.base+name, bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("malformed request")
	}
	req.Header.Set("User-Agent", "tamizdat") // some servers turn away who has none
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if d.user != "" {
		req.SetBasicAuth(d.user, d.pass)
	}
	resp, err := d.rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 && read != nil {
		return resp.StatusCode, read(resp.Body)
	}
	_, err = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is of use again
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return resp.StatusCode, err
}

// davError says what a status means that is none of those looked for.
func davError(method string, status int) error {
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusNotFound || status == http.StatusGone:
		return transport.ErrNotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("the server does not let these credentials %s (%d): %w", method, status, transport.ErrRefused)
	case status/100 == 3:
		return fmt.Errorf("the server sends us elsewhere (%d): is the URL right? %w", status, transport.ErrRefused)
	case status == http.StatusInsufficientStorage:
		return fmt.Errorf("the server has no room left: %w", transport.ErrRefused)
	}
	return fmt.Errorf("the server answered %s with %d", method, status)
}

// Get implements Store.
func (d *WebDAV) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	var b []byte
	status, err := d.send(ctx, http.MethodGet, name, nil, nil, func(r io.Reader) (err error) {
		b, err = readAll(r, limit)
		return err
	})
	return b, errors.Join(err, davUnless(err, http.MethodGet, status))
}

// davUnless is davError, unless there is another reason already.
func davUnless(err error, method string, status int) error {
	if err != nil {
		return nil
	}
	return davError(method, status)
}

const propfind = `<?xml version="1.0" encoding="utf-8"?>` +
	`<propfind xmlns="DAV:"><prop><getcontentlength/><resourcetype/></prop></propfind>`

// List implements Store.
func (d *WebDAV) List(ctx context.Context, dir string) (map[string]int64, error) {
	var out map[string]int64
	header := map[string]string{"Depth": "1", "Content-Type": "application/xml"}
	status, err := d.send(ctx, "PROPFIND", dir+"/", []byte(propfind), header, func(r io.Reader) (err error) {
		out, err = parseListing(io.LimitReader(r, maxPropfind))
		return err
	})
	if err == nil && status == http.StatusNotFound {
		return nil, nil
	}
	return out, errors.Join(err, davUnless(err, "PROPFIND", status))
}

// parseListing reads a multistatus body (RFC 4918, section 13), one response at
// a time.
func parseListing(r io.Reader) (map[string]int64, error) {
	out := map[string]int64{}
	dec := xml.NewDecoder(r)
	for whole := false; ; {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) && whole {
			return out, nil
		}
		if err != nil {
			return nil, errors.New("the server's listing is cut off or malformed")
		}
		if end, ok := t.(xml.EndElement); ok && end.Name.Local == "multistatus" {
			whole = true
		}
		start, ok := t.(xml.StartElement)
		if !ok || start.Name.Local != "response" {
			continue
		}
		var one struct {
			Href  string `xml:"DAV: href"`
			Stats []struct {
				Status string `xml:"DAV: status"`
				Prop   struct {
					Length     string    `xml:"DAV: getcontentlength"`
					Collection *struct{} `xml:"DAV: resourcetype>collection"`
				} `xml:"DAV: prop"`
			} `xml:"DAV: propstat"`
		}
		if err := dec.DecodeElement(&one, &start); err != nil {
			return nil, errors.New("the server's listing is cut off or malformed")
		}
		u, err := url.Parse(strings.TrimSpace(one.Href))
		if err != nil {
			continue
		}
		for _, s := range one.Stats {
			size, err := strconv.ParseInt(strings.TrimSpace(s.Prop.Length), 10, 64)
			if err == nil && size >= 0 && s.Prop.Collection == nil && len(out) < maxFiles {
				out[path.Base(u.Path)] = size
			}
		}
	}
}

// Put implements Store.
func (d *WebDAV) Put(ctx context.Context, name string, data []byte) error {
	if err := d.folders(ctx, path.Dir(name)); err != nil {
		return err
	}
	if !strings.HasPrefix(name, headDir) {
		return d.put(ctx, name, data)
	}
	beside := name + ".new"
	if err := d.put(ctx, beside, data); err != nil {
		return err
	}
	status, err := d.send(ctx, "MOVE", beside, nil, map[string]string{"Destination": d.base + name, "Overwrite": "T"}, nil)
	switch {
	case err != nil:
		return err
	case status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented:
		return errors.Join(d.put(ctx, name, data), d.Delete(ctx, beside))
	}
	return davError("MOVE", status)
}

func (d *WebDAV) put(ctx context.Context, name string, data []byte) error {
	status, err := d.send(ctx, http.MethodPut, name, data, map[string]string{"Content-Type": "application/octet-stream"}, nil)
	if err != nil {
		return err
	}
	return davError(http.MethodPut, status)
}

// folders makes a folder and those above it, below the base, which has to be
// there.
func (d *WebDAV) folders(ctx context.Context, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' || d.made[dir[:i]] {
			continue
		}
		status, err := d.send(ctx, "MKCOL", dir[:i]+"/", nil, nil, nil)
		switch {
		case err != nil:
			return err
		case status == http.StatusMethodNotAllowed: // it is there
		case status == http.StatusConflict:
			return fmt.Errorf("the folder that the URL names is not there: %w", transport.ErrRefused)
		default:
			if err := davError("MKCOL", status); err != nil {
				return err
			}
		}
		d.made[dir[:i]] = true
	}
	return nil
}

// Delete implements Store.
func (d *WebDAV) Delete(ctx context.Context, name string) error {
	status, err := d.send(ctx, http.MethodDelete, name, nil, nil, nil)
	if err != nil || status == http.StatusNotFound {
		return err
	}
	return davError(http.MethodDelete, status)
}
