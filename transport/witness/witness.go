// Package witness asks a witness of transparency logs to cosign a checkpoint: the
// client's side of add-checkpoint (c2sp.org/tlog-witness), over any
// http.RoundTripper. Relays are witnesses (transport/relay), and so is any other
// server that speaks the protocol.
package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	// timeout bounds one call: a witness has a checkpoint to check and to store.
	timeout = 30 * time.Second
	// maxAnswer bounds an answer in bytes: signature lines, or a reason.
	maxAnswer = 16 << 10
	// sizeType is what the size in a 409 answer is marked by.
	sizeType = "text/x.tlog.size"
)

// Client is one witness. Calls may run at once.
type Client struct {
	base string
	rt   http.RoundTripper
}

var _ transport.Cosigner = (*Client)(nil)

// New makes the client of the witness whose submission prefix is base, an https
// URL. Nothing is dialled yet.
func New(base string, rt http.RoundTripper) *Client {
	return &Client{strings.TrimSuffix(base, "/"), rt}
}

// Cosign implements transport.Cosigner. Errors quote nothing of the URL.
func (c *Client) Cosign(ctx context.Context, s channel.Submission) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/add-checkpoint", bytes.NewReader(s.Marshal()))
	if err != nil {
		return nil, errors.New("witness: malformed request")
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("User-Agent", "")
	resp, err := c.rt.RoundTrip(req) // no redirect is followed
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	switch code := resp.StatusCode; {
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("witness: an answer of more than %d bytes", maxAnswer)
	case code == http.StatusOK && bytes.HasPrefix(body, []byte("— ")):
		return body, nil
	case code == http.StatusConflict: // the old size is not what it has seen: it says what that is
		size, err := strconv.ParseUint(strings.TrimSuffix(string(body), "\n"), 10, 63)
		if err != nil || resp.Header.Get("Content-Type") != sizeType {
			return nil, fmt.Errorf("%w: it has seen another size of this log, and does not say which (status 409 without a size); tell who runs it", transport.ErrRefused)
		}
		return nil, &transport.SizeError{Size: size}
	case code == http.StatusNotFound, code == http.StatusOK: // a website says the latter
		return nil, fmt.Errorf("witness: %w", transport.ErrNotFound)
	case code == http.StatusUnprocessableEntity:
		return nil, fmt.Errorf("%w: it has seen another history of this channel", transport.ErrRefused)
	case code == http.StatusForbidden:
		return nil, fmt.Errorf("%w: it knows another log key of this channel", transport.ErrRefused)
	case code == http.StatusBadRequest:
		return nil, fmt.Errorf("%w: it does not understand the checkpoint", transport.ErrRefused)
	default:
		return nil, fmt.Errorf("witness: status %d", code)
	}
}
