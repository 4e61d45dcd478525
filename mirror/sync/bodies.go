package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
	"tamizdat/mirror/library"
	"tamizdat/transport"
)

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
	info := infoOf(target)
	vol, err := s.volume(ctx, info)
	if err != nil {
		return err
	}
	err = s.until(ctx, "rest", info.edition(s.ch), func() error { return vol.Walk(nil) })
	if errors.Is(err, ErrIncomplete) {
		return nil
	}
	return err
}

// plan is what is to be fetched after a front page.
type plan struct {
	*session
	ctx    context.Context
	front  *bundle.Front
	known  map[uint64]editionInfo
	jobs   []*job
	failed []error // editions that can't be opened
	// all: older front pages and pictures are planned too. at is when the texts
	// were here, 0 before.
	all bool
	at  time.Duration
	// held is how many headlines of an edition are here. asked: its front page was
	// planned; hoped: some were left out, see older.
	held  map[uint64]int
	asked map[uint64]bool
	hoped bool
	// ends is where texts end; tapped are articles that were put first.
	ends   sizes
	tapped map[string]bool
}

// bring fetches what belongs to the front page shown: texts, then older headlines
// and their texts, images, and what others need. All of it goes on one board, so
// that no path is idle while something can be asked for, the urgent first.
func (s *session) bring(ctx context.Context) error {
	known, err := loadEditions(ctx, s.Library, s.ch)
	if err != nil {
		return err
	}
	if err := s.sweep(ctx, known); err != nil {
		return err
	}
	p := &plan{session: s, ctx: ctx, front: s.front, known: known, asked: map[uint64]bool{}, tapped: map[string]bool{}}
	if p.Tapped != nil {
		for _, id := range p.Tapped() {
			p.tapped[id] = true
		}
	}
	texts, err := p.bodies("text")
	if err != nil {
		return err
	}
	err = s.fetch(ctx, "text", texts, p.more)
	if err == nil && !p.all {
		// No wide path has answered; one may still do.
		p.all = true
		err = s.fetch(ctx, "images", p.later(), p.more)
	}
	if err == nil { // some older front pages may not have come
		err = s.fetch(ctx, "images", p.uncovered(), nil)
	}
	p.tellText()
	if err != nil {
		return err
	}
	return p.end()
}

// add notes jobs, for the end.
func (p *plan) add(jobs []*job) []*job {
	p.jobs = append(p.jobs, jobs...)
	return jobs
}

// more adds older front pages and images as soon as a wide path has answered:
// over narrow ones they are not worth it. Where bytes are counted they wait for
// the texts.
func (p *plan) more() []*job {
	p.tellText()
	jobs := p.taps()
	switch {
	case p.all:
		return append(jobs, p.uncovered()...)
	case !p.wide() || p.purse.limit > 0 && p.at == 0:
		return jobs
	}
	p.all = true
	return append(jobs, p.later()...)
}

// taps plans the texts that somebody has begun to wait for.
func (p *plan) taps() []*job {
	if p.Tapped == nil {
		return nil
	}
	var entries []bundle.Entry
	for _, id := range p.Tapped() {
		if p.tapped[id] {
			continue
		}
		p.tapped[id] = true
		h, err := p.Library.Headline(p.ctx, p.ch, id)
		if err == nil && !h.Text {
			entries = append(entries, h.Entry)
		}
	}
	return p.parts("text", entries)
}

func (p *plan) later() []*job {
	jobs := p.older()
	if p.Budget.TextOnly {
		return jobs
	}
	images, err := p.bodies("images")
	if err != nil {
		p.failed = append(p.failed, err)
	}
	return append(jobs, images...)
}

// tellText notes when all texts are here.
func (p *plan) tellText() {
	for _, j := range p.jobs {
		if j.stage == "text" && (!j.done || j.err != nil) {
			return
		}
	}
	if p.at == 0 && len(p.failed) == 0 {
		p.at = time.Since(p.start)
		p.res.ToText = p.at
		p.delivered("text")
	}
}

// end says what became of it. What one edition lacks keeps nobody from the rest.
func (p *plan) end() error {
	whole, missing := map[uint64]bool{}, false
	for _, j := range p.jobs {
		images := j.stage == "images"
		if _, ok := whole[j.ed.Number]; images && !ok {
			whole[j.ed.Number] = true
		}
		switch {
		case j.err == nil:
			continue
		case images && errors.Is(j.err, ErrIncomplete):
			// Text is the news. Images come when a wide path is open.
			missing = true
			p.log.Info("images are missing", "error", j.err)
		default:
			p.failed = append(p.failed, fmt.Errorf("edition %d: %w", j.ed.Number, j.err))
		}
		if images {
			whole[j.ed.Number] = false
		}
	}
	if err := p.saveWhole(whole); err != nil {
		return err
	}
	p.res.ImagesMissing = missing
	if len(p.failed) > 0 || missing || p.Budget.TextOnly {
		return oneLine(p.failed...)
	}
	p.res.ToImages = time.Since(p.start)
	p.delivered("images")
	return p.rest(p.ctx, p.shown)
}

