// Package testservers runs servers of other people for tests: nginx, caddy, versitygw,
// which speaks S3, torchwood's litewitness, and x/net's WebDAV; for comparisons, which CI does not make,
// Kubo. All but WebDAV are processes of their own
// on loopback; all end with the test. What is not installed skips the test, which is a failure
// in CI (TAMIZDAT_CI=1).
package testservers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/net/webdav"
)

// Cert is a certificate for 127.0.0.1 and the pool that vouches for it.
type Cert struct {
	CertFile, KeyFile string
	Pool              *x509.CertPool
}

// NewCert makes a certificate.
func NewCert(t testing.TB) Cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Cert{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), Pool: x509.NewCertPool()}
	for name, block := range map[string]*pem.Block{
		c.CertFile: {Type: "CERTIFICATE", Bytes: der}, c.KeyFile: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.Pool.AddCert(leaf)
	return c
}

// need finds a command, or says what is missing.
func need(t testing.TB, command, how string) string {
	t.Helper()
	// Debian puts servers where only root looks.
	for _, name := range []string{command, filepath.Join("/usr/sbin", command)} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	skip(t, fmt.Sprintf("no %s here, so this was not tested against it: %s", command, how))
	return ""
}

// Need skips t where a command is missing, and says which of Debian's packages has it.
func Need(t testing.TB, command, pkg string) {
	t.Helper()
	need(t, command, "install the package "+pkg)
}

// skip ends a test for want of something, which in CI is a failure.
func skip(t testing.TB, missing string) {
	t.Helper()
	if inCI() {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

func inCI() bool { return os.Getenv("TAMIZDAT_CI") == "1" }

// NeedNginx skips t where there is no nginx, and returns its path. Whoever starts it
// from a subtest on t's behalf calls this first: a subtest can't skip another test.
func NeedNginx(t testing.TB) string {
	t.Helper()
	return need(t, "nginx", "install the package nginx-light")
}

// NeedVersityGW is the same for versitygw.
func NeedVersityGW(t testing.TB) string {
	t.Helper()
	return need(t, "versitygw", "go build -C internal/testservers/versitygw -o SOMEWHERE-IN-PATH github.com/versity/versitygw/cmd/versitygw")
}

// patience is how long a server may take to listen.
const patience = 30 * time.Second

// start runs a server on a free port of loopback until the test ends; command
// makes it for an address.
func start(t testing.TB, command func(addr string) *exec.Cmd) (addr string) {
	t.Helper()
	addr, _ = startProcess(t, command)
	return addr
}

func startProcess(t testing.TB, command func(addr string) *exec.Cmd) (addr string, pid int) {
	t.Helper()
	for range 5 { // somebody else may take the port
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		_ = ln.Close() // it is only the number that is wanted
		cmd := command(addr)
		var log strings.Builder
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // killed, or the log says why
			close(ended)
		}()
		if listens(addr, ended) {
			t.Cleanup(func() {
				_ = cmd.Process.Kill() // it may have ended
				<-ended
			})
			return addr, cmd.Process.Pid
		}
		_ = cmd.Process.Kill()
		<-ended
		t.Logf("%s: %s", filepath.Base(cmd.Path), log.String())
	}
	t.Fatal("the server does not start")
	return "", 0
}

func listens(addr string, ended <-chan struct{}) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(20 * time.Millisecond): // until it listens
		}
	}
	return false
}

// Server is one that runs.
type Server struct {
	URL string
	PID int // of its only process
}

// Nginx serves a folder over HTTPS, as docs/publisher.md has it, and returns its
// URL.
func Nginx(t testing.TB, dir string, c Cert) string {
	t.Helper()
	return NginxServer(t, dir, c).URL
}

