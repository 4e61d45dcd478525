package relay

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// ACME says where to get a certificate for the website (RFC 8555). The zero
// value gets none.
type ACME struct {
	// Names are the DNS names that lead to the relay.
	Names []string
	// Email is where the authority writes to; it may be empty.
	Email string
	// Directory is the authority's URL, that of Let's Encrypt if empty.
	Directory string
	// Roots is a PEM file with the certificates that the authority's own server
	// is known by; empty for the system's.
	Roots string

	now func() time.Time // nil is time.Now
}

// LetsEncrypt is the directory that is asked if no other is named.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

const (
	acmeCertFile = "acme.crt" // PEM, the leaf first; its first line says where it is from
	acmeKeyFile  = "acme.key" // the account's key; PEM, PKCS #8

	// orderTime bounds one attempt, and checkEvery is how often is looked whether
	// the authority wants a certificate replaced early (RFC 9773).
	orderTime  = 10 * time.Minute
	checkEvery = 6 * time.Hour
	// After a failure the next attempt waits firstRetry, then twice as long each
	// time, up to lastRetry: authorities allow five failures an hour.
	firstRetry = 15 * time.Minute
	lastRetry  = 12 * time.Hour
	// maxACMEAnswer bounds one answer of the authority, in bytes.
	maxACMEAnswer = 1 << 20
)

// certificates holds what the website shows: the relay's own certificate until
// there is one of an authority. All are of the one key in tls.key, for good, so
// that the pin in invites stays what it is and everything that is derived from
// that key (transport/relay, deriveKeys) does too.
type certificates struct {
	cfg     ACME
	dir     string
	key     crypto.Signer
	client  *acmez.Client
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
	from    string // the directory that current is of, "" for our own; run's alone
	tokens  tokens
	hellos  hellos
	life    context.Context
	end     context.CancelFunc
	done    sync.WaitGroup
}

// dnsName is what an authority can come to look at: no address, no wildcard.
var dnsName = regexp.MustCompile(`(?i)^([a-z0-9_-]{1,63}\.)+[a-z0-9-]*[a-z][a-z0-9-]*$`)

// newCertificates begins with what was obtained by an earlier run. Without a
// port for plain HTTP only tls-alpn-01 (RFC 8737) is offered to the authority.
func newCertificates(dir string, own tls.Certificate, cfg ACME, network transport.Network, plain bool, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, dir: dir, log: log}
	if c.cfg.Directory == "" {
		c.cfg.Directory = LetsEncrypt
	}
	if c.cfg.now == nil {
		c.cfg.now = time.Now
	}
	var ok bool
	if c.key, ok = own.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("acme: %s can't sign", keyFile)
	}
	for _, name := range cfg.Names {
		if !dnsName.MatchString(name) {
			return nil, fmt.Errorf("acme: %q is no name that leads to a machine; like www.example.org", name)
		}
	}
	var roots *x509.CertPool
	if cfg.Roots != "" {
		text, err := os.ReadFile(cfg.Roots)
		if err != nil {
			return nil, fmt.Errorf("acme_roots: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return nil, errors.New("acme_roots: no certificate in it; it has to be a PEM file")
		}
	}
	c.current.Store(&own)
	if err := c.load(); err != nil {
		return nil, err
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.client = &acmez.Client{
		Client: &acme.Client{Directory: c.cfg.Directory, HTTPClient: &http.Client{Timeout: time.Minute, Transport: &bounded{http.Transport{
			DialContext: gateway.DialWithin(c.life, network), TLSClientConfig: &tls.Config{RootCAs: roots},
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second,
		}}}},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeTLSALPN01: &c.hellos},
	}
	if plain {
		c.client.ChallengeSolvers[acme.ChallengeTypeHTTP01] = &c.tokens
	}
	return c, nil
}

// start begins to look after them. The relay has to listen already, since the
// authority comes to look.
func (c *certificates) start() { c.done.Go(func() { c.run(c.life) }) }

// Close ends what is under way.
func (c *certificates) Close() {
	c.end()
	c.done.Wait()
}

