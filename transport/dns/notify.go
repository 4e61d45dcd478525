package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/transport"
)

const (
	// notifyTries is how often a server is told of a version, notifyWait how long
	// the first try waits for its answer; each waits twice as long as the one
	// before (RFC 1996 section 3.6). After that its own refresh has to do, or the
	// next version.
	notifyTries = 6
	notifyWait  = time.Second
)

// Secondary is a name server that is told of new versions.
type Secondary struct {
	// Addr is where it listens, "host:port".
	Addr string
	// Key signs what it is told.
	Key *Key
	// Zones are those that it holds; empty for all.
	Zones []string
}

func (s Secondary) holds(zone string) bool {
	return len(s.Zones) == 0 || slices.ContainsFunc(s.Zones, func(name string) bool {
		return lowerASCII(strings.TrimSuffix(name, ".")) == zone
	})
}

// Notify tells the secondaries, until ctx ends, when a zone has something new;
// at first that there is a server again. Only for a Versioned store. It logs, by
// its number, a secondary that doesn't answer.
func (s *Server) Notify(ctx context.Context, nw transport.Network, secondaries []Secondary) {
	var wg sync.WaitGroup
	for _, z := range s.zones {
		if z.versions == nil {
			continue
		}
		for i, to := range secondaries {
			if to.holds(z.name) {
				wg.Go(func() { s.notifyOne(ctx, nw, z, i+1, to) })
			}
		}
	}
	wg.Wait()
}

func (s *Server) notifyOne(ctx context.Context, nw transport.Network, z *zone, number int, to Secondary) {
	for ctx.Err() == nil {
		serial, newer := z.versions.Version()
		// A newer version ends the telling of this one.
		round, cancel := context.WithCancel(ctx)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			select {
			case <-newer:
				cancel()
			case <-round.Done():
			}
		}()
		err := notify(round, nw, z, serial, to)
		if err != nil && round.Err() == nil {
			s.log.Warn("name server did not take the news of a new version", "secondary", number, "err", err)
		}
		cancel()
		<-stop
		select {
		case <-newer:
		case <-ctx.Done():
		}
	}
}

// notify tells one server of one version, until it has answered.
func notify(ctx context.Context, nw transport.Network, z *zone, serial uint32, to Secondary) (err error) {
	wait := notifyWait
	for range notifyTries {
		try, cancel := context.WithTimeout(ctx, wait)
		if err = notifyOnce(try, nw, z, serial, to); err != nil {
			<-try.Done() // not to be asked at once again
		}
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		wait *= 2
	}
	return err
}

func notifyOnce(ctx context.Context, nw transport.Network, z *zone, serial uint32, to Secondary) error {
	m := new(mdns.Msg).SetNotify(z.name + ".")
	m.Answer = []mdns.RR{z.soaRR(serial)}
	raw, mac, err := to.Key.sign(m, "", false)
	if err != nil {
		return err
	}
	conn, err := nw.Dial(ctx, "udp", to.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return errors.New("no answer")
			}
			return err
		}
		resp := new(mdns.Msg)
		if resp.Unpack(buf[:n]) != nil || resp.Id != m.Id || !resp.Response || resp.Opcode != mdns.OpcodeNotify {
			continue // not ours
		}
		if resp.Rcode != mdns.RcodeSuccess {
			return fmt.Errorf("it answered %s", mdns.RcodeToString[resp.Rcode])
		}
		if _, err := to.Key.verify(buf[:n], resp, mac); err != nil {
			continue // anybody could say so
		}
		return nil
	}
}
