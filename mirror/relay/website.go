package relay

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
)

// The website is there for whoever asks, so a stranger with a loop could use the
// month's bytes up for its readers. It has a share of them. When that is gone it answers
// 503, whatever is asked for, as a site does whose host has used up its contract; the
// gateway answers readers on, and nobody who has no prefix sees that. Going on slowly
// would leave the cover a little more, and make it one that no other site wears.

// siteShare is the website's part of a month: one in so many.
const siteShare = 2

// answerHead is what counts for an answer besides its body.
const answerHead = 512

var errShut = errors.New("the website has had its share of this month's traffic")

// shut reports whether the website has had its share.
func (l *ledger) shut() bool { return l != nil && l.site.Load() >= l.limit/siteShare }

// website counts an answer of the website, which ends when its share does.
func (l *ledger) website(w http.ResponseWriter) http.ResponseWriter {
	if l == nil {
		return w
	}
	l.site.Add(answerHead)
	return &siteAnswer{w, l}
}

type siteAnswer struct {
	http.ResponseWriter
	ledger *ledger
}

func (s *siteAnswer) Write(b []byte) (int, error) {
	if s.ledger.shut() {
		return 0, errShut
	}
	n, err := s.ResponseWriter.Write(b)
	s.ledger.site.Add(int64(n))
	return n, err
}

// ReadFrom leaves the copying to what is below, which has buffers for it, and which
// looks at how long the rest is.
func (s *siteAnswer) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		return io.Copy(s.ResponseWriter, &io.LimitedReader{R: &siteReader{l.R, s.ledger}, N: l.N})
	}
	return io.Copy(s.ResponseWriter, &siteReader{r, s.ledger})
}

// Unwrap is for http.ResponseController.
func (s *siteAnswer) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker: WebSockets of a site behind count, too.
func (s *siteAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &siteConn{c, s.ledger}, rw, nil
}

type siteReader struct {
	io.Reader
	ledger *ledger
}

func (s *siteReader) Read(b []byte) (int, error) {
	shut := s.ledger.shut()
	n, err := s.Reader.Read(b)
	if n > 0 && shut { // its end may be read
		return 0, errShut
	}
	s.ledger.site.Add(int64(n))
	return n, err
}

type siteConn struct {
	net.Conn
	ledger *ledger
}

func (s *siteConn) Write(b []byte) (int, error) {
	if s.ledger.shut() {
		return 0, errShut
	}
	n, err := s.Conn.Write(b)
	s.ledger.site.Add(int64(n))
	return n, err
}
