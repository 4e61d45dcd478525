package witness

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// server answers as it is told to.
type server func(r *http.Request, body []byte) (code int, kind, answer string)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	code, kind, answer := s(r, b)
	if code == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(answer))}, nil
}

func TestAnswers(t *testing.T) {
	s := channel.Submission{Old: 3, Proof: []channel.Hash{{1}}, Checkpoint: []byte("a checkpoint\n\n— x AAAAAAA=\n")}
	size := func(n uint64) func(error) bool {
		return func(err error) bool { var e *transport.SizeError; return errors.As(err, &e) && e.Size == n }
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	plain := func(err error) bool {
		return err != nil && !errors.Is(err, transport.ErrRefused) && !errors.Is(err, transport.ErrNotFound) && !errors.As(err, new(*transport.SizeError))
	}
	const text, lines = "text/plain", "— w BBBB\n"
	for name, c := range map[string]struct {
		code         int
		kind, answer string
		want         func(error) bool
	}{
		"cosigned":                       {200, text, lines, is(nil)},
		"a website":                      {200, "text/html", "<html>", is(transport.ErrNotFound)},
		"nothing":                        {200, text, "", is(transport.ErrNotFound)},
		"has seen 7":                     {409, "text/x.tlog.size", "7\n", size(7)},
		"has seen none":                  {409, "text/x.tlog.size", "0\n", size(0)},
		"has seen something":             {409, "text/x.tlog.size", "seven\n", is(transport.ErrRefused)},
		"has seen too much":              {409, "text/x.tlog.size", "18446744073709551615\n", is(transport.ErrRefused)},
		"another conflict":               {409, text, "7\n", is(transport.ErrRefused)},
		"unknown log":                    {404, text, "", is(transport.ErrNotFound)},
		"bad proof":                      {422, text, "", is(transport.ErrRefused)},
		"bad signature":                  {403, text, "", is(transport.ErrRefused)},
		"bad request":                    {400, text, "", is(transport.ErrRefused)},
		"too often":                      {429, text, "", plain},
		"trouble":                        {500, text, "", plain},
		"sent elsewhere":                 {302, text, "", plain},
		"more than a witness has to say": {200, text, lines + strings.Repeat("x", maxAnswer), plain},
		"no answer":                      {0, "", "", is(io.ErrUnexpectedEOF)},
	} {
		t.Run(name, func(t *testing.T) {
			client := New("https://witness.example/sub/", server(func(r *http.Request, body []byte) (int, string, string) {
				if r.Method != "POST" || r.URL.String() != "https://witness.example/sub/add-checkpoint" || !bytes.Equal(body, s.Marshal()) {
					t.Errorf("%s %s\n%s", r.Method, r.URL, body)
				}
				return c.code, c.kind, c.answer
			}))
			got, err := client.Cosign(t.Context(), s)
			if !c.want(err) || (err == nil) != (string(got) == lines) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "witness.example") {
				t.Errorf("the error says where it is: %v", err)
			}
		})
	}
}