// get is tls.Config.GetCertificate. Every client gets the same, whatever name it
// asked for: readers ask for an address.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// load takes up the certificate of an earlier run. It may be too old or for
// other names: a replacement then comes soon, and until then it is better than
// our own.
func (c *certificates) load() error {
	path := filepath.Join(c.dir, acmeCertFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cert, err := c.parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w; remove it, and a new one is asked for", path, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	c.current.Store(cert)
	c.from, _ = strings.CutPrefix(line, fromPrefix)
	return nil
}

// fromPrefix begins acme.crt; RFC 7468 (section 5.2) lets text stand there.
const fromPrefix = "# from "

// parse reads a chain in PEM whose leaf has our key.
func (c *certificates) parse(text []byte) (*tls.Certificate, error) {
	cert := &tls.Certificate{PrivateKey: c.key}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
	}
	if len(cert.Certificate) == 0 {
		return nil, errors.New("no certificate in it")
	}
	var err error
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return nil, err
	}
	if channel.PinOf(cert.Leaf) != channel.PinOf(c.current.Load().Leaf) {
		return nil, errors.New("not of the relay's key")
	}
	return cert, nil
}

// run gets certificates until ctx ends: one now if need be, and each next one
// when a third of its time is left or the authority says so.
func (c *certificates) run(ctx context.Context) {
	for retry := firstRetry; ; {
		wait := checkEvery
		if c.due(ctx) {
			if err := c.obtain(ctx); err == nil {
				retry = firstRetry
				c.log.Info("certificate obtained", "until", c.current.Load().Leaf.NotAfter.UTC())
			} else if ctx.Err() == nil {
				wait, retry = retry, min(2*retry, lastRetry)
				c.log.Warn("no certificate yet, the website keeps the one it has", "err", err, "next", wait)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// due reports whether another certificate is wanted.
func (c *certificates) due(ctx context.Context) bool {
	leaf, now := c.current.Load().Leaf, c.cfg.now()
	if c.from != c.cfg.Directory || !covers(leaf, c.cfg.Names) {
		return true
	}
	if left := leaf.NotAfter.Sub(now); left < leaf.NotAfter.Sub(leaf.NotBefore)/3 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	info, err := c.client.GetRenewalInfo(ctx, leaf)
	return err == nil && now.After(info.SelectedTime)
}

func covers(leaf *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) != nil })
}

// obtain gets a certificate; it is durable on return.
func (c *certificates) obtain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	key, err := loadAccountKey(filepath.Join(c.dir, acmeKeyFile))
	if err != nil {
		return err
	}
	account := acme.Account{PrivateKey: key, TermsOfServiceAgreed: true}
	if c.cfg.Email != "" {
		account.Contact = []string{"mailto:" + c.cfg.Email}
	}
	// For a key that it knows the server returns the account (section 7.3.1).
	if account, err = c.client.NewAccount(ctx, account); err != nil {
		return err
	}
	chains, err := c.client.ObtainCertificateForSANs(ctx, account, c.key, c.cfg.Names)
	if err != nil {
		return err
	}
	if len(chains) == 0 {
		return errors.New("the authority sent no certificate")
	}
	text := append([]byte(fromPrefix+c.cfg.Directory+"\n"), chains[0].ChainPEM...)
	cert, err := c.parse(text)
	if err != nil {
		return fmt.Errorf("the authority's certificate: %w", err)
	}
	if !covers(cert.Leaf, c.cfg.Names) {
		return errors.New("the authority's certificate is for other names")
	}
	if err := durable.Write(filepath.Join(c.dir, acmeCertFile), 0o644, text); err != nil {
		return err
	}
	c.current.Store(cert)
	c.from = c.cfg.Directory
	return nil
}

// loadAccountKey reads or makes the account's key, which may not be the
// certificate's (section 11.1).
func loadAccountKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = newKey(); err == nil {
			err = durable.Write(path, 0o600, text)
		}
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block; remove it for a new account", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it for a new account", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: can't sign; remove it for a new account", path)
	}
	return signer, nil
}

// bounded cuts answers off that are longer than an authority's can be.
type bounded struct{ http.Transport }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxACMEAnswer)
	}
	return resp, err
}
