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
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
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

// The states of a path, as PathReport has them.
const (
	stateOK     = "ok"
	stateFailed = "failed"
	stateLied   = "lied"
	stateSlow   = "slow" // asked, and others had answered before it did
	stateIdle   = "idle" // not needed
)

// PathReport is how one path did.
type PathReport struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// State is "ok", "failed", "lied", "slow" or "idle".
	State string `json:"state"`
	// Error is why, in one line, if it failed or lied.
	Error string `json:"error,omitempty"`
	// Blocks and Bytes are what it brought: in one sync in a Result, in all of
	// them in Reports.
	Blocks int       `json:"blocks"`
	Bytes  int64     `json:"bytes"`
	At     time.Time `json:"at"`
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

// older takes in the front pages of older editions of the window that this
// reader has missed: their headlines may have found no room in the newest one.
// Over narrow paths it is not worth it.
func (s *session) older(ctx context.Context, front *bundle.Front) error {
	if !s.wide() {
		return nil
	}
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range slices.Backward(front.Past) {
		info, ok := known[p.Edition]
		if !ok || info.Front {
			continue
		}
		if err := s.olderFront(ctx, info, p); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, fmt.Errorf("edition %d: %w", p.Edition, err))
		}
	}
	return oneLine(append(failed, s.bodies(ctx, "text", s.text))...)
}

func (s *session) olderFront(ctx context.Context, info editionInfo, p bundle.Past) error {
	vol, err := s.volume(ctx, info)
	if errors.Is(err, ErrNoKey) {
		return nil // of an epoch before our invite
	}
	if err != nil {
		return err
	}
	ed := info.edition(s.ch)
	if p.Front != nil {
		if ed.Names[bundle.LayerFront], err = p.Front.Record(); err != nil {
			return err
		}
	}
	var f *bundle.Front
	if err := s.until(ctx, "headlines", ed, func() (err error) { f, err = vol.Front(); return err }); err != nil {
		return err
	}
	if err := s.Library.SetFront(ctx, s.ch, f); err != nil {
		return err
	}
	return saveEdition(ctx, s.Library, s.ch, info, f)
}

// wide reports whether a path that carries everything answered in this sync.
func (s *session) wide() bool {
	return slices.ContainsFunc(s.paths, func(p transport.Path) bool { return !p.Hints.Text && s.report(p).State == stateOK })
}

// rest brings what this reader does not need itself (log, root notes, grants of
// other batches), so that the edition can be handed on whole. It is a favour to
// others: no failure of it is one of the sync.
func (s *session) rest(ctx context.Context, target *channel.Head) error {
	if !s.wide() {
		return nil // not worth waiting for a wide path that may never answer
	}
	info := editionInfo{Number: target.Edition, Epoch: target.Epoch, Root: target.Root.String()}
	vol, err := s.volume(ctx, info)
	if err != nil {
		return err
	}
	err = s.until(ctx, "rest", info.edition(s.ch), func() error {
		return vol.Walk(func(bundle.Want, []byte) error { return nil })
	})
	if errors.Is(err, ErrIncomplete) {
		return nil
	}
	return err
}

// findPaths asks for paths anew: a grant may have named more places.
func (s *session) findPaths() {
	s.paths = s.Ways.Paths(s.ch, s.view.Invite().IPNS, s.view.Places())
	slices.SortStableFunc(s.paths, func(a, b transport.Path) int { return int(a.Hints.Patience - b.Hints.Patience) })
}

