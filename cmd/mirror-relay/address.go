package main

import (
	"errors"
	"fmt"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	"tamizdat/internal/netreal"
	"tamizdat/mirror/relay"
)

type addressCmd struct {
	Channel []string `arg:"" optional:"" help:"The channel to carry, as the publisher names it (52 characters). Without it: pin and carried channels."`
	Pull    bool     `help:"Print the line for another relay, which then follows this one, instead of the publisher's." xor:"what"`
	Witness bool     `help:"Print the key by which this relay witnesses the channel, instead of the publisher's line." xor:"what"`
	Host    string   `help:"Name or address under which others reach this relay, with a port if it is not the relay's own." placeholder:"HOST[:PORT]"`
}

// Run prints what to hand to a publisher.
func (c *addressCmd) Run(e *env) error {
	var ch channel.ID
	// People copy it with spaces, and phones begin it with a capital.
	named := strings.ToLower(strings.Join(strings.Fields(strings.Join(c.Channel, " ")), ""))
	if named != "" {
		var err error
		if ch, err = channel.ParseID(named); err != nil {
			return fmt.Errorf("%w: %w (the publisher finds it with mirror-publish status)", cli.ErrUsage, err)
		}
	}
	file, err := relay.LoadConfig(e.dir)
	if err != nil {
		return err
	}
	if c.Host != "" {
		file.Host = c.Host
	}
	cfg := relay.Config{Dir: e.dir, Network: e.network, Listen: file.Listen, Also: file.Also, ECH: file.ECH, Host: file.Host, Log: e.log}
	cfg.Witness = file.Witness || relay.WasWitness(e.dir)
	r, err := relay.New(cfg)
	if err != nil {
		return err
	}
	if named == "" {
		fmt.Fprintf(e.out, "pin %s\n", r.Pin())
		for _, id := range r.Carried() {
			fmt.Fprintf(e.out, "carries %s\n", id)
		}
		fmt.Fprintln(e.err, "to carry a channel and get the line for its publisher: mirror-relay address CHANNEL-ID")
		return nil
	}
	self, isWitness := r.Witness(ch)
	if c.Witness {
		return printWitness(e, self, isWitness)
	}
	line := func() (fmt.Stringer, error) {
		if c.Pull {
			return r.PullLine(ch)
		}
		return r.Target(ch)
	}
	t, err := line()
	if errors.Is(err, relay.ErrNoHost) {
		// Guess: a server mostly has its public address on an interface.
		own := netreal.PublicAddrs()
		if len(own) == 0 {
			return fmt.Errorf("%w: say it with --host, or as host in %s", err, relay.ConfigFile)
		}
		cfg.Host = own[0].String()
		if r, err = relay.New(cfg); err != nil {
			return err
		}
		t, err = line()
		fmt.Fprintf(e.err, "others reach this machine at %s, it seems; if not, give --host\n", cfg.Host)
	}
	if errors.Is(err, relay.ErrNotCarried) {
		return fmt.Errorf("%w; carry it first, with mirror-relay address %s", err, ch)
	}
	if err != nil {
		return err
	}
	if !r.HasListened() {
		fmt.Fprintln(e.err, "the relay has not run yet, so the port in the line is a guess; run it once first if it may become another")
	}
	if c.Pull {
		fmt.Fprintln(e.err, "give this line to the other relay, for pull in its relay.toml, and to nobody else:")
		fmt.Fprintln(e.out, t)
		return nil
	}
	fmt.Fprintln(e.err, "give this line to the publisher, and to nobody else:")
	fmt.Fprintln(e.out, t)
	if isWitness {
		fmt.Fprintf(e.err, "this relay is a witness, too; its key, for the publisher's root note, is no secret:\n%s\n", self.VKey())
	}
	return printPeers(r, e.err)
}

// printWitness prints the key for a publisher's root note.
func printWitness(e *env, self channel.Witness, ok bool) error {
	if !ok {
		return errors.New("this relay is no witness; run it with --witness, or set witness = true in " + relay.ConfigFile)
	}
	fmt.Fprintln(e.err, "give this key to the publisher, for mirror-publish root witness; it is no secret:")
	fmt.Fprintln(e.out, self.VKey())
	return nil
}
