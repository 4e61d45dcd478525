// Package sync brings a channel's news into a reader's library, over whatever
// paths are open.
//
// It asks all paths for the newest head at once and takes the highest one that
// verifies; then it fetches blocks, headlines before texts before images, from
// every path that delivers. What one path fails, another does. Bytes from a
// path are checked here, whatever the path says it checked: signatures before
// decrypting, hashes before storing. What has arrived is in the library, so a
// sync that is killed at any point goes on where it was, and nothing is fetched
// twice.
//
// [Engine.Sync] is the way in; a [Shelf] reads what has arrived.
package sync

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

// Library is what the engine needs of the reader's store; mirror/library
// implements it. Whatever returns nil is durable. Not found is an error
// wrapping transport.ErrNotFound.
type Library interface {
	State(ctx context.Context, ch channel.ID) ([]byte, error)
	SetState(ctx context.Context, ch channel.ID, state []byte) error
	Block(ctx context.Context, c cid.Cid) ([]byte, error)
	PutBlocks(ctx context.Context, ch channel.ID, edition uint64, blocks []transport.Block) error
	SetFront(ctx context.Context, ch channel.ID, f *bundle.Front) error
	Headline(ctx context.Context, ch channel.ID, id string) (library.Headline, error)
	Headlines(ctx context.Context, q library.Query) iter.Seq2[library.Headline, error]
	IndexText(ctx context.Context, ch channel.ID, id, plain string) error
	Note(ctx context.Context, key string) ([]byte, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

var _ Library = (*library.Library)(nil)

// Ways turns places into paths. It returns the same path for the same place
// each time, so that connections are kept.
type Ways interface {
	Paths(ch channel.ID, ipns ed25519.PublicKey, places channel.Places) []transport.Path
}

// Errors of Sync.
var (
	// ErrNoPath: no path answered with a head that verifies.
	ErrNoPath = errors.New("no path delivered the news")
	// ErrNoKey: the head is there, but no path had a grant that opens its edition.
	ErrNoKey = errors.New("no path delivered the key to this edition")
	// ErrIncomplete: some blocks could not be had from any path; what arrived is kept.
	ErrIncomplete = errors.New("some of the news could not be fetched")
)

// Engine syncs channels. Its fields are set before use and not changed.
type Engine struct {
	Library Library
	Ways    Ways
	// TextOnly leaves images out.
	TextOnly bool
	// Log hears of decisions; nil discards. It is told no titles.
	Log *slog.Logger
	// Progress, if not nil, hears what goes on; it must return soon.
	Progress func(Progress)
}

// Progress is one step of a sync, for people.
type Progress struct {
	// Stage is "head", "headlines", "text", "images" or "rest".
	Stage string
	// Blocks and Bytes have arrived in this sync, Missing blocks are still wanted.
	Blocks, Missing int
	Bytes           int64
}

// Result is what a sync did.
type Result struct {
	// Head is the newest head held afterwards, nil if there is none.
	Head *channel.Head
	// New tells whether it is newer than before; Fork, that somebody showed a
	// contradicting history (evidence is in the view).
	New, Fork bool
	// Unreached: no path answered; Head is what was held before.
	Unreached bool
	// Times since the start; 0 if that point was not reached.
	ToHead, ToHeadlines, ToText time.Duration
	// Blocks and Bytes were fetched; Articles have their text since now.
	Blocks   int
	Bytes    int64
	Articles int
	// ImagesMissing: text is here, but some images are not, for want of a wide path.
	ImagesMissing bool
	Paths         []PathReport
}

// Add makes the library follow the invite's channel, durably. Adding a channel
// that is followed already keeps what is known and is no error.
func Add(ctx context.Context, lib Library, invite *channel.Invite) error {
	_, err := lib.State(ctx, invite.Channel)
	if !errors.Is(err, transport.ErrNotFound) {
		return err
	}
	state, err := channel.NewView(invite).Marshal()
	if err != nil {
		return err
	}
	return lib.SetState(ctx, invite.Channel, state)
}

// View returns what the library knows of a channel.
func View(ctx context.Context, lib Library, ch channel.ID) (*channel.View, error) {
	state, err := lib.State(ctx, ch)
	if err != nil {
		return nil, err
	}
	return channel.ParseView(state)
}

// Sync brings the channel up to date. The result is never nil: it says how far
// it came. Errors wrap ErrNoPath, ErrNoKey or ErrIncomplete and name every
// failed path, or are the library's own.
func (e *Engine) Sync(ctx context.Context, ch channel.ID) (*Result, error) {
	s := &session{
		Engine: e, ch: ch, start: time.Now(), log: e.Log,
		stash: map[cid.Cid]stashed{}, reports: map[string]*PathReport{}, res: &Result{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	err := s.run(ctx)
	for _, p := range s.paths {
		s.res.Paths = append(s.res.Paths, *s.report(p))
	}
	if note := s.saveReports(ctx); err == nil {
		err = note
	}
	return s.res, err
}

// stashed is a block of an opening answer and who brought it.
type stashed struct {
	path transport.Path
	data []byte
}

// session is one run of Sync. Only its own goroutine touches it, besides
// s.reports in fetch, which fetch guards.
type session struct {
	*Engine
	ch    channel.ID
	start time.Time
	log   *slog.Logger
	view  *channel.View
	paths []transport.Path
	// stash holds checked blocks of opening answers until somebody wants them.
	stash   map[cid.Cid]stashed
	reports map[string]*PathReport
	res     *Result
	// nobody is why no path answered, nil if one did.
	nobody error
}

func (s *session) run(ctx context.Context) (err error) {
	if s.view, err = View(ctx, s.Library, s.ch); err != nil {
		return err
	}
	s.findPaths()
	if len(s.paths) == 0 {
		return fmt.Errorf("%w: none is known; ask for a new invite", ErrNoPath)
	}
	s.tell("head", 0)
	targets, headErr := s.head(ctx)
	if s.res.Head = s.view.Head(); len(targets) == 0 {
		return headErr
	}
	s.res.ToHead = time.Since(s.start)
	s.tell("headlines", 0)
	front, target, behind := s.newestFront(ctx, targets)
	if front == nil {
		return behind
	}
	defer func() { err = oneLine(s.nobody, behind, err) }()
	s.res.ToHeadlines = time.Since(s.start)
	textErr := s.bodies(ctx, "text", s.text)
	if textErr == nil {
		s.res.ToText = time.Since(s.start)
	}
	// What one edition lacks keeps nobody from the rest.
	return oneLine(textErr, s.more(ctx, front, target))
}

// more brings what comes after today's headlines and texts: older headlines and
// their texts, images, and what others need.
func (s *session) more(ctx context.Context, front *bundle.Front, target *channel.Head) error {
	if err := s.older(ctx, front); err != nil {
		return err
	}
	if s.TextOnly {
		return nil
	}
	err := s.bodies(ctx, "images", s.images)
	if errors.Is(err, ErrIncomplete) && ctx.Err() == nil {
		// Text is the news. Images come when a wide path is open.
		s.res.ImagesMissing = true
		s.log.Info("images are missing", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.rest(ctx, target)
}

// findPaths asks for paths anew: a grant may have named more places.
func (s *session) findPaths() {
	s.paths = s.Ways.Paths(s.ch, s.view.Invite().IPNS, s.view.Places())
	slices.SortStableFunc(s.paths, func(a, b transport.Path) int { return int(a.Hints.Patience - b.Hints.Patience) })
}

func (s *session) tell(stage string, missing int) {
	if s.Progress != nil {
		s.Progress(Progress{Stage: stage, Blocks: s.res.Blocks, Bytes: s.res.Bytes, Missing: missing})
	}
}

// saveState stores the view.
func (s *session) saveState(ctx context.Context) error {
	state, err := s.view.Marshal()
	if err != nil {
		return err
	}
	return s.Library.SetState(ctx, s.ch, state)
}

// volume reads an edition from library and stash.
func (s *session) volume(ctx context.Context, e editionInfo) (*bundle.Volume, error) {
	v, err := e.volume(s.view)
	if err != nil {
		return nil, err
	}
	v.Get = func(c cid.Cid) ([]byte, error) { return getBlock(ctx, s.Library, c) }
	return v, nil
}

// getBlock is Volume.Get over a library.
func getBlock(ctx context.Context, lib Library, c cid.Cid) ([]byte, error) {
	b, err := lib.Block(ctx, c)
	if errors.Is(err, transport.ErrNotFound) {
		return nil, bundle.ErrMissing
	}
	return b, err
}

// maxRounds bounds how often a volume may ask for more: directory, node, chunk.
const maxRounds = 8

// until calls try, fetching what it misses, until it does not.
func (s *session) until(ctx context.Context, stage string, ed transport.Edition, try func() error) error {
	for range maxRounds {
		err := try()
		var m *bundle.MissingError
		if !errors.As(err, &m) {
			return err
		}
		s.tell(stage, len(m.Wants))
		if err := s.fetch(ctx, stage, ed, m.Wants); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: blocks vanish as fast as they come", ErrIncomplete)
}

// oneLine joins errors as errors.Join does, for people.
func oneLine(errs ...error) (joined error) {
	for _, err := range errs {
		switch {
		case joined == nil:
			joined = err
		case err != nil:
			joined = fmt.Errorf("%w; %w", joined, err)
		}
	}
	return joined
}