// saveWhole notes of which editions all pictures are here.
func (p *plan) saveWhole(whole map[uint64]bool) error {
	maps.DeleteFunc(whole, func(_ uint64, all bool) bool { return !all })
	if len(whole) == 0 {
		return nil
	}
	known, err := loadEditions(p.ctx, p.Library, p.ch) // of now: a newer front page may have come
	if err != nil {
		return err
	}
	for n := range whole {
		if info, ok := known[n]; ok {
			info.Images = true
			known[n] = info
		}
	}
	return storeEditions(p.ctx, p.Library, p.ch, known)
}

// bodies plans texts or images of all headlines in the library whose edition is
// known.
func (p *plan) bodies(stage string) ([]*job, error) {
	var entries []bundle.Entry
	held := map[uint64]int{}
	p.ends = sizes{}
	for h, err := range p.Library.Headlines(p.ctx, library.Query{Channel: p.ch}) {
		if err != nil {
			return nil, err
		}
		held[h.Edition]++
		p.ends.add(h.Entry)
		if stage == "text" && !h.Text || stage == "images" && len(h.Images) > 0 && !p.known[h.Edition].Images {
			entries = append(entries, h.Entry)
		}
	}
	p.held = held
	return p.parts(stage, entries), nil
}

// parts makes a job for each edition, the newest first, and before all else for
// texts that somebody waits for, then for those in the reader's languages. Over
// narrow ways each block of texts is a job: what has come is to be read while the
// next one is fetched, which may take a minute. An edition that can't be had doesn't
// keep the others.
func (p *plan) parts(stage string, entries []bundle.Entry) []*job {
	type part struct {
		edition uint64
		rank    int
		block   int64
	}
	parts := map[part][]bundle.Entry{}
	for _, e := range entries {
		at := part{edition: e.Edition, rank: rankText}
		if stage == "text" && !p.wide() {
			at.block = e.Text.Offset / chunk
		}
		switch {
		case stage == "images":
			at.rank = rankImages
		case p.tapped[e.ID]:
			at.rank = rankTapped
		case p.speaks(e.Lang):
			at.rank = rankLangs
		}
		parts[at] = append(parts[at], e)
	}
	order := slices.SortedFunc(maps.Keys(parts), func(a, b part) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.edition, a.edition), cmp.Compare(a.block, b.block))
	})
	var jobs []*job
	for _, at := range order {
		info, ok := p.known[at.edition]
		if !ok {
			continue
		}
		vol, err := p.volume(p.ctx, info)
		if err != nil {
			p.failed = append(p.failed, err) // an epoch from before our invite
			continue
		}
		try := func() error { return p.text(p.ctx, vol, parts[at]) }
		if stage == "images" {
			try = func() error { return p.images(vol, parts[at]) }
		}
		j := &job{ed: info.edition(p.ch), stage: stage, rank: at.rank, try: try}
		if stage == "text" {
			j.blocks = p.ends.blocks(parts[at])
			if n := info.dictLeft(vol); n > 0 {
				j.blocks[place{info.Dict.Edition, dictBlock}] = n
			}
		}
		jobs = append(jobs, j)
	}
	return p.add(jobs)
}

// speaks reports whether a language is one of the reader's: the same, or of
// another region or script.
func (s *session) speaks(lang string) bool {
	base := func(l string) string { l, _, _ = strings.Cut(strings.ToLower(l), "-"); return l }
	return slices.ContainsFunc(s.Langs, func(l string) bool { return base(l) == base(lang) })
}

// Texts are put into the search index when so many or so many bytes have been
// opened: each time costs a sync of the disk.
const (
	indexBatch = 32
	indexBytes = 1 << 20
)

// text opens each article's text and puts it into the search index.
func (s *session) text(ctx context.Context, vol *bundle.Volume, entries []bundle.Entry) error {
	all := &bundle.MissingError{}
	var ready []library.Text
	bytes := 0
	index := func() error {
		if len(ready) == 0 {
			return nil
		}
		err := s.Library.IndexTexts(ctx, s.ch, ready)
		if err == nil {
			s.res.Articles += len(ready)
		}
		ready, bytes = ready[:0], 0
		return err
	}
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
		plain := safehtml.Text(a.Body)
		ready, bytes = append(ready, library.Text{ID: e.ID, Plain: plain}), bytes+len(plain)
		if len(ready) >= indexBatch || bytes >= indexBytes {
			if err := index(); err != nil {
				return err
			}
		}
	}
	if err := index(); err != nil {
		return err
	}
	return wantsOf(all)
}

// images makes sure that each article's pictures are in the library. They are not
// opened: every block was checked when it came, and whoever looks at a picture opens
// it.
func (s *session) images(vol *bundle.Volume, entries []bundle.Entry) error {
	var spans []bundle.Span
	for i := range entries {
		for j := range entries[i].Images {
			spans = append(spans, entries[i].Images[j].Span)
		}
	}
	wants, err := vol.MissingOf(bundle.LayerMedia, spans)
	if err != nil {
		return err
	}
	return wantsOf(&bundle.MissingError{Wants: wants})
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
