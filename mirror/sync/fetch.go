package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
)

const (
	// How long what is on its way may still land when the sync turns.
	landTime = time.Second
	// What has arrived is stored in batches: a call of the library costs a sync
	// of the disk. Nothing waits for pictures one by one, so their batches are so
	// many bytes, or what has come in putTime; with the blocks on their way from
	// the paths, twice as much is in memory.
	putBytes = 8 << 20
	putBatch = putBytes / bundle.MaxBlock
	putTime  = 500 * time.Millisecond
	// maxRounds bounds how often a job may ask for more: directory, node, chunk.
	maxRounds = 8
)

// Why a fetch ended early; never seen outside.
var (
	errTurned = errors.New("a newer head came")
	errStash  = errors.New("it is not among what came with the opening")
)

// until calls try, fetching what it misses, until it does not.
func (s *session) until(ctx context.Context, stage string, ed transport.Edition, try func() error) error {
	j := &job{ed: ed, stage: stage, try: try}
	if stage == "rest" {
		j.rank = rankRest
	}
	if err := s.fetch(ctx, stage, []*job{j}, nil); err != nil {
		return err
	}
	return j.err
}

// fetch works on jobs until each is done or has its err, from every path that
// delivers. more, if not nil, is called now and then for jobs that can be done
// as well by now. Its own error ends the sync (the caller's, the library's,
// ErrBudget) or is errTurned.
func (s *session) fetch(ctx context.Context, stage string, jobs []*job, more func() []*job) error {
	w := &work{session: s, stage: stage, more: more, turned: s.turns, board: newBoard(s.crew, &s.purse), out: make(chan arrival, putBatch)}
	if err := w.begin(ctx, jobs); err != nil {
		return err
	}
	if n, _ := w.board.missing(""); n == 0 {
		return nil
	}
	if s.offline {
		return errStash
	}
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := make(chan struct{})
	w.workers.Go(func() { <-running })
	w.hire(ctx)
	go func() { w.workers.Wait(); close(w.out) }()
	err := w.run(ctx)
	w.board.stop()
	cancel()
	close(running)
	if late := w.drain(ctx); err == nil {
		err = late
	}
	switch {
	case caller.Err() != nil:
		return caller.Err()
	case err != nil:
		return err
	case w.board.starved:
		return ErrBudget
	}
	return nil
}

// hire lets those paths work that do not yet.
func (w *work) hire(ctx context.Context) {
	for _, p := range w.paths {
		l := w.lane(p)
		if p.Blocks == nil || w.crew.out(l) || slices.Contains(w.board.lanes, l) {
			continue
		}
		w.board.join(l)
		for range max(1, l.Hints.Parallel) {
			w.workers.Go(func() { w.carry(ctx, l) })
		}
	}
}

// drain lets the workers end, and keeps what they still bring.
func (w *work) drain(ctx context.Context) (err error) {
	byEdition := map[uint64][]bundle.Checked{}
	for a := range w.out {
		w.take(a)
	}
	for _, a := range w.ready {
		byEdition[a.want.ed.Number] = append(byEdition[a.want.ed.Number], a.block)
	}
	for n, blocks := range byEdition {
		if put := w.Library.PutBlocks(context.WithoutCancel(ctx), w.ch, n, blocks); err == nil {
			err = put
		}
	}
	return err
}

// work is one fetch: the session's side of a board.
type work struct {
	*session
	stage   string
	jobs    []*job
	more    func() []*job
	board   *board
	turned  int // session.turns when it began
	out     chan arrival
	workers gosync.WaitGroup
	// ready is what waits to be stored: so many bytes, since then; urgent, that
	// jobs wait for some of it.
	ready  []arrival
	bytes  int
	since  time.Time
	urgent bool
}

// arrival is a block, an event, or the end of a batch.
type arrival struct {
	lane  *lane
	block bundle.Checked
	want  *want
	event string
	err   error
	vain  int64
}

