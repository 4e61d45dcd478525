package censorlab

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"tamizdat/internal/censor"
	dnspath "tamizdat/transport/dns"
)

// Model is one of the ways in which people get blocked news today, modelled:
// its round trips, packets and bytes are played on the same net against the
// same censor, by a small program of the lab and not by the real one. Each is
// given its best case: one server that is up, nothing else to load, headlines,
// texts and pictures of the same size as ours, and the patience to try again
// as the real one and whoever sits before it would, within the same hour.
type Model struct {
	// Name is for the table, Says what exactly is modelled.
	Name, Says string
	// censored is what the censor has found out of it.
	censored func(m *censor.Map)
	read     func(ctx context.Context, m *modelled) error
}

// Models are the stand-ins of the scorecard.
func Models() []Model {
	return []Model{
		{
			Name: "mirror site",
			Says: "one HTTPS mirror of the news site in a browser: name looked up at the ISP's resolver, TLS over TCP, a page of headlines, one of texts, pictures at once; " +
				"what fails is loaded again after 1, 5, 30 seconds, 1, 5, 10 and 30 minutes, what stands still for half a minute at once",
			censored: func(m *censor.Map) {
				m.Relays = append([]netip.AddrPort{netip.AddrPortFrom(addrMirror, 443)}, m.Relays...)
			},
			read: readSite,
		},
		{
			Name:     "IPNS over IPFS",
			Says:     "an IPFS node that finds the IPNS record and a provider in the DHT (a bootstrap node, then three hops, twice; QUIC, a quarter of a second later TCP as well; each hop up to five times), then fetches from the one provider",
			censored: func(*censor.Map) {},
			read:     readIPNS,
		},
		{
			Name:     "DNS tunnel",
			Says:     "a tunnel through the ISP's resolver: 130 bytes up and 900 down a query, or 30 and 225 in letters if that does not pass, 32 queries in flight, four round trips of handshakes; what does not come back whole is asked for again every second, for five minutes",
			censored: func(*censor.Map) {},
			read:     readTunnel,
		},
	}
}

// modelled is one run of a model.
type modelled struct {
	w       *World
	network *censor.Censor
	clock   time.Duration
	start   time.Time
	o       *Outcome
}

// Model puts a new reader who has only that into a scenario.
func (w *World) Model(ctx context.Context, m Model, s censor.Scenario, r Reading) (Outcome, error) {
	if err := w.evil.set(s.Far, r.Seed); err != nil {
		return Outcome{}, err
	}
	w.cache.forget()
	host := w.seat(s)
	defer w.Net.Remove(host)
	known := Map()
	m.censored(&known)
	o := Outcome{By: map[string]string{}}
	run := &modelled{w: w, network: censor.New(host, known, s, r.Seed, r.Trace), clock: s.Clock, start: time.Now(), o: &o}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Limit, patient))
	defer cancel()
	o.Err = m.read(ctx, run)
	o.Up, o.Down = run.network.Bytes()
	return o, nil
}

func (m *modelled) since() time.Duration { return time.Since(m.start) }

// models starts the stand-ins' servers.
func (w *World) models(ctx context.Context) error {
	if err := w.site(ctx, w.host("mirror", addrMirror), nameMirror, addrMirror, w.mirrorSite()); err != nil {
		return err
	}
	if err := w.dht(ctx); err != nil {
		return err
	}
	pc, ln, err := dnspath.Listen(ctx, w.host("tunnel", addrTunnel), netip.AddrPortFrom(addrTunnel, 53).String())
	if err != nil {
		return err
	}
	w.closers = append(w.closers, pc, ln)
	go tunnelServer(pc)
	return nil
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sizes are what the newest edition's parts take.
func (w *World) sizes() (front, text, image int) {
	s := w.pub.EditionSizes(w.pub.Size() - 1)
	return int(s["front"]), int(s["text"]), int(s["media"])
}
