// Command mirror-relay turns a server into a relay: one command, no
// configuration, nothing to be blamed for.
//
//	mirror-relay run                  serve, with everything at its default
//	mirror-relay address CHANNEL-ID   carry a channel; prints the line for its publisher
//
// Exit codes: 0 all is well, 1 it failed, 2 it was called wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	common "tamizdat/internal/cli"
	"tamizdat/internal/netreal"
	"tamizdat/internal/redact"
	"tamizdat/transport"
)

const description = `A relay for news that is blocked where its readers are.

To everyone else it is an ordinary website. It carries what publishers push, and can't read it.

Exit codes: 0 all is well, 1 it failed, 2 it was called wrongly.`

type cli struct {
	Dir     string     `help:"Data folder: settings, secrets, editions." default:"${dir}" env:"MIRROR_RELAY_DIR" placeholder:"DIR"`
	Run     runCmd     `cmd:"" help:"Serve until stopped. On first start it writes its settings, keys and certificate."`
	Address addressCmd `cmd:"" help:"Carry a channel, and print the line that its publisher needs."`
}

// env is what commands get from main.
type env struct {
	dir     string
	network transport.Network
	out     io.Writer
	err     io.Writer
	log     *slog.Logger
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], &netreal.Network{}, os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(ctx context.Context, args []string, network transport.Network, stdout, stderr io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c, kong.Name("mirror-relay"), kong.Description(description), kong.Vars{"dir": defaultDir()},
		kong.Writers(stdout, stderr), kong.Exit(func(n int) { code = n }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintf(stderr, "mirror-relay: %v\n", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if code >= 0 { // --help has printed what it was asked for
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "mirror-relay: %v (see mirror-relay --help)\n", err)
		return 2
	}
	e := &env{dir: c.Dir, network: network, out: stdout, err: stderr, log: slog.New(redact.Handler(slog.NewTextHandler(stderr, nil)))}
	switch err := k.Run(e); {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "mirror-relay: %s\n", common.OneLine(err))
		return common.Wrong
	default:
		fmt.Fprintf(stderr, "mirror-relay: %s%s\n", common.OneLine(err), common.Hint(err))
		return common.Failed
	}
}

// errUsage is wrapped by errors that a better command line would avoid.
var errUsage = errors.New("wrong usage")