// begin puts jobs on the board, and what follows from those that need nothing.
func (w *work) begin(ctx context.Context, jobs []*job) error {
	for _, j := range jobs {
		w.jobs = append(w.jobs, j)
		w.board.open(j, 1)
	}
	for _, j := range jobs {
		if err := w.advance(ctx, j); err != nil {
			return err
		}
	}
	if w.more == nil {
		return nil
	}
	if jobs = w.more(); len(jobs) > 0 {
		return w.begin(ctx, jobs)
	}
	return nil
}

// advance lets a job go on whose blocks are here.
func (w *work) advance(ctx context.Context, j *job) error {
	for !j.done && j.open == 0 {
		err := j.try()
		var m *bundle.MissingError
		switch {
		case !errors.As(err, &m):
			return w.finish(ctx, j, err)
		case j.rounds >= maxRounds:
			return w.finish(ctx, j, fmt.Errorf("%w: blocks vanish as fast as they come", ErrIncomplete))
		default:
			j.rounds++
			w.board.add(j, m.Wants)
			if err := w.stashed(ctx); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// finish ends a job and begins what follows from it.
func (w *work) finish(ctx context.Context, j *job, err error) error {
	j.done, j.err = true, err
	w.board.open(j, -1)
	if err != nil || j.then == nil {
		return ctx.Err()
	}
	next, err := j.then()
	if err != nil {
		j.err = err
	}
	return w.begin(ctx, next)
}

// run puts what arrives into the library and lets the jobs go on, until the
// board is over. Meanwhile it hears what the asks say: when a better front page
// is here it is shown at once, and when one has to be fetched the fetch ends.
func (w *work) run(ctx context.Context) error {
	w.tellMissing()
	var land <-chan time.Time // set when the sync has turned
	for {
		if w.board.over() && len(w.out) == 0 {
			if len(w.ready) > 0 {
				if err := w.store(ctx); err != nil {
					return err
				}
				continue
			}
			if land != nil {
				return errTurned
			}
			return w.end(ctx)
		}
		t, wait := w.next()
		if t != nil && land == nil {
			here := w.frontHere(t.head)
			switch {
			case here && !t.online && w.working == nil:
				w.offline = true
				w.show(ctx, t)
				w.offline = false
				if t.online || w.turned != w.turns {
					return errTurned
				}
				w.board.stop()
				land = time.After(landTime)
			case here || w.working == nil:
				return errTurned // what is being fetched is no longer the best
			}
		}
		if t != nil || land != nil {
			wait = -1
		}
		select {
		case a, ok := <-w.out:
			if !ok {
				return ctx.Err()
			}
			if w.takeAll(a); w.due() > 0 {
				continue
			}
			if err := w.store(ctx); err != nil {
				return err
			}
		case <-after(w.due()):
			if err := w.store(ctx); err != nil {
				return err
			}
		case h := <-w.asks.out:
			if err := w.hear(ctx, h); err != nil {
				return err
			}
			if w.turned != w.turns {
				return errTurned // what is fetched is of a history that counts for nothing
			}
			w.hire(ctx)
			if err := w.stashed(ctx); err != nil {
				return err
			}
			if err := w.begin(ctx, nil); err != nil {
				return err
			}
		case <-after(wait):
		case <-land:
			return errTurned
		case <-w.board.landed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end gives every job that is not done its error. What has arrived of it is of
// use all the same.
func (w *work) end(ctx context.Context) error {
	n, _ := w.board.missing("")
	for _, j := range w.jobs {
		if j.done {
			continue
		}
		err := j.try()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && errors.As(err, new(*bundle.MissingError)) {
			err = w.incomplete(n)
		}
		j.done, j.err = true, err
	}
	return nil
}

func (s *session) incomplete(n int) error {
	err := fmt.Errorf("%w: %d blocks are missing", ErrIncomplete, n)
	for _, p := range s.paths {
		if r := s.report(p); r.Error != "" {
			err = fmt.Errorf("%w; %s: %s", err, p.Name, r.Error)
		}
	}
	return err
}

// take puts an arrival with those that wait to be stored.
func (w *work) take(a arrival) {
	if w.note(a); a.want == nil {
		return
	}
	if len(w.ready) == 0 {
		w.since = time.Now()
	}
	w.ready = append(w.ready, a)
	w.bytes += len(a.block.Data())
	w.urgent = w.urgent || a.want.rank < rankImages || a.want.Node
}

// due is when what is ready is to be stored, negative for never.
func (w *work) due() time.Duration {
	switch {
	case len(w.ready) == 0:
		return -1
	case w.urgent, w.bytes >= putBytes:
		return 0
	}
	return max(0, time.Until(w.since.Add(putTime)))
}

// takeAll takes an arrival and what else is there already, as much as is stored at once.
func (w *work) takeAll(a arrival) {
	w.take(a)
	for w.bytes < putBytes {
		select {
		case a, ok := <-w.out:
			if !ok {
				return
			}
			w.take(a)
		default:
			return
		}
	}
}

// store puts what is ready into the library, in one transaction for each edition.
func (w *work) store(ctx context.Context) error {
	ready := w.ready
	w.ready, w.bytes, w.urgent = nil, 0, false
	return w.put(ctx, ready)
}

// put stores blocks and lets the jobs go on that waited for them.
func (w *work) put(ctx context.Context, ready []arrival) error {
	for len(ready) > 0 {
		ed := ready[0].want.ed
		var blocks []bundle.Checked
		var rest []arrival
		for _, a := range ready {
			if a.want.ed.Number != ed.Number {
				rest = append(rest, a)
				continue
			}
			blocks = append(blocks, a.block)
			a.want.stored = true
			for _, j := range a.want.jobs {
				j.open--
			}
		}
		if err := w.Library.PutBlocks(context.WithoutCancel(ctx), ed.Channel, ed.Number, blocks); err != nil {
			return err
		}
		ready = rest
	}
	w.tellMissing()
	for _, j := range slices.Clone(w.jobs) {
		if err := w.advance(ctx, j); err != nil {
			return err
		}
	}
	return w.begin(ctx, nil)
}

// stashed takes what opening answers brought along.
func (w *work) stashed(ctx context.Context) error {
	if ready := w.fromStash(); len(ready) > 0 {
		return w.put(ctx, ready)
	}
	return nil
}

func (w *work) fromStash() (ready []arrival) {
	for c, st := range w.stash {
		if want := w.board.arrived(c, nil, 0); want != nil {
			w.credit(want.stage, st.lane, st.block.Data())
			ready = append(ready, arrival{block: st.block, want: want})
			delete(w.stash, c)
		}
	}
	return ready
}

func (w *work) tellMissing() {
	for _, j := range w.jobs {
		if !j.done && j.rank != rankOlder {
			w.stage = j.stage
			break
		}
	}
	n, bytes := w.board.missing(w.stage)
	if w.stage == "text" {
		bytes = w.left()
	}
	w.tell(w.stage, n, bytes)
}

// note writes one arrival into the reports.
func (w *work) note(a arrival) {
	w.waste(a.lane, a.vain)
	r := w.report(a.lane.Path)
	if a.event == EventDoubled {
		w.event(w.stage, EventDoubled, a.lane.Path)
		return
	}
	switch {
	case a.want != nil:
		if r.State != stateLied {
			r.State, r.Error = stateOK, ""
		}
		r.At = w.now()
		w.credit(a.want.stage, a.lane, a.block.Data())
	case errors.Is(a.err, bundle.ErrBlock):
		w.lied(a.lane, a.err)
	case a.err != nil && r.State != stateLied:
		r.State, r.Error, r.At = stateFailed, a.err.Error(), w.now()
		w.event(w.stage, a.event, a.lane.Path)
		w.log.Info("path failed", "path", a.lane.Kind, "error", a.err)
	}
}
