package censorlab

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
	wire "tamizdat/transport/relay"
)

// A server of the controls: ECH, and a DoH resolver that no censor knows of.
var addrControl = netip.MustParseAddr("203.0.113.140")

const (
	nameListed   = "ech." + nameRelayA // below a listed name
	nameUnlisted = "ech.example"
	nameInner    = "inner.example"
)

// scrambling is what turns the splitting of ClientHellos off in quic-go.
const scrambling = "QUIC_GO_DISABLE_CLIENTHELLO_SCRAMBLING"

// naive is a reader of the controls.
type naive struct {
	t   *testing.T
	w   *World
	s   censor.Scenario
	net *censor.Censor
	ech map[string][]byte // ECHConfigLists of the control server, by outer name
}

// naively puts a naive reader into a scenario, and returns its answer and what
// the censor did.
func naively(t *testing.T, w *World, ech map[string][]byte, s censor.Scenario, try attempt) (answer string, did int64, err error) {
	t.Helper()
	if err := w.evil.set(s.Far, 0); err != nil {
		t.Fatal(err)
	}
	w.cache.forget()
	host := w.seat(s)
	defer w.Net.Remove(host)
	var events atomic.Int64
	n := &naive{t: t, w: w, s: s, net: censor.New(host, Map(), s, 1, func(censor.Event) { events.Add(1) }), ech: ech}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	answer, err = try(ctx, n)
	return answer, events.Load(), err
}

// now is the time on the reader's device.
func (n *naive) now() time.Time { return time.Now().Add(n.s.Clock) }

// tls is what the reader wants of a server: without a name, which is not sent
// then, it takes any certificate, as one who has a pin.
func (n *naive) tls(name string) *tls.Config {
	cfg := &tls.Config{ServerName: name, RootCAs: n.w.ca.pool, Time: n.now, MinVersion: tls.VersionTLS13}
	if name == "" || name == nameRelayA {
		cfg.InsecureSkipVerify = true
	}
	return cfg
}

// get fetches one page, half a minute at most.
func get(ctx context.Context, rt http.RoundTripper, host, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

func (n *naive) overTLS(ctx context.Context, cfg *tls.Config, addr netip.Addr, path string) (string, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end() // also of a connection that hangs
	dial := gateway.DialWithin(life, n.net)
	rt := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, netip.AddrPortFrom(addr, 443).String())
		},
		TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableCompression: true,
	}
	defer rt.CloseIdleConnections()
	host := cfg.ServerName
	if host == "" {
		host = addr.String()
	}
	return get(ctx, rt, host, path)
}

// overTLS fetches a page over TLS over TCP, in one connection.
func overTLS(name string, addr netip.Addr, path string) attempt {
	return func(ctx context.Context, n *naive) (string, error) { return n.overTLS(ctx, n.tls(name), addr, path) }
}

// http3As says how somebody speaks HTTP/3. The zero value is quic-go's way: the
// ClientHello, with a post-quantum key share, is too long for one datagram, and
// is sent in pieces out of order with the name cut in two.
type http3As struct {
	whole    bool // in order, the name in one piece
	small    bool // without the post-quantum key share it fits into one datagram
	version2 bool
	packet   uint16 // size of Initials, 0: 1200
}

func (n *naive) overQUIC(ctx context.Context, cfg *tls.Config, addr netip.Addr, path string, as http3As) (string, error) {
	n.t.Setenv(scrambling, fmt.Sprint(as.whole))
	defer n.t.Setenv(scrambling, "false")
	if as.small {
		cfg.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	version := quic.Version1
	if as.version2 {
		version = quic.Version2
	}
	pc, err := n.net.ListenPacket(ctx, "udp", "0.0.0.0:0")
	if err != nil {
		return "", err
	}
	t := &quic.Transport{Conn: pc}
	rt := &http3.Transport{
		TLSClientConfig: cfg,
		QUICConfig:      &quic.Config{Versions: []quic.Version{version}, InitialPacketSize: max(as.packet, 1200), DisablePathMTUDiscovery: true},
		Dial: func(ctx context.Context, _ string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return t.DialEarly(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 443)), cfg, qc)
		},
	}
	defer func() { _, _, _ = rt.Close(), t.Close(), pc.Close() }()
	host := cfg.ServerName
	if host == "" {
		host = addr.String()
	}
	return get(ctx, rt, host, path)
}

