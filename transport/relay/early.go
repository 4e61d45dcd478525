package relay

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
)

// tokenAge is how long an address token spares a reader's address its check:
// as long as crypto/tls takes a session ticket.
const tokenAge = 7 * 24 * time.Hour

// serverKeys outlive the process, so that what a relay hands out is still
// worth something after a restart.
type serverKeys struct {
	// reset signs stateless resets: after a restart, clients of the last run are
	// told at once that their connections are gone instead of timing out.
	reset quic.StatelessResetKey
	// token encrypts address tokens (RFC 9000, section 8.1.3).
	token quic.TokenGeneratorKey
	// ticket encrypts session tickets (RFC 8446, section 4.6.1).
	ticket [32]byte
}

// deriveKeys derives them from the certificate's key, the one secret that every
// listener has for good.
//
// The price is forward secrecy of early data, and of nothing else: whoever takes
// the relay's key later can decrypt recorded requests that were sent as early
// data, and so tell which prefix came from which address. All other traffic of
// resumed sessions has a Diffie-Hellman exchange of its own. Keys that change
// each day and are deleted after a week would shorten that; the relay's other
// secrets, which the same thief has, already tell batches apart.
//
// If the HTTP/3 settings ever shrink, the label of the ticket key has to change:
// a client remembers them with its ticket (RFC 9114, section 7.2.4.2).
func deriveKeys(cfg *tls.Config) (*serverKeys, error) {
	if len(cfg.Certificates) == 0 {
		return nil, errors.New("listen: no certificate")
	}
	der, err := x509.MarshalPKCS8PrivateKey(cfg.Certificates[0].PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	k := &serverKeys{}
	for label, out := range map[string]*[32]byte{
		"tamizdat/v1/stateless reset": (*[32]byte)(&k.reset),
		"tamizdat/v1/address token":   (*[32]byte)(&k.token),
		"tamizdat/v1/session ticket":  &k.ticket,
	} {
		b, err := hkdf.Key(sha256.New, der, nil, label, len(out))
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		copy(out[:], b)
	}
	return k, nil
}

type connKey struct{}

func withConn(ctx context.Context, c *quic.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// afterHandshake lets only GET and HEAD be answered in early data (RFC 8470,
// section 3: "defer"); every other request waits for the end of the handshake,
// which nobody can bring about who only repeats what he has recorded.
//
// Answering a GET before that is safe: it changes nothing here, whichever part
// of the relay answers, gateway or website. A repeated flight gets an answer of
// the same size, encrypted to the reader who sent it first; that size the
// censor saw the first time. The answer to an address that has not shown
// itself stays within three times what came from there. Nothing is counted or
// remembered that a repetition would spoil. Waiting, unlike status 425, looks the
// same whether or not the path opens anything, and costs no round trip.
//
// Whoever puts another server behind this one has to send it Early-Data: 1
// with such requests.
func afterHandshake(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			c, ok := r.Context().Value(connKey{}).(*quic.Conn)
			if !ok { // not by withConn: we can't tell, so we don't
				w.WriteHeader(http.StatusTooEarly)
				return
			}
			select {
			case <-c.HandshakeComplete():
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
