package relay

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// tokens are the proofs that an ACME server looks for over plain HTTP just now
// (http-01). The zero value works, and so does nil, which never has any.
type tokens struct {
	mu     sync.Mutex
	byPath map[string]string // path → key authorization
}

var _ acmez.Solver = (*tokens)(nil)

// Present implements acmez.Solver.
func (t *tokens) Present(_ context.Context, c acme.Challenge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byPath == nil {
		t.byPath = make(map[string]string)
	}
	t.byPath[c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

// CleanUp implements acmez.Solver.
func (t *tokens) CleanUp(_ context.Context, c acme.Challenge) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byPath, c.HTTP01ResourcePath())
	return nil
}

// before answers for what an ACME server looks for, and leaves all else to next.
func (t *tokens) before(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		proof, ok := t.byPath[r.URL.Path]
		t.mu.Unlock()
		if !ok || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(proof))
	})
}

// hellos are the proofs that an ACME server looks for in a TLS handshake just
// now (tls-alpn-01, RFC 8737). The zero value works.
type hellos struct {
	mu     sync.Mutex
	byName map[string]*tls.Certificate
}

var _ acmez.Solver = (*hellos)(nil)

// Present implements acmez.Solver.
func (h *hellos) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName == nil {
		h.byName = make(map[string]*tls.Certificate)
	}
	h.byName[strings.ToLower(c.Identifier.Value)] = cert
	return nil
}

// CleanUp implements acmez.Solver.
func (h *hellos) CleanUp(_ context.Context, c acme.Challenge) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byName, strings.ToLower(c.Identifier.Value))
	return nil
}

// config is tls.Config.GetConfigForClient: it speaks acme-tls/1 to whoever offers
// that alone, for a name that is being proven. At all other times and to all
// others the relay does not know the protocol, as a website without ACME doesn't.
func (h *hellos) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol {
		return nil, nil
	}
	h.mu.Lock()
	cert := h.byName[strings.ToLower(hello.ServerName)]
	h.mu.Unlock()
	if cert == nil {
		return nil, nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acmez.ACMETLS1Protocol},
		Certificates: []tls.Certificate{*cert}, SessionTicketsDisabled: true,
	}, nil
}