func listedRelay(as http3As) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		return n.overQUIC(ctx, n.tls(nameRelayA), addrRelayA, "/", as)
	}
}

func unlistedRelay(as http3As) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		return n.overQUIC(ctx, n.tls(""), addrRelayB, "/", as)
	}
}

func mirrorQUIC(path string) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		return n.overQUIC(ctx, n.tls(nameMirror), addrMirror, path, http3As{})
	}
}

// hidden fetches a page of the control server with ECH behind an outer name.
func hidden(outer string, overQUIC bool) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		cfg := n.tls(nameInner)
		cfg.EncryptedClientHelloConfigList = n.ech[outer]
		if overQUIC {
			return n.overQUIC(ctx, cfg, addrControl, "/ech", http3As{})
		}
		return n.overTLS(ctx, cfg, addrControl, "/ech")
	}
}

// soon is for what must not take more than two seconds.
func soon(try attempt) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return try(ctx, n)
	}
}

// lasting uses a server for ten seconds.
func lasting(addr netip.Addr) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		for range 10 {
			if _, err := n.overTLS(ctx, n.tls(""), addr, "/"); err != nil {
				return "", err
			}
			time.Sleep(time.Second)
		}
		return "ten times", nil
	}
}

// first opens a TCP connection with these bytes, and hears them again.
func first(b []byte) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		c, err := n.net.Dial(ctx, "tcp", netip.AddrPortFrom(addrBootstrap, dhtPort).String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(b); err != nil {
			return "", err
		}
		back := make([]byte, len(b))
		_, err = io.ReadFull(c, back)
		return string(back), err
	}
}

// dhtNode speaks with a node of the DHT.
func dhtNode(addr netip.Addr) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		c, err := hop(ctx, &modelled{w: n.w, network: n.net}, addr)
		if err != nil {
			return "", err
		}
		return "heard", c.Close()
	}
}

// overHTTPS asks a DoH server (RFC 8484) for an address.
func overHTTPS(addr netip.Addr) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		return n.overTLS(ctx, n.tls(nameInner), addr, "/dns-query")
	}
}

// ours is the real reader with nothing but QUIC to the relay with a listed name, and
// nothing to hide that name behind.
func ours(whole bool) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		n.t.Setenv(scrambling, fmt.Sprint(whole))
		defer n.t.Setenv(scrambling, "false")
		rd, err := n.w.readerOn(ctx, n.net, Reading{Only: []string{transport.KindQUIC}, Honest: true, TextOnly: true, Limit: time.Minute}, n.s.Clock)
		if err != nil {
			return "", err
		}
		rd.Left = func(places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path {
			return measure{relay: nameRelayA}.left([]handicap{noECH}, places, paths)
		}
		o, err := rd.Sync(ctx)
		if !o.Newest || o.Text == 0 {
			err = errors.Join(err, errors.New("no news"), o.Err)
		}
		return "the news", errors.Join(err, rd.Close())
	}
}

// believing takes what a server says for true: the head, and the newest
// edition's directory.
func believing(server string) attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		ch := n.w.pub.Channel()
		h, _ := n.w.honest.Store().Head(ch)
		if server == "peer" {
			return n.peer(ctx, h.Root)
		}
		said := ""
		for _, path := range []string{"/head/" + ch.String() + "?only=head", "/ipfs/" + h.Root.String() + "?format=raw"} {
			cfg, addr := n.tls(""), addrGateway
			if server == "gateway" {
				cfg = n.tls(nameGateway)
				path = strings.Replace(path, "/head/"+ch.String()+"?only=head", "/ipns/"+n.w.evil.name+"?format=ipns-record", 1)
			} else {
				r := n.relay(server)
				addr = addrRelayA
				if server == "relay B" {
					addr = addrRelayB
				}
				path = "/" + r.Prefix.Path() + path
			}
			body, err := n.overTLS(ctx, cfg, addr, path)
			if err != nil {
				return "", err
			}
			said += body + "\n"
		}
		return said, nil
	}
}

