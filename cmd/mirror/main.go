// Command mirror reads news that is blocked where you are: add an invite, and
// today's news is there, over whatever way is open.
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

const description = `Read news that is blocked where you are. You need an invite from a publisher or a friend.

Begin with: mirror add INVITE, then mirror open

Exit codes: 0 all is well, 1 it failed, 2 it was called wrongly.`

type commands struct {
	Dir        string     `help:"Folder of the library (default: ${dir})." default:"${dir}" placeholder:"DIR" type:"path"`
	Passphrase string     `help:"File whose first line is the library's passphrase. Without it you are asked, if there is one." name:"passphrase-file" placeholder:"FILE" type:"path"`
	Resolver   []resolver `help:"DNS resolver to use instead of the system's: ADDRESS, tcp://ADDRESS, tls://NAME@ADDRESS (DoT), https://NAME/PATH@ADDRESS (DoH), a DNS stamp, or public for some well-known ones." placeholder:"RESOLVER"`
	Hurry      bool       `help:"Ask DNS as fast as it answers; this stands out."`
	BitTorrent []dhtNode  `help:"Look for the newest edition on BitTorrent's DHT as well, beginning with this node; may be repeated. Strangers there see your address and which channel you read." name:"bittorrent" placeholder:"HOST:PORT"`
	TextOnly   bool       `help:"Fetch no images." name:"text-only"`
	Verbose    bool       `help:"Say what goes on." short:"v"`

	Add    addCmd    `cmd:"" help:"Follow a channel: an invite, or a file that holds one."`
	Sync   syncCmd   `cmd:"" help:"Fetch what is new."`
	List   listCmd   `cmd:"" help:"List headlines."`
	Read   readCmd   `cmd:"" help:"Print an article."`
	Open   openCmd   `cmd:"" help:"Serve the reader's page on this device and print its address."`
	Export exportCmd `cmd:"" help:"Write the newest edition to a file, for a friend with an invite."`
	Import importCmd `cmd:"" help:"Take in an edition from a file or a folder of them."`
	DNS    dnsCmd    `cmd:"" name:"dns" help:"Find DNS resolvers that bring the news."`
	Status statusCmd `cmd:"" help:"Show channels, how fresh the news is, and which ways work."`
	Proof  proofCmd  `cmd:"" help:"Write the proof that a channel shows different readers different news, or check one."`
	Wipe   wipeCmd   `cmd:"" help:"Destroy the library on this device, at once."`
	Demo   demoCmd   `cmd:"" help:"Try all of it in one process on this machine."`
}

// env is what commands get from main.
type env struct {
	ctx     context.Context
	c       *commands
	network transport.Network
	// where tells networks apart; see reader.Config.
	where func() string
	// data bounds what a command fetches, langs come first of it, meter shows it.
	data  dataFlags
	langs langFlags
	meter *cli.Meter
	in    io.Reader
	out   io.Writer
	err   io.Writer
	log   *slog.Logger
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
		Name: "mirror", Description: description, Commands: &c, Args: args, Out: out, Err: errOut,
		Vars: map[string]string{"dir": defaultDir()},
	}, func() any {
		level := slog.LevelError
		if c.Verbose {
			level = slog.LevelInfo
		}
		log := slog.New(redact.Handler(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level})))
		return &env{ctx: ctx, c: &c, network: network, where: netreal.Gateway, meter: cli.NewMeter(errOut), in: in, out: out, err: errOut, log: log}
	})
}
