package prober

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// h1 sends bytes over HTTP/1.1 and returns all that comes back. A connection
// that is still there afterwards answers a second request; half instead hangs
// up behind the first, as who has sent only half of one.
func h1(name, request string, half bool, page string) Probe {
	return Probe{Name: label("h1", "%s", name), ask: func(ctx context.Context, s Server) string {
		c, err := dialH1(ctx, s)
		if err != nil {
			return "no connection: " + ending(err)
		}
		defer func() { _ = c.Close() }()
		request := request
		if !half {
			request += "GET " + page + " HTTP/1.1\r\nHost: " + Host + "\r\nConnection: close\r\n\r\n"
		}
		sent := make(chan struct{})
		go func() { // an answer may come before the request is out
			defer close(sent)
			if _, err := io.WriteString(c, request); err == nil && half {
				_ = c.CloseWrite()
			}
		}()
		answer, err := io.ReadAll(c)
		_ = c.Close()
		<-sent
		return fmt.Sprintf("%s\n[%s]", answer, ending(err))
	}}
}

func h1Probes(p Paths) []Probe {
	var out []Probe
	whole := func(name, request string) { out = append(out, h1(name, request, false, p.Page)) }
	cut := func(name, request string) { out = append(out, h1(name, request, true, p.Page)) }
	const host = "Host: " + Host + "\r\n"

	for _, path := range append(append([]string{}, p.Known...), p.Near...) {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "BREW"} {
			whole(method+" "+path, method+" "+path+" HTTP/1.1\r\n"+host+"Upload-Offset: 0\r\nUpload-Length: 10\r\nAccept: application/vnd.ipld.car\r\nContent-Length: 3\r\n\r\nabc")
		}
		cut("truncated GET "+path, "GET "+path+" HTTP/1.1\r\nHost: www.")
		cut("truncated PUT "+path, "PUT "+path+" HTTP/1.1\r\n"+host+"Upload-Offset: 0\r\nContent-Length: 1000\r\n\r\nabc")
	}

	// Fields that a server may stumble over, on a page, on nothing, and near something.
	fields := []string{
		"Range: bytes=0-3", "Range: bytes=3-1", "Range: bytes=0-0,2-2,4-", "Range: bytes=-5", "Range: lines=1-2", "If-Range: \"x\"\r\nRange: bytes=0-1",
		"If-None-Match: *", "If-None-Match: \"x\"", "If-Match: \"x\"", "If-Modified-Since: Fri, 31 Dec 2038 23:59:59 GMT", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:01 GMT",
		"Expect: 100-continue", "Expect: a miracle", "Upgrade: websocket\r\nConnection: Upgrade", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
		"Accept: application/vnd.ipld.raw", "Accept: application/vnd.ipfs.ipns-record", "Accept-Encoding: zstd, br;q=0.5, *;q=0", "Early-Data: 1", "X-Forwarded-For: 127.0.0.1", "X-Original-URL: /x",
		"Cookie: " + strings.Repeat("a=b; ", 500), "X-Big: " + strings.Repeat("x", 12<<10), "X-Bigger: " + strings.Repeat("x", 40<<10),
		strings.TrimSuffix(strings.Repeat("X-Many: 1\r\n", 300), "\r\n"), "Host: other.example", "X-Empty:", "X-Space : 1", " X-Folded: 1", "X-Nul: \x00", "X-High: \xff\xfe",
		"Content-Length: 0", "Content-Length: 3\r\nContent-Length: 3", "Trailer: X", "TE: trailers", "Max-Forwards: 0", "Connection: close", "Connection: keep-alive, Host", "Authorization: Basic eDp5",
	}
	places := []string{p.Page, "/nothing-here"}
	if len(p.Near) > 0 {
		places = append(places, p.Near[0])
	}
	for _, f := range fields {
		for _, path := range places {
			cut(f+" for "+path, "GET "+path+" HTTP/1.1\r\n"+host+f+"\r\n\r\n")
		}
	}

	// Requests that are none, or more than one.
	for _, path := range places {
		for _, r := range []string{
			"GET " + path + "\r\n\r\n", "GET " + path + " HTTP/0.9\r\n\r\n", "GET " + path + " HTTP/1.0\r\n\r\n", "GET " + path + " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"GET " + path + " HTTP/1.2\r\n" + host + "\r\n", "GET " + path + " HTTP/2.0\r\n" + host + "\r\n", "GET " + path + " HTTP/11\r\n" + host + "\r\n", "GET  " + path + "  HTTP/1.1\r\n" + host + "\r\n",
			"get " + path + " HTTP/1.1\r\n" + host + "\r\n", "GET " + path + " HTTP/1.1\n" + "Host: " + Host + "\n\n", "GET " + path + " HTTP/1.1\r\n\r\n", "GET " + path + " HTTP/1.1\r\n" + host + host + "\r\n",
			"GET " + path + " HTTP/1.1\r\nHost: a b\r\n\r\n", "GET " + path + " HTTP/1.1\r\nHost:\r\n\r\n", "GET http://other.example" + path + " HTTP/1.1\r\n" + host + "\r\n", "GET https://" + Host + path + " HTTP/1.1\r\n" + host + "\r\n",
			"CONNECT " + Host + ":443 HTTP/1.1\r\n" + host + "\r\n", "CONNECT " + path + " HTTP/1.1\r\n" + host + "\r\n", "TRACE " + path + " HTTP/1.1\r\n" + host + "\r\n",
			"POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST " + path + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
			"POST " + path + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n", "POST " + path + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
			"POST " + path + " HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", "POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", "POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
			"POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", "POST " + path + " HTTP/1.1\r\n" + host + "Content-Length: 300000\r\n\r\n" + strings.Repeat("a", 300_000),
			"\r\n\r\nGET " + path + " HTTP/1.1\r\n" + host + "\r\n", path + "\r\n\r\n", "GET " + path + " HTTP/1.1\r\n" + host + "\r\nGET " + path + " HTTP/1.1\r\n" + host + "\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "GET * HTTP/1.1\r\n" + host + "\r\n", "GET " + path + "#f HTTP/1.1\r\n" + host + "\r\n",
			"GET " + path + strings.Repeat("/a", 10_000) + " HTTP/1.1\r\n" + host + "\r\n", "GET " + path + "?" + strings.Repeat("a", 14_000) + " HTTP/1.1\r\n" + host + "\r\n",
			"G\x00T " + path + " HTTP/1.1\r\n" + host + "\r\n", "\x16\x03\x01\x00\x05hello\r\n\r\n", strings.Repeat("A", 70_000),
		} {
			cut(r, r)
		}
	}
	return dedupe(out)
}

// dedupe drops probes of a name that was there before.
func dedupe(probes []Probe) []Probe {
	seen := make(map[string]bool)
	out := probes[:0]
	for _, p := range probes {
		if !seen[p.Name] {
			seen[p.Name] = true
			out = append(out, p)
		}
	}
	return out
}
