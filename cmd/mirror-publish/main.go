// Command mirror-publish packs articles into signed, encrypted editions and
// pushes them to every target.
//
// Exit codes: 0 all is well, 1 it failed (or a target did), 2 it was called wrongly.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"tamizdat/internal/cli"
	"tamizdat/internal/netreal"
	"tamizdat/internal/redact"
	"tamizdat/mirror/publisher"
	"tamizdat/transport"
)

const description = `Pack articles into signed, encrypted editions and push them to relays, sticks and DNS.

Begin with: mirror-publish init --name "Radio Example" --lang ru,en

Exit codes: 0 all is well, 1 it failed, 2 it was called wrongly.`

type commands struct {
	Dir string `help:"The channel's folder (default: this folder if it holds publisher.toml, else ${dir})." placeholder:"DIR" type:"path"`

	Init   initCmd   `cmd:"" help:"Make a channel: keys, first root note, publisher.toml."`
	Pack   packCmd   `cmd:"" help:"Pack what is new in folders, files and feeds into one edition."`
	Push   pushCmd   `cmd:"" help:"Send what is missing to every target at once."`
	Invite inviteCmd `cmd:"" help:"Print the invite that makes someone a reader."`
	Revoke revokeCmd `cmd:"" help:"Take a batch of invites back: nothing that is packed later opens with them."`
	Target relayCmd  `cmd:"" help:"Add a relay, whose line comes from standard input, or a static mirror."`
	Zone   zoneCmd   `cmd:"" help:"Print the DNS zone file of what is published."`
	Export exportCmd `cmd:"" help:"Write the newest edition as one file, for a stick."`
	Root   rootCmd   `cmd:"" help:"Root keys: those that say which other keys hold."`
	Dict   dictCmd   `cmd:"" help:"The dictionary that makes texts smaller."`
	Status statusCmd `cmd:"" help:"Show editions, sizes, and what each target holds."`

	List    listCmd    `cmd:"" help:"List the articles that were packed, with their IDs."`
	Retract retractCmd `cmd:"" help:"Take articles back: readers delete them when they next look for news."`
	Recover recoverCmd `cmd:"" help:"Bring a folder that was restored from a backup up to what its targets hold."`
}

// env is what commands get from main.
type env struct {
	ctx     context.Context
	dir     string
	network transport.Network
	in      io.Reader
	out     io.Writer
	err     io.Writer
	log     *slog.Logger
}

func main() {
	os.Exit(cli.Main(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], &netreal.Network{}, os.Stdin, os.Stdout, os.Stderr)
	}))
}

// run is main without the process around it.
func run(ctx context.Context, args []string, network transport.Network, in io.Reader, out, errOut io.Writer) int {
	var c commands
	return cli.Run(cli.App{
		Name: "mirror-publish", Description: description, Commands: &c, Args: args, Out: out, Err: errOut,
		Vars: map[string]string{"dir": defaultDir()},
	}, func() any {
		log := slog.New(redact.Handler(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn})))
		return &env{ctx: ctx, dir: chooseDir(c.Dir), network: network, in: in, out: out, err: errOut, log: log}
	})
}

// open opens the channel's folder.
func (e *env) open() (*publisher.Publisher, error) { return publisher.Open(e.dir) }
