// Package sync brings a channel's news into a reader's library, over whatever
// paths are open.
//
// It asks all paths for the newest head (asks.go: the fast and quiet first) and
// goes on with the first one that verifies, while the others are still heard: a
// higher one that comes later turns the sync to it (session.go). Then it
// fetches blocks, headlines before texts before images, from every path that
// delivers: a board holds what is wanted (board.go), each path takes as much as
// it brings in half a second (crew.go), and what one path is late with, another
// is asked for. What worked is remembered for each network (memory.go).
//
// Bytes from a path are checked here, whatever the path says it checked:
// signatures before decrypting, hashes before storing. What has arrived is in
// the library, so a sync that is killed at any point goes on where it was, and
// nothing is fetched twice.
//
// [Engine.Sync] is the way in, and [Engine.Images] brings the pictures of one
// article; a [Shelf] reads what has arrived.
package sync

import (
	"context"
	"crypto/ed25519"
	"errors"
	"iter"
	"log/slog"
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
	// Has tells of each block whether it is stored, without reading it.
	Has(ctx context.Context, cids ...cid.Cid) ([]bool, error)
	PutBlocks(ctx context.Context, ch channel.ID, edition uint64, blocks []bundle.Checked) error
	SetFront(ctx context.Context, ch channel.ID, f *bundle.Front) error
	// Withdraw deletes all that came with the editions from first on, and the blocks
	// of those that they forged, and says how many headlines that were.
	Withdraw(ctx context.Context, ch channel.ID, first uint64, forged ...uint64) (headlines int, err error)
	Headline(ctx context.Context, ch channel.ID, id string) (library.Headline, error)
	Headlines(ctx context.Context, q library.Query) iter.Seq2[library.Headline, error]
	IndexTexts(ctx context.Context, ch channel.ID, texts []library.Text) error
	// Loose tells where deleted articles lay, DropLoose forgets that and drops blocks.
	Loose(ctx context.Context, ch channel.ID) ([]bundle.Entry, error)
	DropLoose(ctx context.Context, ch channel.ID, edition uint64, cids []cid.Cid) error
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
	// ErrBudget: the sync stopped at the limit that Budget.Bytes sets. That is no
	// failure of a path; what arrived is kept, and the next sync goes on.
	ErrBudget = errors.New("stopped at your data limit")
)

// Engine syncs channels. Its fields are set before use and not changed.
type Engine struct {
	Library Library
	Ways    Ways
	// Log hears of decisions; nil discards. It is told no titles.
	Log *slog.Logger
	// Progress, if not nil, hears what goes on. Calls come one at a time; it must
	// return soon.
	Progress func(Progress)
	// Budget is what a sync may spend.
	Budget Budget
	// Now is the clock that people read, nil means time.Now. It stamps reports and
	// never decides whether a head is taken; durations don't depend on it.
	Now func() time.Time
	// Network says which network the device is on, as a keyed hash: what worked
	// there is remembered for the next sync. Empty means unknown: all unknown
	// networks are one.
	Network string
	// Langs are the reader's languages, BCP 47: their texts come first. Empty
	// means that all are alike.
	Langs []string
	// Tapped, if not nil, are the IDs of articles that somebody waits for: their
	// texts come before all others. It is called now and then while texts come.
	Tapped func() []string
}

// Budget bounds what one sync may spend. The zero value is no bound.
type Budget struct {
	// TextOnly leaves images out: none is asked for, but by Engine.Images.
	TextOnly bool
	// Bytes is the most payload that one sync may receive, counting openings and
	// what came in vain; 0 means no limit. A sync that stops there returns an
	// error wrapping ErrBudget. Below LeastBytes it may bring nothing, however often
	// it is tried.
	Bytes int64
	// Charge, if not nil, is called before more is asked for than it was last told
	// that may come: n bytes in all, in this sync. It notes that much or more, durably,
	// and returns how much: who is killed in the middle has not spent more. When it
	// fails nothing more is asked for, and the sync ends with its error. Calls come one
	// at a time, from any goroutine, and hold up all paths.
	Charge func(n int64) (noted int64, err error)
}

// LeastBytes is the least limit with which each sync brings something: openings
// have half of it, and the first answer may be one block.
const LeastBytes = 2 * bundle.MaxBlock

