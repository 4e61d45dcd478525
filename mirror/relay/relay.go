// Package relay is a relay without its command line: an ordinary website on
// one port over HTTP/3 and HTTP/2, under which editions of news channels lie
// behind secret paths.
//
// A relay is a blind carrier. It checks that what a publisher pushes is signed
// by a channel it carries, and can't read a word of it. Its parts:
//
//   - [Handler] tells readers (by a secret path prefix) from everyone else,
//     who gets the website of [Site].
//   - [Store] keeps editions, one CARv1 file each, and takes uploads in.
//   - [Relay] is all of it with a listener; mirror-relay run and the demo start one.
//   - [Relay.Records] and [Relay.ServeIPFS] offer the same editions over DNS and IPFS.
//
// No address of a reader is ever written down: the handler logs none, and the
// command wraps its log with internal/redact besides.
package relay

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/internal/durable"
	"tamizdat/internal/filelock"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
	wire "tamizdat/transport/relay"
)

// Config says how to run a relay. Dir and Network are needed.
type Config struct {
	// Dir is the data folder: secrets, certificate, list of carried channels,
	// store. It is made if it does not exist.
	Dir string
	// Network opens the sockets.
	Network transport.Network
	// Listen are addresses tried in this order; [":443", ":8443"] if empty.
	Listen []string
	// Also are more addresses on which the same is served, all of them.
	Also []string
	// ECH is the outer name of an ECH key (RFC 9849), empty for none: readers who
	// have it from a grant then show that name to watchers instead of Host.
	ECH string
	// Host is what Target names; the listener's own address if empty.
	Host string
	// Decoy is the website's folder, the built-in site if empty.
	Decoy string
	// Site is the URL of a website that is shown instead of a folder; see
	// NewUpstream.
	Site string
	// Redirect is an address on which visitors without TLS are sent to the
	// relay's website, ":80"; empty for none.
	Redirect string
	// ACME gets a certificate for the website; without names it stays with the
	// one that the relay signed itself.
	ACME ACME
	// Limits bound the store.
	Limits Limits
	// S3, if not nil, is where editions are kept instead of Dir, so that a fleet
	// of relays with the same secrets stands behind one name.
	S3 *bucket.Config
	// S3Poll is how often it is looked for what other relays have stored, 5 s if 0.
	S3Poll time.Duration
	// Throttle bounds what clients may ask.
	Throttle Throttle
	// Traffic bounds what the relay sends.
	Traffic Traffic
	// Pull are relays to fetch new editions from, see Relay.PullLine.
	Pull []wire.Pull
	// Witness makes the relay a witness of the channels that it carries. Not with S3.
	Witness bool
	// Hooks are filled in by other parts.
	Hooks Hooks
	// Log is for the volunteer; nil discards.
	Log *slog.Logger

	website http.Handler // instead of Decoy and Site, for tests
}

// Relay is one running relay.
type Relay struct {
	cfg     Config
	keys    *keys
	carried *carried
	store   *Store
	handler *Handler
	server  *wire.Server
	others  []*wire.Server // those of Config.Also
	ech     []byte         // ECHConfigList, nil for none
	echKey  tls.EncryptedClientHelloKey
	site    io.Closer     // nil unless it is an Upstream
	door    *door         // nil without Redirect
	certs   *certificates // nil without ACME
	node    *ipfs.Node    // nil unless ServeIPFS was called
	poster  *poster       // nil unless PostPackets was
	lock    *filelock.Lock
	ledger  *ledger  // nil without Traffic.PerMonth
	witness *witness // nil unless Config.Witness
	outer   uint16   // the port in Config.Host, 0 if there is none
	// fleet ends what a store on S3 needs; nil without one.
	fleet     func()
	following *following // nil until it listens
}

// addressFile remembers where the relay listened last, an address a line, for
// "mirror-relay address" in another process.
const addressFile = "listening"

// lockName is held by the process that serves the folder.
const lockName = "lock"

// ErrRunning: another process serves this data folder.
var ErrRunning = errors.New("a relay is running on this data folder already")

// ErrAlso: one of the addresses of Config.Also can't be listened on.
var ErrAlso = errors.New("no listener for also")

// DefaultListen are the addresses a relay tries.
var DefaultListen = []string{":443", ":8443"}

