// Package cli is what the three commands share around their subcommands: flag
// parsing, signals, exit codes, and progress for people.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes of all commands.
const (
	OK     = 0
	Failed = 1
	Wrong  = 2 // called wrongly
)

// ErrUsage is wrapped by errors that a better command line would avoid; they
// make the exit code Wrong.
var ErrUsage = errors.New("wrong usage")

// Usage is an error of that kind, without the words.
func Usage(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

type usageError struct{ error }

func (e *usageError) Unwrap() []error { return []error{e.error, ErrUsage} }

// Main runs f with a context that ends on an interrupt or SIGTERM.
func Main(f func(context.Context) int) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return f(ctx)
}

// App describes one command.
type App struct {
	Name, Description string
	// Commands is a pointer to kong's struct of flags and subcommands.
	Commands any
	Vars     map[string]string
	Args     []string
	Out, Err io.Writer
}

// Run parses the arguments and runs the subcommand with what env returns. An
// error is one line on Err; the exit code is returned.
func Run(a App, env func() any) int {
	code := -1
	vars := kong.Vars{}
	for k, v := range a.Vars {
		vars[k] = v
	}
	parser, err := kong.New(a.Commands, kong.Name(a.Name), kong.Description(a.Description), vars,
		kong.Writers(a.Out, a.Err), kong.Exit(func(n int) { code = n }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintf(a.Err, "%s: %v\n", a.Name, err)
		return Failed
	}
	args := a.Args
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if code >= 0 { // --help has printed what it was asked for
		return code
	}
	if err != nil {
		fmt.Fprintf(a.Err, "%s: %s (see %s --help)\n", a.Name, hush(OneLine(err), args), a.Name)
		return Wrong
	}
	if err := k.Run(env()); err != nil {
		fmt.Fprintf(a.Err, "%s: %s%s\n", a.Name, said(err), Hint(err))
		if errors.Is(err, ErrUsage) {
			return Wrong
		}
		return Failed
	}
	return OK
}

// Close closes c and keeps its error if there was none before: for a deferred
// call in a function with a named error.
func Close(c io.Closer, err *error) {
	if e := c.Close(); *err == nil {
		*err = e
	}
}

// OneLine is an error's message on one line.
func OneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// maxEcho is the longest argument that a complaint repeats, in bytes: an invite
// or a relay's line in the wrong place is a secret still.
const maxEcho = 40

// hush takes what may be a secret out of a complaint about the arguments.
func hush(msg string, args []string) string {
	for _, a := range args {
		if len(a) > maxEcho || strings.HasPrefix(strings.ToUpper(a), "TAMIZDAT:") {
			msg = strings.ReplaceAll(msg, a, "…")
		}
	}
	return msg
}

// Count writes a number of things: "1 article", "2 articles".
func Count[N int | int64 | uint64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Bytes writes a size for people: "12.3 kB".
func Bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/unit, "kMGT"
	for f >= unit && len(units) > 1 {
		f, units = f/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, units[0])
}
