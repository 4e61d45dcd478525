package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// guard knows who may come in. The token itself is in the first link only; the
// cookie and the forms carry values derived from it, so that none of them can
// stand in for another.
type guard struct {
	token, cookie, form string
	name                string // of the cookie: cookies are shared by all ports of a host
}

func newGuard(token string) *guard {
	derive := func(use string) []byte {
		m := hmac.New(sha256.New, []byte(token))
		m.Write([]byte(use))
		return m.Sum(nil)
	}
	return &guard{
		token:  token,
		cookie: base64.RawURLEncoding.EncodeToString(derive("cookie")),
		form:   base64.RawURLEncoding.EncodeToString(derive("form")),
		name:   "s" + hex.EncodeToString(derive("name")[:4]),
	}
}

func (g *guard) known(r *http.Request) bool {
	ok := false
	for _, c := range r.CookiesNamed(g.name) {
		ok = ok || equal(c.Value, g.cookie)
	}
	return ok
}

func (g *guard) knownForm(f string) bool { return equal(f, g.form) }

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// sameOrigin tells whether a POST comes from a page of ours. Every current
// browser says so in Sec-Fetch-Site. Origin is "null" from pages with our
// Referrer-Policy (Fetch, "append a request Origin header"), so null is let
// through here; the form's own token decides then.
func (g *guard) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "null" || origin == "http://"+r.Host
}

// localHost holds the Host header to the names of this machine: a foreign name
// that resolves to 127.0.0.1 makes a foreign page "same origin".
func localHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return false
	}
	return name == "127.0.0.1" || name == "localhost" || name == "::1"
}

func fromLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-DNS-Prefetch-Control", "off")
	h.Set("Cache-Control", "no-store")
}

// enter turns the token of the first link into a cookie and leads to the same
// page without it, so that it is in no history and no screenshot.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) bool {
	if !equal(r.URL.Query().Get("t"), s.guard.token) {
		return false
	}
	s.setCookie(w, s.guard.name, s.guard.cookie)
	http.Redirect(w, r, without(r.URL, "t"), http.StatusSeeOther)
	return true
}

// setCookie sets one that ends with the browser's session: it is not written to disk.
func (s *Server) setCookie(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// leave is the quick exit: the browser forgets the way in, so that going back
// shows nothing.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, s.guard.name) {
			http.SetCookie(w, &http.Cookie{Name: c.Name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	if s.o.Exit != "" {
		http.Redirect(w, r, s.o.Exit, http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(`<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Notes</title><h1>Notes</h1><p>Nothing here yet.</p></html>`))
}

// without returns path and query of u less some of its parameters. It never
// begins with two slashes, which would lead to another host.
func without(u *url.URL, params ...string) string {
	q := u.Query()
	for _, p := range params {
		q.Del(p)
	}
	out := url.URL{Path: "/" + strings.TrimLeft(u.Path, "/"), RawQuery: q.Encode()}
	return out.String()
}