// New opens the data folder and makes the secrets that are missing. It may
// stand beside a running relay on the same folder, for Target.
func New(cfg Config) (*Relay, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Network == nil || cfg.Dir == "" {
		return nil, errors.New("relay: no data folder or no network")
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = DefaultListen
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg}
	var err error
	if _, port, bad := net.SplitHostPort(cfg.Host); bad == nil { // behind a forwarded port
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, errors.New("host: no port behind the colon; like relay.example.org or relay.example.org:443")
		}
		r.outer = uint16(n)
	}
	for name, addrs := range map[string][]string{"also": cfg.Also, "redirect": {cmp.Or(cfg.Redirect, ":80")}} {
		for _, a := range addrs {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return nil, fmt.Errorf("%s: %q is no address to listen on; like :80 or 192.0.2.1:80", name, a)
			}
		}
	}
	if r.ledger, err = openLedger(cfg.Dir, cfg.Traffic.PerMonth, cfg.Log); err != nil {
		return nil, err
	}
	r.cfg.Network = r.ledger.network(cfg.Network)
	if r.keys, err = loadKeys(cfg.Dir); err != nil {
		return nil, err
	}
	if r.carried, err = newCarried(cfg.Dir, r.keys); err != nil {
		return nil, err
	}
	r.carried.log = cfg.Log
	if cfg.Witness {
		if cfg.S3 != nil {
			return nil, errors.New("witness: not in a fleet on a bucket; what a witness has seen lies on one machine")
		}
		if r.witness, err = openWitness(cfg.Dir); err != nil {
			return nil, fmt.Errorf("witness: %w", err)
		}
	}
	if cfg.ECH != "" {
		key, list, err := loadECH(cfg.Dir, cfg.ECH)
		if err != nil {
			return nil, err
		}
		r.ech, r.echKey = list, key
	}
	return r, nil
}

// Start loads the store, begins to listen and returns. It returns the last
// error if none of the addresses can be opened, and ErrRunning if another
// process serves the folder. A Relay starts once.
func (r *Relay) Start(ctx context.Context) (err error) {
	if r.lock, err = filelock.Acquire(filepath.Join(r.cfg.Dir, lockName)); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			return ErrRunning
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := os.Remove(filepath.Join(r.cfg.Dir, ipfsAddressFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // it would speak of an earlier run
	}
	r.ledger.start()
	if err := r.openStore(ctx); err != nil {
		return err
	}
	site, err := r.website()
	if err != nil {
		return err
	}
	throttle := r.cfg.Throttle.withDefaults()
	r.handler = &Handler{
		store: r.store, carried: r.carried, site: site, log: r.cfg.Log, ledger: r.ledger, pin: r.keys.pin,
		witness: r.witness,
		waiting: wire.NewPlaces[[8]byte](-1, throttle.PollsPerBatch),
		batches: newRates[[8]byte](throttle.PerBatch), pushes: newRates[channel.ID](throttle.PerIntake),
	}
	var serve http.Handler = r.handler
	if r.cfg.Hooks.Wrap != nil {
		serve = r.cfg.Hooks.Wrap(serve)
	}
	serve = newTurnstile(serve, throttle, newPacer(r.cfg.Traffic.PerSecond))
	cfg := &tls.Config{Certificates: []tls.Certificate{r.keys.cert}}
	if r.ech != nil {
		cfg.GetEncryptedClientHelloKeys = wire.ECHFor(r.cfg.ECH, r.echKey)
	}
	if len(r.cfg.ACME.Names) > 0 {
		if r.certs, err = newCertificates(r.cfg.Dir, r.keys.cert, r.cfg.ACME, r.cfg.Network, r.cfg.Redirect != "", r.cfg.Log); err != nil {
			return err
		}
		cfg.GetCertificate, cfg.GetConfigForClient = r.certs.get, r.certs.hellos.config
	}
	if err := r.listen(ctx, cfg, serve, wire.NewGuard(throttle.Conns)); err != nil {
		return err
	}
	if err := r.openDoor(ctx); err != nil {
		return err
	}
	return r.startFollowing()
}

// listen opens the first address that can be opened, and all others.
func (r *Relay) listen(ctx context.Context, cfg *tls.Config, serve http.Handler, guard *wire.Guard) (err error) {
	main := serve
	if r.outer != 0 {
		main = seenAt(r.outer, serve)
	}
	for _, addr := range r.cfg.Listen {
		if r.server, err = wire.ListenWithin(ctx, r.cfg.Network, addr, cfg, main, r.cfg.Log, guard); err == nil {
			break
		}
		r.cfg.Log.Info("address not available, trying the next", "listen", addr, "err", err)
	}
	if err != nil {
		return err
	}
	at := r.server.Addr().String() + "\n"
	for _, addr := range r.cfg.Also {
		s, err := wire.ListenWithin(ctx, r.cfg.Network, addr, cfg, serve, r.cfg.Log, guard)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAlso, err)
		}
		r.others = append(r.others, s)
		at += s.Addr().String() + "\n"
	}
	return durable.Write(filepath.Join(r.cfg.Dir, addressFile), 0o600, []byte(at))
}