// opening is the whole opening answer of relay B.
func opening() attempt {
	return func(ctx context.Context, n *naive) (string, error) {
		body, err := n.overTLS(ctx, n.tls(""), addrRelayB, "/"+n.relay("relay B").Prefix.Path()+"/head/"+n.w.pub.Channel().String())
		return strings.TrimPrefix(body, "200 "), err
	}
}

// relay is a relay of the invite.
func (n *naive) relay(server string) channel.Relay {
	n.t.Helper()
	inv, err := n.w.Invite()
	if err != nil {
		n.t.Fatal(err)
	}
	host := nameRelayA
	if server == "relay B" {
		host = addrRelayB.String()
	}
	i := slices.IndexFunc(inv.Places.Relays, func(r channel.Relay) bool { return r.Host == host })
	if i < 0 {
		n.t.Fatalf("%s is not in the invite", server)
	}
	return inv.Places.Relays[i]
}

// peer asks the IPFS peer for the channel's record and a block.
func (n *naive) peer(ctx context.Context, root cid.Cid) (said string, err error) {
	rd, err := n.w.readerOn(ctx, n.net, Reading{Only: []string{transport.KindIPFS}}, n.s.Clock)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	inv, err := n.w.Invite()
	if err != nil {
		return "", err
	}
	cfg := n.w.pub.Config()
	inv.Places.Peers = cfg.Peers[:1]
	for _, p := range rd.Paths(inv.Channel, inv.IPNS, inv.Places) {
		head, err := p.Heads.Head(ctx, inv.Channel, 0)
		if err != nil {
			return "", err
		}
		for b, err := range p.Blocks.Fetch(ctx, transport.Request{Wants: []transport.Want{{CID: root, Layer: "dir"}}}) {
			if err != nil {
				return "", err
			}
			return string(head) + string(b.Data), nil
		}
	}
	return "", errors.New("no block")
}

// headLabel is the label of a channel's head (transport/dns).
func headLabel(ch channel.ID) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(ch[:8]))
}

// blocksOf are the names of a CAR's blocks, each of which must be what it says.
func blocksOf(t *testing.T, file string) (out []cid.Cid) {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader([]byte(file)))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := drain(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		out = append(out, b.CID)
	}
	return out
}

// controlServers starts a website with ECH, and two DoH servers. It returns the
// ECHConfigLists by their outer names.
func controlServers(t *testing.T, w *World) map[string][]byte {
	t.Helper()
	ech := map[string][]byte{}
	var keys []tls.EncryptedClientHelloKey
	for i, outer := range []string{nameListed, nameUnlisted} {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cfg := echConfig(byte(i), key.PublicKey().Bytes(), outer)
		ech[outer] = append([]byte{byte(len(cfg) >> 8), byte(len(cfg))}, cfg...)
		keys = append(keys, tls.EncryptedClientHelloKey{Config: cfg, PrivateKey: key.Bytes(), SendAsRetry: true})
	}
	for _, addr := range []netip.Addr{addrControl, addrDoH} {
		cfg, err := w.tlsFor(nameInner)
		if err != nil {
			t.Fatal(err)
		}
		cfg.EncryptedClientHelloKeys = keys
		s, err := wire.Listen(t.Context(), w.host("control "+addr.String(), addr), netip.AddrPortFrom(addr, 443).String(), cfg,
			http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ech" && !r.TLS.ECHAccepted {
					http.Error(rw, "without ECH", http.StatusForbidden)
					return
				}
				req := new(dns.Msg)
				req.SetQuestion(dns.Fqdn(nameMirror), dns.TypeA)
				req.Id = 0
				b, err := w.cache.answer(req).Pack()
				if err == nil {
					_, err = rw.Write(b)
				}
				if err != nil {
					t.Error(err)
				}
			}), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.closers = append(w.closers, s)
	}
	return ech
}

// echConfig is one ECHConfig (RFC 9849, section 4): X25519, HKDF-SHA256, AES-128-GCM.
func echConfig(id byte, key []byte, public string) []byte {
	body := append([]byte{id, 0, 0x20, 0, byte(len(key))}, key...)
	body = append(body, 0, 4, 0, 1, 0, 1, 0, byte(len(public)))
	body = append(body, public...)
	body = append(body, 0, 0)
	return append([]byte{0xfe, 0x0d, 0, byte(len(body))}, body...)
}
