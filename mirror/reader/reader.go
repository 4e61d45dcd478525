// Package reader is the reader's program without its command line: library,
// engine, paths and page, wired.
//
// cmd/mirror and the demo both use it. A [Reader] follows the channels in its
// library, syncs them, and answers what people ask: headlines, articles, how
// old the news is and which paths work.
package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/mirror/library"
	"tamizdat/mirror/paths"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/file"
)

// Config says how to open a reader. Dir and Network are required.
type Config struct {
	// Dir is the library's folder.
	Dir string
	// Passphrase opens it; see library.Options.
	Passphrase []byte
	Network    transport.Network
	// Resolvers and Hurry are for DNS; see paths.Config.
	Resolvers []string
	Hurry     bool
	// Extra paths are offered for every channel.
	Extra []transport.Path
	// TextOnly leaves images out.
	TextOnly bool
	Log      *slog.Logger
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

	syncing sync.Mutex // held while a sync runs

	mu       sync.Mutex
	active   bool
	lastSync time.Time
	last     error
}

// Open opens the library and makes it if there is none.
func Open(ctx context.Context, cfg Config) (*Reader, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lib, err := library.Open(ctx, cfg.Dir, library.Options{Passphrase: cfg.Passphrase, Logger: log})
	if err != nil {
		return nil, err
	}
	return &Reader{
		cfg: cfg, log: log, lib: lib,
		paths: paths.New(paths.Config{Network: cfg.Network, Resolvers: cfg.Resolvers, Hurry: cfg.Hurry, Extra: cfg.Extra, Log: log}),
	}, nil
}

// Close ends all connections and closes the library.
func (r *Reader) Close() error {
	r.syncing.Lock() // let a sync end that was cancelled
	defer r.syncing.Unlock()
	return errors.Join(r.paths.Close(), r.lib.Close())
}

// Library is the reader's library.
func (r *Reader) Library() *library.Library { return r.lib }

// Shelf reads what has arrived.
func (r *Reader) Shelf() newsync.Shelf { return newsync.Shelf{Library: r.lib} }

// Add makes the reader follow an invite's channel, durably. It asks nobody.
func (r *Reader) Add(ctx context.Context, invite string) (channel.ID, error) {
	inv, err := channel.ParseInvite(invite)
	if err != nil {
		return channel.ID{}, err
	}
	return inv.Channel, newsync.Add(ctx, r.lib, inv)
}

// Sync brings one channel up to date. The result is never nil.
func (r *Reader) Sync(ctx context.Context, ch channel.ID) (*newsync.Result, error) {
	return r.sync(ctx, ch, r.paths)
}

func (r *Reader) sync(ctx context.Context, ch channel.ID, ways newsync.Ways) (*newsync.Result, error) {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	r.begin()
	e := newsync.Engine{Library: r.lib, Ways: ways, TextOnly: r.cfg.TextOnly, Log: r.log, Progress: r.cfg.Progress}
	res, err := e.Sync(ctx, ch)
	r.end(err)
	return res, err
}

func (r *Reader) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = true
}

func (r *Reader) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active, r.lastSync, r.last = false, time.Now(), err
}

// ErrNoChannel: no invite was added yet.
var ErrNoChannel = errors.New("no channel yet; add an invite with mirror add")

// SyncAll brings all channels up to date, one after the other. One channel's
// failure doesn't keep the others.
func (r *Reader) SyncAll(ctx context.Context, each func(channel.ID, *newsync.Result, error)) error {
	ids, err := r.lib.Channels(ctx)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return ErrNoChannel
	}
	var errs []error
	for _, ch := range ids {
		res, err := r.Sync(ctx, ch)
		if each != nil {
			each(ch, res, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ErrForeign: a file holds nothing of the channels that this reader follows.
var ErrForeign = errors.New("the file is of a channel that you have no invite for")

// ErrPartly: a file is damaged; what stood before the damage was taken in.
var ErrPartly = errors.New("only a part could be taken in; ask for the file again")

// Import takes in a CAR file or a folder of them, for every channel followed
// that it holds news of. It uses no network.
func (r *Reader) Import(ctx context.Context, name string, each func(channel.ID, *newsync.Result)) error {
	src, err := file.Open(name)
	if err != nil {
		return err
	}
	only := fileOnly{src.Path("file")}
	followed, err := r.lib.Channels(ctx)
	if err != nil {
		return err
	}
	if len(followed) == 0 {
		return ErrNoChannel
	}
	found := false
	for _, ch := range followed {
		if _, err := src.Head(ctx, ch, 0); err != nil {
			continue
		}
		found = true
		res, err := r.sync(ctx, ch, only)
		if errors.Is(err, newsync.ErrIncomplete) {
			err = nil // the file is what it is; Damage says if it should hold more
		}
		if err != nil {
			return errors.Join(err, src.Damage())
		}
		if each != nil {
			each(ch, res)
		}
	}
	if !found {
		return errors.Join(ErrForeign, src.Damage())
	}
	if err := src.Damage(); err != nil {
		return fmt.Errorf("%w: %w", ErrPartly, err)
	}
	return nil
}

// fileOnly is the one path of an import.
type fileOnly struct{ path transport.Path }

// Export writes what the reader holds of a channel's newest edition, and of the
// older ones that its headlines lie in, as one CAR file, whole or not at all,
// for somebody with an invite of their own. It says how many blocks were not
// here (images that were not fetched, say).
func (r *Reader) Export(ctx context.Context, ch channel.ID, name string) (missing int, err error) {
	view, vols, err := r.Shelf().Editions(ctx, ch)
	if err != nil {
		return 0, err
	}
	h := view.Head()
	err = durable.WriteFile(name, 0o600, func(w io.Writer) error {
		out, err := car.NewEdition(w, car.Intro{RootNotes: view.Roots().Notes(), Head: h.Text(), Root: h.Root})
		if err != nil {
			return err
		}
		for i, vol := range vols {
			err := vol.Walk(func(w bundle.Want, data []byte) error { return out.Put(w.CID, data) })
			var m *bundle.MissingError
			if errors.As(err, &m) {
				missing += countNeeded(m.Wants, i == 0)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return missing, err
}

// countNeeded counts wants that a reader of the file would miss: of an older
// edition only its articles.
func countNeeded(wants []bundle.Want, newest bool) (n int) {
	for _, w := range wants {
		if newest || w.Layer == bundle.LayerDirectory || w.Layer == bundle.LayerFront || w.Layer == bundle.LayerText || w.Layer == bundle.LayerMedia {
			n++
		}
	}
	return n
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
