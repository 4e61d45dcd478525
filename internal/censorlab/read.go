package censorlab

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/censor"
	"tamizdat/internal/safehtml"
	"tamizdat/internal/simnet"
	"tamizdat/mirror/library"
	"tamizdat/mirror/paths"
	"tamizdat/mirror/sync"
	"tamizdat/transport"
)

// Outcome is what one reader got out of one sync.
type Outcome struct {
	// Times since the start; 0: it never came.
	Head, Headlines, Text, Images time.Duration
	// By is the kind of way that delivered each of them.
	By map[string]string
	// Up and Down are bytes on the reader's line; Twice those of blocks that
	// came more than once, Junk what liars sent instead of blocks, Blocks those of
	// all blocks.
	Up, Down, Twice, Junk, Blocks int64
	// Size is that of the newest head held. Newest: the reader holds the newest edition. Fork: it has proof of
	// another history. Unreached: nobody answered.
	Size                    uint64
	Newest, Fork, Unreached bool
	// Censored is what the censor did to this reader.
	Censored int
	// Liars are the ways that were caught lying; Lies what the servers that may lie
	// did to this reader.
	Liars []string
	Lies  string
	// Err is the sync's own error, if any.
	Err error

	trace string // what the censor did, for a failure to print
}

// Reading says how to put a reader into a scenario. The zero value is a new
// reader who may use everything.
type Reading struct {
	Seed uint64
	// Only these kinds of way, nil for all; Without leaves some out.
	Only, Without []string
	// Honest leaves out the ways to servers that lie in the scenario.
	Honest bool
	// TextOnly leaves pictures out. Brief checks the titles of all headlines, and
	// the texts of the newest edition alone.
	TextOnly, Brief bool
	// Until, if "headlines", ends the sync when they are here.
	Until string
	// Limit bounds the sync; 0 means an hour.
	Limit time.Duration
	Trace func(censor.Event)
	// Paths, if not nil, changes what the reader's ways are made of.
	Paths func(*paths.Config)
}

// patient is how long anybody waits for the news.
const patient = time.Hour

// Reader is a reader who stays: library, network, censor.
type Reader struct {
	w      *World
	host   *simnet.Host // nil: somebody else's
	Censor *censor.Censor
	Lib    *library.Library
	set    *paths.Set
	events *atomic.Int64 // what the censor did
	r      Reading
	clock  atomic.Int64 // how far off the device's is, as a time.Duration
	far    censor.Far
	ch     channel.ID
	// Extra ways, beside those that the invite leads to.
	Extra []transport.Path
	// Left, if set, is what is left of the ways that a reader has: to see what
	// becomes of him without a counter-measure.
	Left func(places channel.Places, paths func(channel.Places) []transport.Path) []transport.Path
	// Progress, if set before a sync, hears of it.
	Progress func(sync.Progress)
}

// NewReader makes a reader who has just been given an invite.
func (w *World) NewReader(ctx context.Context, s censor.Scenario, r Reading) (*Reader, error) {
	host := w.seat(s)
	events := new(atomic.Int64)
	rd, err := w.readerOn(ctx, censor.New(host, Map(), s, r.Seed, func(e censor.Event) {
		events.Add(1)
		if r.Trace != nil {
			r.Trace(e)
		}
	}), r, s.Clock)
	if err != nil {
		return nil, err
	}
	rd.host, rd.events, rd.far = host, events, s.Far
	return rd, nil
}

// readerOn is the same on a network that is there already.
func (w *World) readerOn(ctx context.Context, network *censor.Censor, r Reading, clock time.Duration) (*Reader, error) {
	rd := &Reader{w: w, events: new(atomic.Int64), Censor: network, r: r, ch: w.pub.Channel()}
	rd.clock.Store(int64(clock))
	inv, err := w.Invite()
	if err != nil {
		return nil, err
	}
	if r.Only != nil { // an invite has no room for all; this reader's leads to the one way
		cfg := w.pub.Config()
		inv.Places.Peers, inv.Places.Gateways = cfg.Peers[:1], cfg.Gateways
		inv.Places.Relays = slices.DeleteFunc(inv.Places.Relays, func(p channel.Relay) bool {
			return p.Host == nameCDN && !slices.Contains(r.Only, WayCDN)
		})
	}
	if rd.Lib, err = library.Memory(ctx, nil); err != nil {
		return nil, err
	}
	rd.connect()
	_, err = sync.Add(ctx, rd.Lib, inv)
	return rd, err
}

