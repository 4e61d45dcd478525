package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/library"
	"tamizdat/mirror/reader"
	"tamizdat/mirror/web"
)

type openCmd struct {
	Listen string        `help:"Loopback address of the page." default:"127.0.0.1:0" placeholder:"127.0.0.1:PORT"`
	Every  time.Duration `help:"About how often to look for news; 0 only at the start and when you ask. On a battery or with --metered at most every 3 hours, or 10 minutes after nobody could be reached." default:"30m"`
	dataFlags
	langFlags
}

// Run serves the page until it is interrupted.
func (c *openCmd) Run(e *env) (err error) {
	if err := e.limits(c.dataFlags, c.langFlags); err != nil {
		return err
	}
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	s, err := web.New(web.Options{Library: r.Library(), Engine: r.Engine(e.ctx), Logger: e.log})
	if err != nil {
		return err
	}
	ln, err := listenLoopback(e, c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, s.URL(ln.Addr()))
	fmt.Fprintln(e.err, "open this address in a browser on this device; Ctrl-C ends it")
	ctx, stop := context.WithCancel(e.ctx)
	var keep sync.WaitGroup
	keep.Go(func() {
		r.Keep(ctx, reader.Pace{Every: c.Every, Saving: func() bool { return c.Metered || reader.OnBattery() }})
	})
	defer keep.Wait() // before the library is closed
	defer stop()
	return s.Serve(ctx, ln)
}

// listenLoopback refuses to show the page to the network.
func listenLoopback(e *env, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if err != nil || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return nil, cli.Usage("the page is for this device only: --listen 127.0.0.1:PORT")
	}
	ln, err := e.network.Listen(e.ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w (is the port in use? leave --listen out and any free one is taken)", err)
	}
	return ln, nil
}

// wipe destroys the library, asking first on a terminal.
func wipe(e *env, yes bool) error {
	if !library.Exists(e.c.Dir) {
		return errors.New("there is no library in " + e.c.Dir)
	}
	if !yes && !e.confirm("Everything this reader holds is destroyed for good. Type yes: ") {
		return errors.New("nothing was destroyed; use --yes to destroy without asking")
	}
	if err := library.Wipe(e.c.Dir); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "the library is destroyed; files you exported are not")
	return nil
}
