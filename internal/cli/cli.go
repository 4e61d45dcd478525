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
		fmt.Fprintf(a.Err, "%s: %s (see %s --help)\n", a.Name, OneLine(err), a.Name)
		return Wrong
	}
	if err := k.Run(env()); err != nil {
		fmt.Fprintf(a.Err, "%s: %s%s\n", a.Name, OneLine(err), Hint(err))
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