// connect makes new paths, as a program that starts does.
func (r *Reader) connect() {
	cfg := paths.Config{
		Network: r.Censor, Resolvers: []string{netip.AddrPortFrom(addrResolver, 53).String()},
		Now: r.now, Roots: r.w.ca.pool,
	}
	if r.r.Paths != nil {
		r.r.Paths(&cfg)
	}
	r.set = paths.New(cfg)
}

// now is the time on the reader's device.
func (r *Reader) now() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }

// Set puts the reader into another scenario, also while a sync lasts.
func (r *Reader) Set(s censor.Scenario) {
	r.clock.Store(int64(s.Clock))
	r.far = s.Far
	r.host.SetLink(line(s))
	r.Censor.Set(s)
}

// Close ends the reader's program and takes the device off the net.
func (r *Reader) Close() error {
	var errs []error
	if r.set != nil {
		errs = append(errs, r.set.Close())
	}
	errs = append(errs, r.Lib.Close())
	if r.host != nil {
		r.w.Net.Remove(r.host)
	}
	return errors.Join(errs...)
}

// Restart closes all connections and forgets what the program had in memory.
func (r *Reader) Restart() error {
	err := r.set.Close()
	r.connect()
	return err
}

// Paths implements sync.Ways: those of the set that the reading allows.
func (r *Reader) Paths(ch channel.ID, ipns ed25519.PublicKey, places channel.Places) []transport.Path {
	known := func(places channel.Places) []transport.Path { return r.set.Paths(ch, ipns, places) }
	all := known
	if r.Left != nil {
		all = func(places channel.Places) []transport.Path { return r.Left(places, known) }
	}
	return slices.DeleteFunc(append(all(places), r.Extra...), func(p transport.Path) bool {
		way := Way(p.Name, p.Kind)
		return r.r.Only != nil && !slices.Contains(r.r.Only, way) || slices.Contains(r.r.Without, way) ||
			r.r.Honest && lies(r.far, p)
	})
}

// lies reports whether a path leads to a server that lies.
func lies(f censor.Far, p transport.Path) bool {
	switch p.Kind {
	case transport.KindGateway, transport.KindIPFS:
		return len(f.Peer) > 0
	default:
		return len(f.Relay) > 0 && strings.Contains(p.Name, addrRelayB.String())
	}
}

// WayCDN is a kind of way, as scenarios and the scorecard tell them apart: a
// relay behind a CDN is a relay, but it is blocked by other means.
const WayCDN = "cdn"

// Ways are all kinds of way that a reader of a World has.
var Ways = []string{transport.KindQUIC, transport.KindTCP, WayCDN, transport.KindGateway, transport.KindIPFS, transport.KindDNS}

// Way returns the kind of way of a path.
func Way(name, kind string) string {
	if strings.Contains(name, nameCDN) {
		return WayCDN
	}
	return kind
}

// Sync lets the reader sync once, and checks everything that is shown.
func (r *Reader) Sync(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.r.Limit, patient))
	defer cancel()
	up, down := r.Censor.Bytes()
	r.events.Store(0)
	e := sync.Engine{
		Library: r.Lib, Ways: r, Now: r.now, Network: "lab", Budget: sync.Budget{TextOnly: r.r.TextOnly},
		Progress: func(p sync.Progress) {
			if r.r.Until == "headlines" && p.Stage == "text" {
				cancel()
			}
			if r.Progress != nil {
				r.Progress(p)
			}
		},
	}
	res, err := e.Sync(ctx, r.ch)
	o := r.outcome(res, err)
	o.Up, o.Down = r.Censor.Bytes()
	o.Up, o.Down = o.Up-up, o.Down-down
	o.Censored, o.Lies = int(r.events.Load()), r.w.evil.telling()
	return o, r.verify(context.WithoutCancel(ctx), o)
}

