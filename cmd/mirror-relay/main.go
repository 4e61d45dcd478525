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
	"io"
	"log/slog"
	"os"

	"tamizdat/internal/cli"
	"tamizdat/internal/netreal"
	"tamizdat/internal/redact"
	"tamizdat/transport"
)

const description = `A relay for news that is blocked where its readers are.

To everyone else it is an ordinary website. It carries what publishers push, and can't read it.

Exit codes: 0 all is well, 1 it failed, 2 it was called wrongly.`

type commands struct {
	Dir     string     `help:"Data folder: settings, secrets, editions (default: ${dir})." default:"${dir}" env:"MIRROR_RELAY_DIR" placeholder:"DIR"`
	Run     runCmd     `cmd:"" help:"Serve until stopped. On first start it writes its settings, keys and certificate."`
	Address addressCmd `cmd:"" help:"Carry a channel, and print the line that its publisher needs."`
}

// env is what commands get from main.
type env struct {
	ctx     context.Context
	dir     string
	network transport.Network
	out     io.Writer
	err     io.Writer
	log     *slog.Logger
}

func main() {
	os.Exit(cli.Main(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], &netreal.Network{}, os.Stdout, os.Stderr)
	}))
}

// run is main without the process around it.
func run(ctx context.Context, args []string, network transport.Network, out, errOut io.Writer) int {
	var c commands
	return cli.Run(cli.App{
		Name: "mirror-relay", Description: description, Commands: &c, Args: args, Out: out, Err: errOut,
		Vars: map[string]string{"dir": defaultDir()},
	}, func() any {
		return &env{
			ctx: ctx, dir: c.Dir, network: network, out: out, err: errOut,
			log: slog.New(redact.Handler(slog.NewTextHandler(errOut, nil))),
		}
	})
}
