package ipfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"tamizdat/internal/redact"
	"tamizdat/transport"
)

// maxError bounds the text of an error, in bytes.
const maxError = 200

// lineError is an error of libp2p, boxo or net/http as people may see it: one
// line of at most maxError bytes, without addresses. The causes stay reachable
// by errors.Is and errors.As.
type lineError struct {
	text string
	err  error
}

func (e *lineError) Error() string { return e.text }
func (e *lineError) Unwrap() error { return e.err }

// tidy makes a lineError of what is not in order already. Every error that
// leaves the package while it works for a path goes through it.
func tidy(err error) error {
	if err == nil {
		return nil
	}
	text := line(redact.Text(unnamed(err)))
	if text == err.Error() {
		return err
	}
	return &lineError{text, err}
}

// flat is tidy for an error about the operator's own addresses, which he needs
// to see.
func flat(err error) error {
	if text := line(err.Error()); text != err.Error() {
		return &lineError{text, err}
	}
	return err
}

// multiaddr matches the parts of a multiaddress that say where somebody is.
var multiaddr = regexp.MustCompile(`/(?:ip4|ip6|ip6zone|dns|dns4|dns6|dnsaddr|tcp|udp|p2p|ipfs|certhash)/[^/\s,;\]")]+`)

// unnamed is the text of err without multiaddresses and names of hosts.
func unnamed(err error) string {
	text := multiaddr.ReplaceAllString(err.Error(), redact.Mask)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.Name != "" {
		text = strings.ReplaceAll(text, dns.Name, redact.Mask)
	}
	return text
}

// line makes one short line of s.
func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == ' ':
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxError {
		return s
	}
	const more = "…"
	cut := maxError - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// dialError is a failed dial in our words: how many addresses were tried, and
// what went wrong with them. libp2p writes a line for each, with the address.
type dialError struct{ causes []error }

func (e *dialError) Error() string {
	if len(e.causes) == 0 {
		return "no address could be dialled"
	}
	var why []string
	for _, c := range e.causes {
		if w := reason(c); w != "" && !strings.Contains(strings.Join(why, ", "), w) {
			why = append(why, w)
		}
	}
	text := fmt.Sprintf("none of %d addresses answered", len(e.causes))
	if len(why) > 0 {
		text += " (" + strings.Join(why, ", ") + ")"
	}
	return text
}
func (e *dialError) Unwrap() []error { return e.causes }

// reason is a cause that people know, "" for others.
func reason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, transport.ErrUnsupported):
		return transport.ErrUnsupported.Error()
	case errors.Is(err, transport.ErrBlocked):
		return transport.ErrBlocked.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	return ""
}

// shortDialError is what came of a dial, in a few words.
func shortDialError(err error) error {
	var de *swarm.DialError
	if !errors.As(err, &de) {
		return tidy(err)
	}
	out := &dialError{}
	for i := range de.DialErrors {
		out.causes = append(out.causes, de.DialErrors[i].Cause)
	}
	if de.Cause != nil {
		out.causes = append(out.causes, de.Cause)
	}
	return out
}
