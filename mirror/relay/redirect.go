package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// ErrRedirect: the address of Config.Redirect can't be listened on.
var ErrRedirect = errors.New("no listener for visitors without TLS")

// maxPlain bounds the connections without TLS that are open at once, and those of
// one address among them: each is for one short answer.
const (
	maxPlain        = 512
	maxPlainPerAddr = 64
)

// door is the website's port for HTTP without TLS. Like that of most websites
// it only says that everything is to be had over HTTPS; an ACME server finds its
// proof there too (http-01, RFC 8555, section 8.3), while it is looking for it.
type door struct {
	ln     net.Listener
	server *http.Server
	done   sync.WaitGroup
}

// openDoor listens on addr; port is where HTTPS is, for visitors. tokens may be
// nil.
func openDoor(ctx context.Context, network transport.Network, addr string, port uint16, tokens *tokens) (*door, error) {
	ln, err := network.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRedirect, err)
	}
	d := &door{ln: ln, server: &http.Server{
		Handler: tokens.before(toHTTPS(port)), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, DisableGeneralOptionsHandler: true,
	}}
	d.done.Go(func() {
		_ = d.server.Serve(wire.Guarded(ln, wire.Limits{Conns: maxPlain, ConnsPerAddr: maxPlainPerAddr}))
	})
	return d, nil
}

// Close ends the listener and all its connections.
func (d *door) Close() error {
	err := d.server.Close()
	d.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// toHTTPS answers everything with a permanent redirect to the same thing over
// HTTPS. It looks at no path: a secret one is answered as any other.
func toHTTPS(port uint16) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // the next request is for the other port
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if host == "" || r.Method == http.MethodConnect {
			http.Error(w, "400 Bad Request", http.StatusBadRequest)
			return
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if port != 443 {
			host = fmt.Sprintf("%s:%d", host, port)
		}
		to := url.URL{Scheme: "https", Host: host, Path: "/"}
		if strings.HasPrefix(r.URL.Path, "/") {
			to.Path, to.RawPath, to.RawQuery, to.ForceQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.URL.ForceQuery
		}
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
	})
}
