package testservers

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	sqlite "github.com/ncruces/go-sqlite3/driver"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Litewitness runs torchwood's witness (c2sp.org/tlog-witness) for one log that it has
// never seen, and returns its submission prefix and its key. vkey is the log's verifier
// key, whose name is its origin.
func Litewitness(t testing.TB, vkey string) (url string, key ed25519.PublicKey) {
	t.Helper()
	bin := need(t, "litewitness", "go build -C internal/testservers/litewitness -o SOMEWHERE-IN-PATH filippo.io/torchwood/cmd/litewitness")
	dir, err := os.MkdirTemp("", "lw") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the system does it some day
	// What its witnessctl would write, which is not to be had from every module proxy.
	db, err := sqlite.Open("file:" + filepath.ToSlash(filepath.Join(dir, "db")))
	if err != nil {
		t.Fatal(err)
	}
	origin, _, _ := strings.Cut(vkey, "+")
	fill(t, db, origin, vkey)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	key, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sock := serveAgent(t, dir, secret)
	addr := start(t, func(addr string) *exec.Cmd {
		return exec.Command(bin, "-name", LitewitnessName, "-db", filepath.Join(dir, "db"), "-ssh-agent", sock,
			"-listen", addr, "-key", ssh.FingerprintSHA256(public))
	})
	return "http://" + addr, key
}

// LitewitnessName is the name under which Litewitness signs.
const LitewitnessName = "litewitness.example/w1"

func fill(t testing.TB, db *sql.DB, origin, vkey string) {
	t.Helper()
	for _, q := range []struct {
		text string
		args []any
	}{
		{`CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)`, nil},
		{`CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))`, nil},
		// the hash of no leaves
		{`INSERT INTO log VALUES (?, 0, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')`, []any{origin}},
		{`INSERT INTO key VALUES (?, ?)`, []any{origin, vkey}},
	} {
		if _, err := db.Exec(q.text, q.args...); err != nil {
			t.Fatal(err)
		}
	}
}

// serveAgent is an ssh-agent with one key, at a socket in dir.
func serveAgent(t testing.TB, dir string, key ed25519.PrivateKey) (sock string) {
	t.Helper()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	sock = filepath.Join(dir, "agent")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				_ = agent.ServeAgent(ring, c) // until it hangs up
				c.Close()
			}()
		}
	}()
	return sock
}

// WitnessClient shows a witness a checkpoint by the client of transparency-dev's
// witness. url is the submission prefix, roots a file with the certificate that the
// witness is known by. It returns what was signed; or, with an error, the size that the
// witness says it has seen, if that is why.
func WitnessClient(t testing.TB, url, roots string, old uint64, proof []string, checkpoint []byte) (signed []byte, size uint64, err error) {
	t.Helper()
	bin := need(t, "witnessclient", "go build -C internal/testservers/witnessclient -o SOMEWHERE-IN-PATH .")
	cmd := exec.CommandContext(t.Context(), bin, append([]string{"-roots", roots, url, strconv.FormatUint(old, 10)}, proof...)...)
	var out, problem bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(checkpoint), &out, &problem
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), 0, nil
	case errors.As(err, &exit) && exit.ExitCode() == 3:
		if size, err = strconv.ParseUint(strings.TrimSpace(out.String()), 10, 64); err != nil {
			t.Fatal(err)
		}
		return nil, size, errors.New("it has seen another size")
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return nil, 0, errors.New(strings.TrimSpace(problem.String()))
	}
	t.Fatal(err)
	return nil, 0, nil
}
