package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	wire "tamizdat/transport/relay"
)

// lines hands on what a command prints, line by line.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
	ch  chan string
}

func newLines() *lines { return &lines{ch: make(chan string, 100)} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(b)
	for _, s := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		l.ch <- s
	}
	return len(b), nil
}

// up starts a relay and returns what stops it and gives its exit code.
func up(t *testing.T, args ...string) (log *lines, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log = newLines()
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, &netreal.Network{}, io.Discard, log) }()
	for {
		select {
		case s := <-log.ch:
			if strings.HasPrefix(s, "for each publisher") {
				return log, func() int { cancel(); return <-code }
			}
		case c := <-code:
			t.Fatalf("ended with %d: %s", c, log.all.String())
		}
	}
}

func TestRunThenAddress(t *testing.T) {
	dir := t.TempDir()
	ch := channel.ID{1, 2, 3}.String()
	log, stop := up(t, "--dir", dir, "run", "--listen", "127.0.0.1:0", "--dns", "n.example.org", "--dns-listen", "127.0.0.1:0")
	if !strings.Contains(log.all.String(), "name server for n.example.org") {
		t.Error(log.all.String())
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--dir", dir, "address", ch}, &netreal.Network{}, &out, &errs); code != 0 {
		t.Fatalf("address: %d %s", code, errs.String())
	}
	tg, err := wire.ParseTarget(out.String())
	if err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	if tg.Host != "127.0.0.1" || tg.Port == 0 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("line %q", out.String())
	}
	// The same line as long as the data folder lives.
	if code := stop(); code != 0 {
		t.Fatalf("run ended with %d: %s", code, log.all.String())
	}
	var again bytes.Buffer
	if code := run(t.Context(), []string{"--dir", dir, "address", ch}, &netreal.Network{}, &again, &errs); code != 0 || again.String() != out.String() {
		t.Errorf("%d, %q then %q", code, out.String(), again.String())
	}
	again.Reset()
	if code := run(t.Context(), []string{"--dir", dir, "address"}, &netreal.Network{}, &again, &errs); code != 0 || !strings.Contains(again.String(), "carries "+ch) {
		t.Errorf("%d, %q", code, again.String())
	}
	// The line for another relay comes after the channel is carried, and is of use
	// in its settings.
	var pull bytes.Buffer
	if code := run(t.Context(), []string{"--dir", dir, "address", "--pull", ch}, &netreal.Network{}, &pull, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if p, err := wire.ParsePull(pull.String()); err != nil || p.Pin != tg.Pin || p.Channel.String() != ch {
		t.Errorf("%v: %q", err, pull.String())
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "relay.toml"), []byte("pull = [\""+strings.TrimSpace(pull.String())+"\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log2, stop2 := up(t, "--dir", other, "run", "--listen", "127.0.0.1:0")
	if code := stop2(); code != 0 {
		t.Error(log2.all.String())
	}
	for _, secret := range []string{out.String()[len(out.String())-44 : len(out.String())-1]} {
		if strings.Contains(log.all.String(), secret) {
			t.Error("a secret in the log")
		}
	}
}

func TestErrorsAreOneLineWithACode(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := t.TempDir()
	_, stop := up(t, "--dir", busy, "run", "--listen", "127.0.0.1:0")
	defer stop()
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "relay.toml"), []byte("lisen = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(broken, "relay.toml")
	wrongLine := t.TempDir()
	if err := os.WriteFile(filepath.Join(wrongLine, "relay.toml"), []byte("pull = [\"relay1:h:1/secret/secret/secret\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown command":    {[]string{"serve"}, 2, "--help"},
		"unknown flag":       {[]string{"run", "--lisen", "x"}, 2, "--help"},
		"no channel":         {[]string{"--dir", t.TempDir(), "address", "radio"}, 2, "52"},
		"port in use":        {[]string{"--dir", t.TempDir(), "run", "--listen", taken.Addr().String()}, 1, "--listen"},
		"unknown setting":    {[]string{"--dir", broken, "run"}, 1, "lisen"},
		"folder is a file":   {[]string{"--dir", file, "run"}, 1, "relay.toml"},
		"running already":    {[]string{"--dir", busy, "run", "--listen", "127.0.0.1:0"}, 1, "--dir"},
		"no such decoy":      {[]string{"--dir", t.TempDir(), "run", "--listen", "127.0.0.1:0", "--decoy", "/does/not/exist"}, 1, "decoy"},
		"a publisher's line": {[]string{"--dir", wrongLine, "run"}, 1, "--pull"},
		"pull, not carried":  {[]string{"--dir", t.TempDir(), "address", "--pull", channel.ID{9}.String(), "--host", "h"}, 1, "carry it first"},
		"zone is no name":    {[]string{"--dir", t.TempDir(), "run", "--listen", "127.0.0.1:0", "--dns", "a b", "--dns-listen", "127.0.0.1:0"}, 2, "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), c.args, &netreal.Network{}, &out, &errs)
			all := strings.Split(strings.TrimSpace(errs.String()), "\n")
			last := all[len(all)-1]
			if code != c.code || !strings.HasPrefix(last, "mirror-relay: ") || !strings.Contains(last, c.says) || out.Len() > 0 {
				t.Errorf("code %d, said %q", code, errs.String())
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {}, {"run", "--help"}, {"address", "--help"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &netreal.Network{}, &out, &errs); code != 0 || out.Len() < 200 || errs.Len() > 0 {
			t.Errorf("%q: code %d, %q %q", args, code, out.String(), errs.String())
		}
	}
}

// TestSettings: a setting that would do nothing, or harm, is told.
func TestSettings(t *testing.T) {
	for text, want := range map[string]string{
		"[[dns_secondary]]\nkey = \"k\"\n":                                                                    "set dns_zone",
		"dns_zone = \"n.example\"\n[[dns_secondary]]\nkey = \"k\"\n":                                          "dns_secondary, number 1",
		"dns_zone = \"n.example\"\ndns_ns = [\"ns.n.example=here\"]\n":                                        "NAME=ADDRESS",
		"dns_ns = [\"ns1.host.example\"]\n":                                                                   "set that as well",
		"dns_zone = \"n.example\"\n[[dns_zones]]\nname = \"m.n.example\"\n":                                   "one lies in another",
		"dns_zone = \"n.example\"\ndns_ns = [\"not a name\"]\n":                                               "name server",
		"dns_zone = \"n.example\"\n[[dns_secondary]]\nnotify = \"192.0.2.1\"\n[[dns_secondary]]\n":            "tsig-keygen",
		"dns_zone = \"n.example\"\n[[dns_secondary]]\nkey = \"k\"\nsecret = \"hidden, in the wrong place\"\n": "unknown setting",
		"month_gb = -3.0\n":                            "month_gb",
		"rate_mbit = 0.01\n":                           "the least is 0.1",
		"rate_mbit = nan\n":                            "rate_mbit",
		"dns_zone = \"n.example\"\nrate_mbit = 1e12\n": "rate_mbit",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "relay.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		code := run(t.Context(), []string{"--dir", dir, "run", "--listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0"}, &netreal.Network{}, io.Discard, &out)
		if code == 0 || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "hidden") {
			t.Errorf("%q: %d, %s", text, code, out.String())
		}
	}
}
