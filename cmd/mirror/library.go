package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/term"

	"tamizdat/mirror/library"
	"tamizdat/mirror/reader"
)

// defaultDir is where the library lives unless --dir says otherwise.
func defaultDir() string {
	if d, err := os.UserConfigDir(); err == nil {
		return filepath.Join(d, "mirror")
	}
	return "mirror-data"
}

// open opens the library, making it if create is set.
func (e *env) open(create bool) (*reader.Reader, error) {
	fresh := !library.Exists(e.c.Dir)
	if fresh && !create {
		return nil, reader.ErrNoChannel
	}
	pass, given, err := e.passphrase()
	if err != nil {
		return nil, err
	}
	if fresh && !given {
		if pass, err = e.newPassphrase(); err != nil {
			return nil, err
		}
	}
	r, err := e.openWith(pass)
	if errors.Is(err, library.ErrPassphrase) && !given {
		if pass, err = e.ask("Passphrase: "); err != nil {
			return nil, err
		}
		r, err = e.openWith(pass)
	}
	if errors.Is(err, library.ErrDamaged) {
		return nil, fmt.Errorf("%w; mirror wipe, then add your invite again: what is lost can be fetched anew", err)
	}
	if err == nil && fresh && len(pass) == 0 {
		fmt.Fprintln(e.err, "no passphrase: whoever has this device can read the library; see --passphrase-file")
	}
	return r, err
}

func (e *env) openWith(pass []byte) (*reader.Reader, error) {
	p := progress{meter: e.meter, out: e.err}
	return reader.Open(e.ctx, reader.Config{
		Dir: e.c.Dir, Passphrase: pass, Network: e.network, Resolvers: e.c.resolvers(), Hurry: e.c.Hurry, BitTorrent: e.c.dhtNodes(),
		TextOnly: e.c.TextOnly || e.data.Metered, Bytes: e.data.limit(), DayBytes: int64(e.data.LimitDay),
		Langs: e.langs.of(os.Getenv), Where: e.where, Log: e.log, Progress: p.heard,
	})
}

// maxPassphrase bounds what is read of a passphrase file.
const maxPassphrase = 4096

// passphrase reads the file that --passphrase-file names.
func (e *env) passphrase() (pass []byte, given bool, err error) {
	if e.c.Passphrase == "" {
		return nil, false, nil
	}
	f, err := os.Open(e.c.Passphrase)
	if err != nil {
		return nil, true, fmt.Errorf("--passphrase-file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
	if err != nil {
		return nil, true, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), true, nil
}

// newPassphrase asks for the passphrase of a new library. Without a terminal it
// is empty.
func (e *env) newPassphrase() ([]byte, error) {
	t, done := e.terminal()
	if t == nil {
		return nil, nil
	}
	done()
	fmt.Fprintln(e.err, "Choose a passphrase for this library. Without one, whoever has this device can read it. Enter leaves it empty.")
	first, err := e.ask("Passphrase: ")
	if err != nil || len(first) == 0 {
		return nil, err
	}
	second, err := e.ask("Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ; nothing was written")
	}
	return first, nil
}

// terminal is where to ask a person, nil if there is nobody; done gives it back.
// An invite that is piped in takes standard input: then it is the process's own
// terminal, provided that the question can be seen on standard error.
func (e *env) terminal() (t *os.File, done func()) {
	isTerminal := func(v any) (*os.File, bool) {
		f, ok := v.(*os.File)
		return f, ok && term.IsTerminal(int(f.Fd()))
	}
	if f, ok := isTerminal(e.in); ok {
		return f, func() {}
	}
	if _, ok := isTerminal(e.err); !ok {
		return nil, func() {}
	}
	name := "/dev/tty"
	if runtime.GOOS == "windows" {
		name = "CONIN$"
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, func() {}
	}
	if _, ok := isTerminal(f); !ok {
		_ = f.Close() // nothing was written
		return nil, func() {}
	}
	return f, func() { _ = f.Close() } // only read from
}

// ask reads one line without showing it.
func (e *env) ask(prompt string) ([]byte, error) {
	t, done := e.terminal()
	defer done()
	if t == nil {
		return nil, fmt.Errorf("%w; give it with --passphrase-file FILE", library.ErrPassphrase)
	}
	fmt.Fprint(e.err, prompt)
	defer fmt.Fprintln(e.err)
	return term.ReadPassword(int(t.Fd()))
}

// confirm asks a question on a terminal.
func (e *env) confirm(question string) bool {
	fmt.Fprint(e.err, question)
	line, err := bufio.NewReader(e.in).ReadString('\n')
	return err == nil && (line == "yes\n" || line == "yes\r\n")
}
