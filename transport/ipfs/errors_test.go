package ipfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"tamizdat/transport"
)

const somebody = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

// presentable sees that an error can be shown and logged.
func presentable(t *testing.T, what string, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	s := err.Error()
	if len(s) > maxError || strings.ContainsAny(s, "\n\r\t\x1b") || !utf8.ValidString(s) || s == "" {
		t.Errorf("%s: %d bytes: %q", what, len(s), s)
	}
	for _, secret := range secrets {
		if strings.Contains(s, secret) {
			t.Errorf("%s: it names %s: %q", what, secret, s)
		}
	}
}

func TestErrorsAreOneLineWithoutAddresses(t *testing.T) {
	addr := func(s string) ma.Multiaddr {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 4001}, Err: syscall.ECONNREFUSED}
	dial := &swarm.DialError{Peer: "somebody", Cause: swarm.ErrAllDialsFailed, DialErrors: []swarm.TransportError{
		{Address: addr("/ip4/192.0.2.9/tcp/4001"), Cause: refused},
		{Address: addr("/ip6/2001:db8::9/udp/4001/quic-v1"), Cause: context.DeadlineExceeded},
		{Address: addr("/dns4/peer.example/udp/4001/quic-v1"), Cause: fmt.Errorf("socket: %w", transport.ErrBlocked)},
	}}
	secrets := []string{"192.0.2.9", "2001:db8", "peer.example", somebody, "4001"}
	for name, err := range map[string]error{
		"dial":          shortDialError(dial),
		"raw dial":      dial,
		"wrapped":       fmt.Errorf("connect: %w", dial),
		"joined":        errors.Join(context.DeadlineExceeded, refused, fmt.Errorf("peer /ip4/192.0.2.9/udp/4001/quic-v1/p2p/%s is gone", somebody)),
		"lookup":        &net.DNSError{Err: "no such host", Name: "peer.example", Server: "192.0.2.9:53"},
		"terminal":      errors.New("odd \x1b[2Jpeer\tsays\r\n\r\nhello"),
		"long":          errors.New(strings.Repeat("длинная строка ", 100)),
		"broken UTF-8":  errors.New("odd \xff\xfe peer"),
		"many lines":    errors.New(strings.Repeat("192.0.2.9:4001 failed\n", 100)),
		"nothing at it": transport.ErrNotFound,
	} {
		got := tidy(err)
		presentable(t, name, got, secrets...)
		if !errors.Is(got, err) && got.Error() != err.Error() {
			t.Errorf("%s: the cause is lost", name)
		}
	}
	if got := tidy(shortDialError(dial)); !errors.Is(got, transport.ErrBlocked) || !errors.Is(got, syscall.ECONNREFUSED) || !errors.Is(got, context.DeadlineExceeded) {
		t.Errorf("the causes of a dial are lost: %v", got)
	}
	if got := shortDialError(dial).Error(); !strings.Contains(got, "refused") || !strings.Contains(got, "timed out") || !strings.Contains(got, "blocked") {
		t.Errorf("it does not say what went wrong: %q", got)
	}
	if got := tidy(transport.ErrNotFound); got != transport.ErrNotFound {
		t.Errorf("an error that is in order was changed: %v", got)
	}
	if tidy(nil) != nil {
		t.Error("an error out of nothing")
	}
}

// TestFailuresOfPaths: what a path says when its peers can't be reached, or are
// somebody else, or hang up.
func TestFailuresOfPaths(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	id := srv.ID()
	other := "/p2p/" + somebody
	var stranger []string
	for _, a := range srv.Addrs() {
		stranger = append(stranger, strings.TrimSuffix(a, "/p2p/"+id)+other)
	}
	blocked := new(loopback)
	blocked.noTCP.Store(true)
	blocked.noUDP.Store(true)
	for name, test := range map[string]struct {
		net   *loopback
		peers []string
	}{
		"nobody there":  {new(loopback), []string{"/ip4/127.0.0.1/tcp/1" + other, "/ip6/::1/tcp/1" + other, "/ip4/127.0.0.1/tcp/2/p2p/" + srv.ID()}},
		"no such host":  {new(loopback), []string{"/dns4/nowhere.test/tcp/4001" + other, "/dns4/nowhere.test/udp/4001/quic-v1" + other}},
		"somebody else": {new(loopback), stranger},
		"blocked":       {blocked, srv.Addrs()},
	} {
		t.Run(name, func(t *testing.T) {
			reader := newNode(t, Config{Network: test.net})
			p, err := reader.Path("x", e.ipnsPub, test.peers)
			if err != nil {
				t.Fatal(err)
			}
			secrets := []string{"127.0.0.1", "::1", "nowhere.test", somebody, id, "/tcp", "/udp"}
			_, err = p.Heads.Head(t.Context(), [32]byte{}, 0)
			presentable(t, "head", err, secrets...)
			_, err = p.Heads.RootNote(t.Context(), [32]byte{}, 1)
			presentable(t, "root note", err, secrets...)
			_, err = p.Heads.Grant(t.Context(), [32]byte{}, "grant")
			presentable(t, "grant", err, secrets...)
			_, err = collect(t.Context(), t, p.Blocks, wantsOf(e.layer[:2]))
			presentable(t, "fetch", err, secrets...)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = p.Heads.Head(ctx, [32]byte{}, 0)
			presentable(t, "cancelled", err, secrets...)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}
