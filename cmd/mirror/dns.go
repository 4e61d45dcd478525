package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tamizdat/internal/cli"
	"tamizdat/mirror/reader"
	"tamizdat/transport/dns"
)

type dnsCmd struct {
	Scan   scanCmd   `cmd:"" help:"Try a list of DNS resolvers; those that work are asked from then on, beside the system's."`
	List   dnsList   `cmd:"" help:"List the resolvers that are known on this network, and what they carry."`
	Forget dnsForget `cmd:"" help:"Forget them."`
}

type scanCmd struct {
	File    string `arg:"" help:"File with one resolver a line, as --resolver takes them."`
	Channel string `help:"Channel whose news is asked for, by the first letters of its ID, if there are several." placeholder:"ID"`
}

// maxShown is how many of the resolvers that work a scan shows.
const maxShown = 16

// Run tries all of them.
func (c *scanCmd) Run(e *env) (err error) {
	list, err := readList(c.File)
	if err != nil {
		return err
	}
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	ch, err := r.Resolve(e.ctx, c.Channel)
	if err != nil {
		return err
	}
	began := time.Now()
	first := -1
	res, err := r.Scan(e.ctx, ch, list, func(s reader.ScanStep) {
		if first < 0 {
			first = s.Done - 1
		}
		e.meter.Stage(scanLine(s, s.Done-first, time.Since(began)), s.Total-s.Done)
	})
	e.meter.Done()
	for _, l := range res.Lines {
		fmt.Fprintf(e.err, "%s: %s\n", c.File, l)
	}
	if res.Wrong > 0 {
		fmt.Fprintf(e.err, "left out, since it is no resolver: %s\n", cli.Count(res.Wrong, "line"))
	}
	if res.Resumed > 0 {
		fmt.Fprintf(e.err, "went on after %d that had been tried before\n", res.Resumed)
	}
	if e.ctx.Err() != nil && res.Done < res.Total {
		return fmt.Errorf("stopped after %d of %d; the same command goes on from here", res.Done, res.Total)
	}
	if err != nil {
		return err
	}
	switch {
	case res.Total == 0:
		return errors.New("there is no resolver in this list; one stands on a line, as in 192.0.2.1 or tls://dns.example@192.0.2.1")
	case res.Good == 0:
		return fmt.Errorf("none of these %d resolvers brings the news; is this device on a network at all? mirror status", res.Total)
	}
	fmt.Fprintf(e.out, "%d of %d bring the news; on this network they are asked from now on, the best first\n", res.Good, res.Total)
	e.resolverList(res.Found[:min(len(res.Found), maxShown)])
	return nil
}

// scanLine is what a person reads meanwhile: tried of them now in so long a time.
func scanLine(s reader.ScanStep, tried int, took time.Duration) string {
	line := fmt.Sprintf("%d tried, %d work", s.Done, s.Good)
	if left := s.Total - s.Done; tried > 0 && left > 0 {
		rest := took / time.Duration(tried) * time.Duration(left)
		line += fmt.Sprintf(", about %s left", rest.Round(time.Second))
	}
	return line
}

// readList reads a list of a bounded size.
func readList(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, reader.MaxScanList+1))
	if err == nil && len(b) > reader.MaxScanList {
		err = fmt.Errorf("a list of more than %s is too long; split it", cli.Bytes(reader.MaxScanList))
	}
	return b, err
}

type dnsList struct{}

// Run shows them, without asking anybody.
func (c *dnsList) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	fs := r.Resolvers(e.ctx)
	if len(fs) == 0 {
		fmt.Fprintln(e.err, "none is known on this network so far; mirror sync gets to know the system's, mirror dns scan FILE others")
	}
	e.resolverList(fs)
	return nil
}

func (e *env) resolverList(fs []dns.Facts) {
	for _, f := range fs {
		fmt.Fprintf(e.out, "%s  %s\n", plain(f.Resolver), strings.Join(factWords(f), ", "))
	}
}

// factWords say what is known of a resolver.
func factWords(f dns.Facts) (words []string) {
	switch {
	case f.OK.IsZero():
		words = append(words, "does not answer")
	case !f.Small.IsZero():
		words = append(words, "small records only")
	case f.Size < f.Stream && f.Stream > 512:
		words = append(words, "large records over TCP only")
	case max(f.Size, f.Stream) > 512:
		words = append(words, "large records")
	default:
		words = append(words, "not known what it carries")
	}
	if f.RTT > 0 {
		words = append(words, fmt.Sprintf("%d ms", max(1, f.RTT.Milliseconds())))
	}
	if n := f.Good + f.Lost; n > 0 {
		words = append(words, fmt.Sprintf("%d of %d answered", f.Good, n))
	}
	if f.Name > 0 {
		words = append(words, fmt.Sprintf("names of %d characters", f.Name))
	}
	if f.Drops > 0 {
		words = append(words, fmt.Sprintf("none of %d", f.Drops))
	}
	if f.Rate > 1 {
		words = append(words, fmt.Sprintf("%d a second", f.Rate))
	}
	if f.Limit > 0 {
		words = append(words, fmt.Sprintf("asked %d at most, since it refused more", f.Limit))
	}
	if f.Recases {
		words = append(words, "changes letters")
	}
	if f.Found {
		words = append(words, "found by a scan")
	}
	return words
}

type dnsForget struct{}

// Run forgets them.
func (c *dnsForget) Run(e *env) (err error) {
	r, err := e.open(false)
	if err != nil {
		return err
	}
	defer cli.Close(r, &err)
	return r.ForgetResolvers(e.ctx)
}