// seenAt has visitors over TCP told of HTTP/3 at the port under which they reach
// the relay, which is forwarded to the one that it listens on.
func seenAt(port uint16, next http.Handler) http.Handler {
	value := []string{fmt.Sprintf(`h3=":%d"; ma=86400`, port)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.Header()["Alt-Svc"] != nil {
			w.Header()["Alt-Svc"] = value
		}
		next.ServeHTTP(w, r)
	})
}

// website is what everyone sees.
func (r *Relay) website() (http.Handler, error) {
	if r.cfg.website != nil {
		return r.cfg.website, nil
	}
	if r.cfg.Site == "" {
		site, err := Site(r.cfg.Decoy)
		if err != nil {
			return nil, fmt.Errorf("decoy: %w", err)
		}
		return site, nil
	}
	if r.cfg.Decoy != "" {
		return nil, errors.New("site: there is a decoy besides; take one out")
	}
	u, err := NewUpstream(r.cfg.Network, r.cfg.Site, nil, r.cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	r.site = u
	return u, nil
}

// openDoor listens for visitors without TLS, and lets the search for a
// certificate begin: from now on its proofs can be seen.
func (r *Relay) openDoor(ctx context.Context) (err error) {
	var proofs *tokens
	if r.certs != nil {
		proofs = &r.certs.tokens
	}
	if r.cfg.Redirect != "" {
		port := r.outer
		if port == 0 {
			_, text, _ := net.SplitHostPort(r.Addr().String())
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return err
			}
			port = uint16(n)
		}
		if r.door, err = openDoor(ctx, r.cfg.Network, r.cfg.Redirect, port, proofs); err != nil {
			return err
		}
	}
	if r.certs != nil {
		r.certs.start()
	}
	return nil
}

// openStore opens the folder's store, or the one in the bucket.
func (r *Relay) openStore(ctx context.Context) (err error) {
	if r.cfg.S3 == nil {
		if r.store, err = OpenStore(r.cfg.Dir, r.cfg.Limits, r.cfg.Log); err != nil {
			return err
		}
		r.store.carries = r.carried.has
		return nil
	}
	kept, err := newS3(r.cfg.Network, *r.cfg.S3)
	if err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	following, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	r.fleet = func() { stop(); wg.Wait(); _ = kept.Close() } // it only closes connections
	if r.store, err = openStore(ctx, r.cfg.Dir, kept, r.cfg.Limits, r.cfg.Log); err != nil {
		return err
	}
	wg.Go(func() { r.store.follow(following, cmp.Or(r.cfg.S3Poll, defaultPoll)) })
	return nil
}

// Addr is the address listened on (TCP and UDP); nil before Start.
func (r *Relay) Addr() net.Addr {
	if r.server == nil {
		return nil
	}
	return r.server.Addr()
}

// HasListened reports whether a relay ever listened on this data folder, so
// that Target knows the port.
func (r *Relay) HasListened() bool {
	_, err := os.Stat(filepath.Join(r.cfg.Dir, addressFile))
	return err == nil
}

// FirstChoice is the address that Start tries first.
func (r *Relay) FirstChoice() string { return r.cfg.Listen[0] }

// Wait blocks until the listener has stopped and returns why; nil after Close
// and Shutdown. Only after Start.
func (r *Relay) Wait() error { return r.server.Wait() }