func (r *Reader) outcome(res *sync.Result, err error) Outcome {
	o := Outcome{
		Head: res.ToHead, Headlines: res.ToHeadlines, Text: res.ToText, Images: res.ToImages,
		By: map[string]string{}, Twice: res.Twice, Junk: res.Junk, Blocks: res.Bytes, Fork: res.Fork, Unreached: res.Unreached, Err: err,
	}
	kinds := map[string]string{}
	for _, p := range res.Paths {
		kinds[p.Name] = Way(p.Name, p.Kind)
		if p.State == "lied" {
			o.Liars = append(o.Liars, p.Name)
		}
	}
	for stage, name := range res.Delivered {
		o.By[stage] = kinds[name]
	}
	if res.Head != nil {
		o.Size = res.Head.Size
	}
	o.Newest = o.Size >= r.w.Size()
	return o
}

// ErrFalse: a reader was shown something that was never published.
var ErrFalse = errors.New("something false was shown")

// verify compares whatever the reader can see with what was published, and what
// the outcome claims with what is there.
func (r *Reader) verify(ctx context.Context, o Outcome) error {
	shelf := sync.Shelf{Library: r.Lib}
	view, err := sync.View(ctx, r.Lib, r.ch)
	if err != nil {
		return err
	}
	alarmed := len(view.Evidence()) > 0
	seen := 0
	for h, err := range r.Lib.Headlines(ctx, library.Query{Channel: r.ch}) {
		if err != nil {
			return err
		}
		want, ok := r.w.article(h.ID)
		if other, signed := r.w.coerced[h.ID]; signed && (alarmed || r.r.Until != "") {
			// Signed by the channel's keys, and shown with the alarm that somebody is
			// told something else: a new reader can't know which of two is the true one.
			// (A sync that ends with the first headlines has not heard of the other.)
			want, ok = other, true
		}
		if !ok || h.Title != want.Title || h.Lead != want.Lead {
			return fmt.Errorf("%w: headline %s", ErrFalse, h.ID)
		}
		seen++
		if !h.Text {
			if o.Newest && o.Text > 0 {
				return fmt.Errorf("the text of %s is said to be here and is not", h.ID)
			}
			continue
		}
		if r.r.Brief && h.Edition+1 < o.Size {
			continue
		}
		a, err := shelf.Article(ctx, r.ch, h.ID)
		if err != nil {
			return fmt.Errorf("article %s: %w", h.ID, err)
		}
		if a.Title != want.Title || a.Body != safehtml.Sanitize(want.Body) {
			return fmt.Errorf("%w: article %s", ErrFalse, h.ID)
		}
		for i := range want.Images {
			if o.Images == 0 {
				break
			}
			img, err := shelf.Image(ctx, r.ch, h.ID, i)
			if err != nil {
				return fmt.Errorf("image of %s: %w", h.ID, err)
			}
			if string(img.Data) != string(want.Images[i].Data) {
				return fmt.Errorf("%w: image of %s", ErrFalse, h.ID)
			}
		}
	}
	if o.Headlines > 0 && seen == 0 {
		return errors.New("headlines are said to be here and are not")
	}
	return nil
}

// Read puts a new reader into a scenario and lets it sync once.
func (w *World) Read(ctx context.Context, s censor.Scenario, r Reading) (o Outcome, err error) {
	if err := w.evil.set(s.Far, r.Seed); err != nil {
		return o, err
	}
	w.cache.forget()
	rd, err := w.NewReader(ctx, s, r)
	if err != nil {
		return o, err
	}
	o, err = rd.Sync(ctx)
	return o, errors.Join(err, rd.Close())
}

// Declared are the ways that a scenario says it leaves open.
func Declared(s censor.Scenario) []string {
	of := map[censor.Way]string{
		censor.ViaQUIC: transport.KindQUIC, censor.ViaTCP: transport.KindTCP, censor.ViaCDNQUIC: WayCDN, censor.ViaCDNTCP: WayCDN,
		censor.ViaGateway: transport.KindGateway, censor.ViaIPFSQUIC: transport.KindIPFS, censor.ViaIPFSTCP: transport.KindIPFS,
		censor.ViaDNSUDP: transport.KindDNS, censor.ViaDNSTCP: transport.KindDNS,
	}
	var out []string
	for _, w := range s.Open {
		if way := of[w]; way != "" && !slices.Contains(out, way) {
			out = append(out, way)
		}
	}
	return out
}