func (s *session) report(p transport.Path) *PathReport {
	r, ok := s.reports[p.Name]
	if !ok {
		r = &PathReport{Name: p.Name, Kind: p.Kind, State: stateIdle}
		s.reports[p.Name] = r
	}
	return r
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

// newestFront gets the first front page that can be had. What kept it from a
// better one comes back as an error beside it, but for a fork: that is reported
// in the result, and its front page is nobody's news.
func (s *session) newestFront(ctx context.Context, targets []*channel.Head) (*bundle.Front, *channel.Head, error) {
	var behind error
	for _, h := range targets {
		f, err := s.front(ctx, h)
		switch {
		case err == nil:
			return f, h, behind
		case ctx.Err() != nil:
			return nil, nil, err
		case !errors.Is(err, channel.ErrFork):
			behind = oneLine(behind, err)
		}
	}
	if behind == nil {
		behind = channel.ErrFork
	}
	return nil, nil, behind
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

// front fetches and stores the front page of target, after which target is held
// for good even if it was provisional.
func (s *session) front(ctx context.Context, target *channel.Head) (*bundle.Front, error) {
	info := editionInfo{Number: target.Edition, Epoch: target.Epoch, Root: target.Root.String()}
	vol, err := s.volume(ctx, info)
	if err != nil {
		return nil, err
	}
	ed := info.edition(s.ch)
	ed.Names[bundle.LayerFront] = target.Front
	var f *bundle.Front
	if err := s.until(ctx, "headlines", ed, func() (err error) { f, err = vol.Front(); return err }); err != nil {
		return nil, err
	}
	if target.Size > s.view.Size() {
		if err := s.fold(ctx, target, f, vol, ed); err != nil {
			return nil, err
		}
	}
	if err := s.Library.SetFront(ctx, s.ch, f); err != nil {
		return nil, err
	}
	return f, saveEditions(ctx, s.Library, s.ch, target, f)
}

// fold makes a provisional head ours, or finds the fork.
func (s *session) fold(ctx context.Context, target *channel.Head, f *bundle.Front, vol *bundle.Volume, ed transport.Edition) error {
	from := s.view.Size()
	first, hs, err := f.Hashes()
	if err != nil {
		return err
	}
	if first > from {
		if f.Log != nil {
			if ed.Names[bundle.LayerLog], err = f.Log.Record(); err != nil {
				return err
			}
		}
		first = from
		if err := s.until(ctx, "headlines", ed, func() (err error) { hs, err = vol.Hashes(from); return err }); err != nil {
			return err
		}
	}
	err = s.view.Fold(target, hs[min(from-first, uint64(len(hs))):])
	if errors.Is(err, channel.ErrFork) {
		s.res.Fork = true
	}
	if err == nil {
		s.res.New, s.res.Head = true, target
	}
	return oneLine(err, s.saveState(ctx))
}

// bodies brings texts or images of all headlines in the library whose edition is
// known, edition by edition, newest first. An edition that can't be had doesn't
// keep the others.
func (s *session) bodies(ctx context.Context, stage string, one func(context.Context, *bundle.Volume, []bundle.Entry) error) error {
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	byEdition := map[uint64][]bundle.Entry{}
	for h, err := range s.Library.Headlines(ctx, library.Query{Channel: s.ch}) {
		if err != nil {
			return err
		}
		if stage == "text" && !h.Text || stage == "images" && len(h.Images) > 0 && !known[h.Edition].Images {
			byEdition[h.Edition] = append(byEdition[h.Edition], h.Entry)
		}
	}
	numbers := slices.Sorted(maps.Keys(byEdition))
	slices.Reverse(numbers)
	var failed []error
	for _, n := range numbers {
		info, ok := known[n]
		if !ok {
			continue
		}
		vol, err := s.volume(ctx, info)
		if err != nil {
			failed = append(failed, err) // an epoch from before our invite
			continue
		}
		err = s.until(ctx, stage, info.edition(s.ch), func() error { return one(ctx, vol, byEdition[n]) })
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("edition %d: %w", n, err))
			continue
		}
		if stage == "images" {
			info.Images = true
			if err := saveEdition(ctx, s.Library, s.ch, info, nil); err != nil {
				return err
			}
		}
	}
	return oneLine(failed...)
}

// text opens each article's text and puts it into the search index.
func (s *session) text(ctx context.Context, vol *bundle.Volume, entries []bundle.Entry) error {
	all := &bundle.MissingError{}
	for i := range entries {
		e := &entries[i]
		h, err := s.Library.Headline(ctx, s.ch, e.ID)
		if errors.Is(err, transport.ErrNotFound) || h.Text {
			continue
		}
		if err != nil {
			return err
		}
		a, err := vol.Article(e)
		if collect(all, err) {
			continue
		}
		if err != nil {
			s.log.Warn("article does not open", "edition", e.Edition, "error", err)
			continue
		}
		if err := s.Library.IndexText(ctx, s.ch, e.ID, safehtml.Text(a.Body)); err != nil && !errors.Is(err, transport.ErrNotFound) {
			return err
		}
		s.res.Articles++
	}
	return wantsOf(all)
}

// images makes sure that each article's pictures are in the library.
func (s *session) images(_ context.Context, vol *bundle.Volume, entries []bundle.Entry) error {
	all := &bundle.MissingError{}
	for i := range entries {
		e := &entries[i]
		for j := range e.Images {
			_, err := vol.Image(e, j)
			if !collect(all, err) && err != nil {
				s.log.Warn("image does not open", "edition", e.Edition, "error", err)
			}
		}
	}
	return wantsOf(all)
}

// collect adds what err says is missing, and reports whether it did.
func collect(all *bundle.MissingError, err error) bool {
	var m *bundle.MissingError
	if !errors.As(err, &m) {
		return false
	}
	for _, w := range m.Wants {
		if !slices.ContainsFunc(all.Wants, func(o bundle.Want) bool { return o.CID.Equals(w.CID) }) {
			all.Wants = append(all.Wants, w)
		}
	}
	return true
}

func wantsOf(all *bundle.MissingError) error {
	if len(all.Wants) == 0 {
		return nil
	}
	return all
}

// pathsKey is the note that holds how each path did last.
func pathsKey(ch channel.ID) string { return ch.String() + "/paths" }

// saveReports merges this sync's reports into those of before: a path that was
// not needed keeps its last state.
func (s *session) saveReports(ctx context.Context) error {
	old, err := Reports(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	merged := slices.Clone(s.res.Paths)
	for i, r := range merged {
		j := slices.IndexFunc(old, func(o PathReport) bool { return o.Name == r.Name })
		switch {
		case j < 0:
		case r.State == stateIdle:
			merged[i] = old[j]
		default:
			merged[i].Blocks += old[j].Blocks
			merged[i].Bytes += old[j].Bytes
		}
	}
	b, err := json.Marshal(merged)
	if err != nil {
		return err
	}
	return s.Library.SetNote(context.WithoutCancel(ctx), pathsKey(s.ch), b)
}

// Reports is how each path of a channel did when it was last used.
func Reports(ctx context.Context, lib Library, ch channel.ID) ([]PathReport, error) {
	b, err := lib.Note(ctx, pathsKey(ch))
	if errors.Is(err, transport.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rs []PathReport
	if err := json.Unmarshal(b, &rs); err != nil {
		return nil, nil // a note of another version: start anew
	}
	return rs, nil
}
