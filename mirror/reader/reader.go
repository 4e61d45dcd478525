// Package reader is the reader's program without its command line: library,
// engine, paths and page, wired.
//
// cmd/mirror and the demo both use it. A [Reader] follows the channels in its
// library, syncs them, and answers what people ask: headlines, articles, how
// old the news is and which paths work. run.go syncs, schedule.go says when,
// budget.go how much, network.go tells networks apart, sessions.go keeps what
// saves a round trip the next time, scan.go finds DNS resolvers; files.go is what needs no
// network, page.go and fresh.go what the page shows.
package reader

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/mirror/paths"
	newsync "tamizdat/mirror/sync"
	"tamizdat/mirror/web"
	"tamizdat/transport"
)

// Config says how to open a reader. Dir (or Library) and
// Network are required; the zero value
// of the rest sets no limit and uses the system's clock and roots.
type Config struct {
	// Dir is the library's folder.
	Dir string
	// Library, if not nil, is used instead of the one in Dir. Close closes it.
	Library *library.Library
	// Passphrase opens it; see library.Options.
	Passphrase []byte
	Network    transport.Network
	// Resolvers and Hurry are for DNS; see paths.Config.
	Resolvers []string
	Hurry     bool
	// BitTorrent are nodes of its DHT; see paths.Config.
	BitTorrent []string
	// Extra paths are offered for every channel.
	Extra []transport.Path
	// TextOnly leaves images out.
	TextOnly bool
	// Bytes is the most that one sync of one channel may receive, DayBytes the most
	// that all syncs of a day (by the device's calendar) may; 0 means no limit. What
	// a day has cost is kept in the library. With DayBytes it is noted before it comes,
	// so that a program that is killed has not spent more; what is noted too much then
	// is what had been asked for and about a sixteenth of what was left. Files cost
	// nothing.
	Bytes, DayBytes int64
	// Langs are the reader's languages, BCP 47: their texts come first.
	Langs []string
	// Now is the clock, nil for time.Now; Roots are the authorities of WebPKI, nil
	// for the system's.
	Now   func() time.Time
	Roots *x509.CertPool
	// Where identifies the network that the device is on, "" if it is not known
	// (netreal.Gateway); nil means never known. It is called often. What it returns
	// is stored as a keyed hash only.
	Where func() string
	Log   *slog.Logger
	// Progress, if not nil, hears of each sync.
	Progress func(newsync.Progress)
}

// Reader is an open reader. Its methods may be called at once; syncs of all
// channels take turns.
type Reader struct {
	cfg   Config
	log   *slog.Logger
	lib   *library.Library
	paths *paths.Set
	// sessions are relays' TLS sessions, resolvers what was learned over DNS, for
	// paths.
	sessions, resolvers *sessions
	networks            *networks

	syncing sync.Mutex // held while a sync runs

	mu sync.Mutex
	// claimed: somebody is about to sync; active: a sync runs.
	claimed, active bool
	lastSync        time.Time
	work            web.Work
	events          []web.Event
	answered        bool // a path answered in the sync that runs
	costed          bool // and what its texts take was said
	// fetching are the articles whose pictures the page has asked for, tapped those
	// whose texts are to come first.
	fetching, tapped []string
	// lacking is what was said last of texts that have not come, and when.
	lacking   []web.Lacks
	lackingAt time.Time
	rhythms   map[channel.ID]rhythm
}

// Open opens the library and makes it if there is none.
func Open(ctx context.Context, cfg Config) (*Reader, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	lib := cfg.Library
	if lib == nil {
		var err error
		if lib, err = library.Open(ctx, cfg.Dir, library.Options{Passphrase: cfg.Passphrase, Logger: log}); err != nil {
			return nil, err
		}
	}
	kept := newSessions(lib, log)
	learned := newKeep(lib, log, dnsIndex, maxDNS)
	r := &Reader{cfg: cfg, log: log, lib: lib, sessions: kept, resolvers: learned, networks: &networks{lib: lib, log: log}, rhythms: map[channel.ID]rhythm{}}
	r.paths = paths.New(paths.Config{
		Network: cfg.Network, Resolvers: cfg.Resolvers, Hurry: cfg.Hurry, BitTorrent: cfg.BitTorrent, Extra: cfg.Extra,
		Roots: cfg.Roots, Now: cfg.Now, Sessions: kept, Keeper: learned, Log: log,
		Where: func() string { return r.network(context.Background()) },
	})
	return r, nil
}

// Close ends all connections and closes the library.
func (r *Reader) Close() error {
	r.syncing.Lock() // let a sync end that was cancelled
	defer r.syncing.Unlock()
	err := r.paths.Close()
	r.sessions.close() // after the last connection, before the library
	r.resolvers.close()
	return errors.Join(err, r.lib.Close())
}

// Library is the reader's library.
func (r *Reader) Library() *library.Library { return r.lib }

// Shelf reads what has arrived.
func (r *Reader) Shelf() newsync.Shelf { return newsync.Shelf{Library: r.lib} }

// Add makes the reader follow an invite's channel, durably. known: it did already, and
// goes on with this invite's ways in and key. It asks nobody, but waits for a sync that
// runs.
func (r *Reader) Add(ctx context.Context, invite string) (ch channel.ID, known bool, err error) {
	inv, err := channel.ParseInvite(invite)
	if err != nil {
		return channel.ID{}, false, err
	}
	r.syncing.Lock()
	defer r.syncing.Unlock()
	known, err = newsync.Add(ctx, r.lib, inv)
	return inv.Channel, known, err
}

// Resolve finds the channel that a person means: the only one, or the one whose
// ID begins with prefix.
func (r *Reader) Resolve(ctx context.Context, prefix string) (channel.ID, error) {
	ids, err := r.lib.Channels(ctx)
	if err != nil {
		return channel.ID{}, err
	}
	var match []channel.ID
	for _, id := range ids {
		if len(prefix) <= 52 && id.String()[:len(prefix)] == prefix {
			match = append(match, id)
		}
	}
	switch {
	case len(ids) == 0:
		return channel.ID{}, ErrNoChannel
	case len(match) == 0:
		return channel.ID{}, fmt.Errorf("no channel begins with %q; see mirror status", prefix)
	case len(match) > 1:
		return channel.ID{}, errors.New("several channels match; name one by the first letters of its ID (mirror status)")
	}
	return match[0], nil
}