// Shutdown lets running requests end until ctx does, then closes.
func (r *Relay) Shutdown(ctx context.Context) error {
	r.following.close()
	r.poster.close()
	err := r.closeNode()
	var wg sync.WaitGroup
	errs := make([]error, len(r.servers()))
	for i, s := range r.servers() {
		wg.Go(func() { errs[i] = s.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(err, errors.Join(errs...), r.closeSite(), r.unlock())
}

// Close ends the listener and all connections at once. What was acknowledged
// is on disk already.
func (r *Relay) Close() error {
	r.following.close()
	r.poster.close()
	err := r.closeNode()
	for _, s := range r.servers() {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, r.closeSite(), r.unlock())
}

// closeSite ends what serves the website besides the listener.
func (r *Relay) closeSite() (err error) {
	if r.door != nil {
		err = r.door.Close()
	}
	if r.certs != nil {
		r.certs.Close()
	}
	if r.site != nil {
		err = errors.Join(err, r.site.Close())
	}
	return err
}

// servers are those that listen.
func (r *Relay) servers() []*wire.Server {
	if r.server == nil {
		return nil
	}
	return append([]*wire.Server{r.server}, r.others...)
}

func (r *Relay) closeNode() error {
	if r.node == nil {
		return nil
	}
	r.store.onIPNS(nil)
	return r.node.Close()
}

func (r *Relay) unlock() error {
	if r.fleet != nil {
		r.fleet()
		r.fleet = nil
	}
	if r.lock == nil {
		return nil
	}
	err := errors.Join(r.ledger.close(), r.lock.Release())
	r.lock = nil
	return err
}

// Network is Config.Network with what is sent counted, if Config.Traffic asks for
// that: for what serves the relay's editions in other ways.
func (r *Relay) Network() transport.Network { return r.cfg.Network }

// Store is the relay's store, for the parts that serve it in other ways (DNS,
// IPFS); nil before Start.
func (r *Relay) Store() *Store { return r.store }

// Handler is what the relay serves; nil before Start.
func (r *Relay) Handler() http.Handler { return r.handler }

// Carried lists the channels the relay carries.
func (r *Relay) Carried() []channel.ID {
	var ids []channel.ID
	for _, c := range r.carried.channels() {
		ids = append(ids, c.id)
	}
	return ids
}

// Pin is the pin of the relay's key.
func (r *Relay) Pin() channel.Pin { return r.keys.pin }

// Target carries the channel from now on, durably, and returns the line for
// its publisher. A relay running on the same folder in another process notices
// at once.
func (r *Relay) Target(ch channel.ID) (wire.Target, error) {
	if err := r.carried.add(ch); err != nil {
		return wire.Target{}, err
	}
	host, port, err := r.address()
	if err != nil {
		return wire.Target{}, err
	}
	cc := r.carried.keysOf(ch)
	t := wire.Target{Host: host, Port: port, Pin: r.keys.pin, Mint: cc.mint, Intake: cc.intake, ECH: r.ech}
	for _, at := range r.listened()[1:] {
		if _, text, err := net.SplitHostPort(at); err == nil {
			if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
				t.Also = append(t.Also, uint16(n))
			}
		}
	}
	return t, nil
}

// ErrNotCarried: there is nothing of that channel to give.
var ErrNotCarried = errors.New("the channel is not carried here")

// PullLine returns a line by which another relay may fetch the channel's
// editions from this one. Each call makes another prefix, so that one that was
// passed on can be traced.
func (r *Relay) PullLine(ch channel.ID) (wire.Pull, error) {
	if !r.carried.has(ch) {
		return wire.Pull{}, ErrNotCarried
	}
	host, port, err := r.address()
	if err != nil {
		return wire.Pull{}, err
	}
	var tag [8]byte
	rand.Read(tag[:]) // never fails
	return wire.Pull{Host: host, Port: port, Pin: r.keys.pin, Prefix: r.carried.keysOf(ch).pull.Mint(tag), Channel: ch}, nil
}

// ErrNoHost: the relay does not know under which address others reach it.
var ErrNoHost = errors.New("this machine does not know its public address")

// address is the host and port to give to others.
func (r *Relay) address() (string, uint16, error) {
	at := r.listened()[0]
	host, portText, err := net.SplitHostPort(at)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, err
	}
	if r.outer != 0 {
		h, _, err := net.SplitHostPort(r.cfg.Host)
		return h, r.outer, err
	}
	if ip := net.ParseIP(host); r.cfg.Host == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "", 0, ErrNoHost
	}
	return cmp.Or(strings.Trim(r.cfg.Host, "[]"), host), uint16(port), nil
}

// listened are the addresses of the listener, or of the last one that ran on this
// folder, or of the configuration; the main one first.
func (r *Relay) listened() []string {
	var out []string
	for _, s := range r.servers() {
		out = append(out, s.Addr().String())
	}
	if len(out) == 0 {
		b, _ := os.ReadFile(filepath.Join(r.cfg.Dir, addressFile)) // none: it never ran
		out = strings.Fields(string(b))
	}
	if len(out) == 0 {
		out = append([]string{r.cfg.Listen[0]}, r.cfg.Also...)
	}
	return out
}

// shutdownTime is how long running requests get when the relay stops.
const shutdownTime = 5 * time.Second

// Run serves until ctx ends, then stops gracefully.
func (r *Relay) Run(ctx context.Context) error {
	stopped := make(chan error, 1)
	go func() { stopped <- r.Wait() }()
	select {
	case err := <-stopped:
		return errors.Join(err, r.Close())
	case <-ctx.Done():
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		return r.Shutdown(ctx)
	}
}