// Progress is one step of a sync, for people and for the page.
type Progress struct {
	// Stage is "head", "headlines", "text", "images" or "rest".
	Stage string
	// Blocks and Bytes have arrived in this sync, Missing blocks are still wanted.
	Blocks, Missing int
	Bytes           int64
	// Event is empty for a plain step, or one of the Event constants: what the
	// path named Path of that Kind did.
	Event, Path, Kind string
	// Rate is in bytes a second over the last few seconds; Left is about how long
	// the stage still takes, 0 if unknown; At is the time since the start.
	Rate     int64
	Left, At time.Duration
	// Cost is what is left of the stage, if only narrow ways have answered: what
	// it still takes. Its Queries are 0 if that is not so, or not known.
	Cost transport.Cost
}

// The values of Progress.Event.
const (
	EventAsked    = "asked"    // the path was asked for the newest head
	EventAnswered = "answered" // it answered with a head, or that there is nothing newer
	EventTurned   = "turned"   // its head is a newer one: the sync turned to it
	EventBrought  = "brought"  // it brought its first block of this stage
	EventDoubled  = "doubled"  // it was asked for what another path was slow to bring
	EventFailed   = "failed"   // it failed and rests for a while
	EventDropped  = "dropped"  // it failed so often that it is left alone in this sync
	EventLied     = "lied"     // it sent what its keys or hashes prove false: dropped for good
)

// Result is what a sync did.
type Result struct {
	// Head is the newest head held afterwards, nil if there is none.
	Head *channel.Head
	// New tells whether it is newer than before; Fork, that somebody showed a
	// contradicting history (evidence is in the view).
	New, Fork bool
	// Withdrawn counts the articles that were taken back because they came with
	// editions which a new generation of the channel's log has left out: its old key
	// was stolen.
	Withdrawn int
	// Answered counts the paths that answered with a head or that there is nothing
	// newer, without liars and files: if none did, nothing is known of what is
	// newest, however the sync ended. Unreached: not even a file answered; Head is
	// what was held before.
	Answered  int
	Unreached bool
	// Times since the start until the newest head was known, its headlines were
	// shown, and all texts and images were here; 0 if that point was not reached.
	ToHead, ToHeadlines, ToText, ToImages time.Duration
	// Delivered names the path that brought most of a stage: "head", "headlines",
	// "text", "images". A stage that needed nothing is not in it.
	Delivered map[string]string
	// Twice counts bytes that came in vain: blocks that were here already, and
	// what had come of fetches that were cut off. Junk counts those of paths that
	// lied.
	Twice, Junk int64
	// Received is all that the sync's budget was charged with: what it used, what
	// came in vain, heads, root notes and grants.
	Received int64
	// Blocks and Bytes were fetched; Articles have their text since now.
	Blocks   int
	Bytes    int64
	Articles int
	// Gone counts the articles that were here and that the publisher took back,
	// Corrected those that were here and that a corrected text took the place of.
	Gone, Corrected int
	// ImagesMissing: text is here, but some images are not, for want of a wide path.
	ImagesMissing bool
	Paths         []PathReport
}

// Add makes the library follow the invite's channel, durably. known: it is followed
// already; then what is known of it is kept, and the invite's ways in and its batch's
// key are used from now on (channel.View.Renew). No sync of the channel may run.
func Add(ctx context.Context, lib Library, invite *channel.Invite) (known bool, err error) {
	view, err := View(ctx, lib, invite.Channel)
	switch {
	case errors.Is(err, transport.ErrNotFound):
		view = channel.NewView(invite)
	case err != nil:
		return false, err
	default:
		known = true
		if err := view.Renew(invite); err != nil {
			return true, err
		}
	}
	state, err := view.Marshal()
	if err != nil {
		return known, err
	}
	return known, lib.SetState(ctx, invite.Channel, state)
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
// it came. Errors wrap ErrNoPath, ErrNoKey, ErrIncomplete or ErrBudget and name
// every failed path, or are the library's own.
//
// It may be cancelled at any point. Blocks that have arrived are in the library
// and are not asked for again; of a block that was on its way nothing is kept
// (64 KiB at most, and no carrier could be told to send the rest of it).
func (e *Engine) Sync(ctx context.Context, ch channel.ID) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(e, ch)
	err := s.purse.failure(s.run(ctx))
	s.finish()
	for _, p := range s.paths {
		s.res.Paths = append(s.res.Paths, *s.report(p))
	}
	if note := oneLine(s.saveReports(ctx), s.saveMemory(ctx)); err == nil {
		err = note
	}
	return s.res, err
}
