package ipfs

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"

	"tamizdat/transport"
)

// GatewayHeads returns the heads of one channel as any trustless gateway
// (specs.ipfs.tech/http-gateways/trustless-gateway/) serves them: the IPNS
// record of key at base/ipns/<name>?format=ipns-record, and root notes and
// grants by walking the edition's directory at base/ipfs/<cid>?format=raw. base
// is an http or https URL; rt carries the requests, and follows no redirect
// unless it does so itself.
func GatewayHeads(rt http.RoundTripper, base string, key ed25519.PublicKey) (transport.Heads, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("gateway is not an http or https URL")
	}
	name, err := nameOf(key)
	if err != nil {
		return nil, err
	}
	g := gateway{rt: rt, base: strings.TrimSuffix(u.String(), "/")}
	return &heads{
		resolve: func(ctx context.Context) (*signed, error) { return g.record(ctx, name) },
		block:   g.block,
	}, nil
}

type gateway struct {
	rt   http.RoundTripper
	base string
}

func (g gateway) record(ctx context.Context, name ipns.Name) (*signed, error) {
	b, err := g.get(ctx, "/ipns/"+name.String()+"?format=ipns-record", "application/vnd.ipfs.ipns-record", MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("ipns record: %w", err)
	}
	return parseRecord(name, b)
}

func (g gateway) block(ctx context.Context, _, c cid.Cid, limit int) ([]byte, error) {
	return g.get(ctx, "/ipfs/"+c.String()+"?format=raw", "application/vnd.ipld.raw", limit)
}

// get reads one answer of at most limit bytes.
func (g gateway) get(ctx context.Context, path, accept string, limit int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+path, nil)
	if err != nil {
		return nil, errors.New("gateway URL is malformed")
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "") // none at all, not Go's
	res, err := g.rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask gateway: %w", err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, transport.ErrNotFound
	default:
		return nil, fmt.Errorf("gateway answered %d", res.StatusCode)
	}
	if res.ContentLength > int64(limit) {
		return nil, fmt.Errorf("gateway's answer is larger than %d bytes", limit)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read gateway's answer: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("gateway's answer is larger than %d bytes", limit)
	}
	return b, nil
}