// NginxServer is the same for who wants to know its process as well. What is not
// about the folder is as in Debian's nginx.conf.
func NginxServer(t testing.TB, dir string, c Cert) Server {
	t.Helper()
	bin := NeedNginx(t)
	tmp := t.TempDir()
	addr, pid := startProcess(t, func(addr string) *exec.Cmd {
		conf := filepath.Join(tmp, "nginx.conf")
		user := ""
		if os.Geteuid() == 0 {
			user = "user root;" // the test's folders are root's own
		}
		text := fmt.Sprintf(`%s daemon off; master_process off; pid %s/pid; error_log stderr;
events { worker_connections 256; }
http {
	access_log off; sendfile on; tcp_nopush on; types_hash_max_size 2048; ssl_protocols TLSv1.2 TLSv1.3;
	client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
	server {
		listen %s ssl http2;
		ssl_certificate %s; ssl_certificate_key %s;
		root %s;
		location /ipfs/ { add_header Cache-Control "public, max-age=31536000, immutable"; }
		location /head/ { add_header Cache-Control "no-cache"; }
	}
}
`, user, tmp, addr, c.CertFile, c.KeyFile, dir)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(bin, "-p", tmp, "-c", conf)
	})
	return Server{URL: "https://" + addr, PID: pid}
}

// Caddy serves a folder over HTTPS, HTTP/3 too, with nothing else asked of it.
func Caddy(t testing.TB, dir string, c Cert) Server {
	t.Helper()
	bin := need(t, "caddy", "install the package caddy")
	tmp := t.TempDir()
	addr, pid := startProcess(t, func(addr string) *exec.Cmd {
		conf := filepath.Join(tmp, "Caddyfile")
		text := fmt.Sprintf(`{
	admin off
	auto_https disable_redirects
	default_sni 127.0.0.1
}
https://%s {
	tls %s %s
	root * %s
	file_server
}
`, addr, c.CertFile, c.KeyFile, dir)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(bin, "run", "--config", conf, "--adapter", "caddyfile")
		cmd.Env = []string{"HOME=" + tmp, "XDG_DATA_HOME=" + tmp, "XDG_CONFIG_HOME=" + tmp}
		return cmd
	})
	return Server{URL: "https://" + addr, PID: pid}
}

// The keys of VersityGW.
const (
	AccessKey = "testaccess"
	SecretKey = "testsecret-not-a-secret"
)

// VersityGW serves the folders in dir as S3 buckets, over HTTPS if c is not nil,
// and returns its URL. Several may serve one dir at once.
func VersityGW(t testing.TB, dir string, c *Cert) string {
	t.Helper()
	bin := NeedVersityGW(t)
	meta := filepath.Join(dir, "..", "meta-"+filepath.Base(dir)) // not every filesystem has extended attributes
	if err := os.MkdirAll(meta, 0o700); err != nil {
		t.Fatal(err)
	}
	addr := start(t, func(addr string) *exec.Cmd {
		args := []string{"--port", addr, "--quiet", "--mc", "512", "--mr", "256"}
		if c != nil {
			args = append(args, "--cert", c.CertFile, "--key", c.KeyFile)
		}
		cmd := exec.Command(bin, append(args, "posix", "--sidecar", meta, dir)...)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
		return cmd
	})
	if c != nil {
		return "https://" + addr
	}
	return "http://" + addr
}

// Bucket runs VersityGW over dir with a new bucket that everybody may read, as
// docs/publisher.md has it, and returns the bucket's URL.
func Bucket(t testing.TB, dir, name string) string {
	t.Helper()
	url := VersityGW(t, dir, nil)
	c, err := minio.New(strings.TrimPrefix(url, "http://"), &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::` + name + `/*"]}]}`
	if err := c.SetBucketPolicy(t.Context(), name, policy); err != nil {
		t.Fatal(err)
	}
	return url + "/" + name
}

// WebDAV serves dir below /dav/ to whoever has the password in the file secret.
// before, if not nil, may answer instead, by a status other than 0.
func WebDAV(t testing.TB, dir string, before func(*http.Request) int) (url, secret string) {
	t.Helper()
	h := &webdav.Handler{Prefix: "/dav", FileSystem: webdav.Dir(dir), LockSystem: webdav.NewMemLS()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "ann" || pass != "pass:word" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if before != nil {
			if status := before(r); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("ann:pass:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL, secret
}

// KeysFile writes VersityGW's keys as Amazon's tools have them.
func KeysFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	text := "[default]\naws_access_key_id = " + AccessKey + "\naws_secret_access_key = " + SecretKey + "\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
