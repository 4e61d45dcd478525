package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

const (
	maxNetworks    = 16
	maxNetworkPath = 64
	// So much later than the path that brought the headlines here last time the
	// others begin: little, since it may be blocked today.
	leadTime = 25 * time.Millisecond
	// A path that has failed here this often in a row rests for firstAway, twice as
	// long for each time more, for longestAway at most: meanwhile it is asked after
	// awayLate only, when those that work here have not answered.
	awayFailures = 3
	firstAway    = 10 * time.Minute
	longestAway  = 6 * time.Hour
	awayLate     = time.Second
	// A liar rests for a day: until then it is asked last.
	liarRest = 24 * time.Hour
	liarLate = 5 * time.Second
	// Among paths of which nothing is known, TCP to a relay that may answer over
	// QUIC, and gateways, begin a little later; IPFS peers, which need more round
	// trips, later still.
	tcpDelay  = 25 * time.Millisecond
	ipfsDelay = 100 * time.Millisecond
)

// remembered is how a path did on one network. Only names of paths are kept, in
// the library, which is encrypted.
type remembered struct {
	Name string `json:"name"`
	// Head is how long its head took, Front how long it took until its headlines
	// were here; 0 if it never brought any here.
	Head  time.Duration `json:"head,omitempty"`
	Front time.Duration `json:"front,omitempty"`
	// Rate in bytes a second and Latency are one request's.
	Rate    float64       `json:"rate,omitempty"`
	Latency time.Duration `json:"latency,omitempty"`
	// Failures in a row; OK, Lied and At are when it last worked, lied, and was
	// asked.
	Failures int       `json:"failures,omitempty"`
	OK       time.Time `json:"ok,omitzero"`
	Lied     time.Time `json:"lied,omitzero"`
	At       time.Time `json:"at,omitzero"`
}

// network is what is remembered of one.
type network struct {
	ID    string       `json:"id"`
	Paths []remembered `json:"paths"`
}

// memory is all networks, the one that the device is on first.
type memory struct {
	nets []network
	// leads: some quiet path worked here before and goes first.
	leads bool
}

func memoryKey(ch channel.ID) string { return ch.String() + "/networks" }

// loadMemory reads what is remembered of a channel's paths, id's network first.
func loadMemory(ctx context.Context, lib Library, ch channel.ID, id string) (*memory, error) {
	m := &memory{}
	b, err := lib.Note(ctx, memoryKey(ch))
	if err != nil && !errors.Is(err, transport.ErrNotFound) {
		return nil, err
	}
	if err == nil && json.Unmarshal(b, &m.nets) != nil {
		m.nets = nil // a note of another version: start anew
	}
	here := network{ID: id}
	if i := slices.IndexFunc(m.nets, func(n network) bool { return n.ID == id }); i >= 0 {
		here = m.nets[i]
		m.nets = slices.Delete(m.nets, i, i+1)
	}
	m.nets = append([]network{here}, m.nets...)
	return m, nil
}

// path is what is remembered of one path here, the zero value if nothing is.
func (m *memory) path(name string) remembered {
	if m != nil {
		for _, r := range m.nets[0].Paths {
			if r.Name == name {
				return r
			}
		}
	}
	return remembered{Name: name}
}

// lead is, among the quietest that worked here last, the path that brought
// headlines soonest or, if none did, its head.
func (m *memory) lead(paths []transport.Path, now time.Time) (best transport.Path, ok bool) {
	for _, p := range paths {
		r := m.path(p.Name)
		if p.Heads == nil || r.Head == 0 || r.Failures > 0 || r.lately(now) {
			continue
		}
		if ok {
			b := m.path(best.Name)
			if c := cmp.Or(cmp.Compare(p.Hints.Patience, best.Hints.Patience), cmp.Compare(b.Front, 0)-cmp.Compare(r.Front, 0),
				cmp.Compare(r.Front, b.Front), cmp.Compare(r.Head, b.Head)); c >= 0 {
				continue
			}
		}
		best, ok = p, true
	}
	return best, ok
}

// lately reports whether the path lied within liarRest.
func (r remembered) lately(now time.Time) bool {
	return !r.Lied.IsZero() && now.Sub(r.Lied) < liarRest && r.Lied.Sub(now) < liarRest
}

// delay is how long after the start a path is to be asked: the one that worked
// here at once, whatever it is; without one the fast and quiet kinds first.
func (m *memory) delay(p transport.Path, paths []transport.Path, now time.Time) time.Duration {
	r := m.path(p.Name)
	if r.lately(now) {
		return liarLate
	}
	d := p.Hints.Patience
	switch p.Kind {
	case transport.KindTCP, transport.KindGateway:
		d = max(d, tcpDelay)
	case transport.KindIPFS:
		d = max(d, ipfsDelay)
	}
	lead, ok := m.lead(paths, now)
	if !ok {
		return d
	}
	if lead.Hints.Patience == 0 {
		m.leads = true
	}
	if lead.Name == p.Name {
		return 0
	}
	if away := r.away(); away > 0 && now.Sub(r.At) < away && r.At.Sub(now) < away {
		return max(d, awayLate)
	}
	return d + leadTime
}

// away is how long a path rests on this network after it was asked last.
func (r remembered) away() time.Duration {
	if r.Failures < awayFailures {
		return 0
	}
	return min(firstAway<<min(r.Failures-awayFailures, 8), longestAway)
}

// learn notes how the paths did in this sync.
func (s *session) learn() {
	now := s.now()
	here := &s.memory.nets[0]
	for _, a := range s.list {
		if !a.begun {
			continue
		}
		r := s.memory.path(a.Name)
		r.At = now
		switch {
		case s.report(a.Path).State == stateLied:
			r.Lied, r.Failures = now, r.Failures+1
		case a.answered && (a.err == nil || s.report(a.Path).State == stateOK):
			r.OK, r.Failures, r.Lied = now, 0, time.Time{}
			if r.Head == 0 {
				r.Head = a.took
			}
			r.Head = max((r.Head+a.took)/2, time.Millisecond)
			if a.Name == s.res.Delivered["headlines"] && s.res.ToHeadlines > 0 {
				r.Front = max(mean(r.Front, s.res.ToHeadlines-a.at.Sub(s.start)), time.Millisecond)
			}
		case errors.Is(a.err, ErrBudget): // it says nothing of the path
		case a.ended || time.Since(a.at) > max(3*r.Head, maxListen):
			r.Failures++
		}
		if l := s.crew.known(a.lane); l.measured {
			r.Rate, r.Latency = l.rate, l.latency
		}
		here.Paths = slices.DeleteFunc(here.Paths, func(o remembered) bool { return o.Name == r.Name })
		here.Paths = append(here.Paths, r)
	}
	slices.SortStableFunc(here.Paths, func(a, b remembered) int { return b.At.Compare(a.At) })
	here.Paths = here.Paths[:min(len(here.Paths), maxNetworkPath)]
	s.memory.nets = s.memory.nets[:min(len(s.memory.nets), maxNetworks)]
}

// saveMemory stores what was learned. A sync that was cancelled learned nothing
// about those that had not answered yet.
func (s *session) saveMemory(ctx context.Context) error {
	if s.memory == nil || s.asks == nil || ctx.Err() != nil && s.res.ToHead == 0 {
		return nil
	}
	s.learn()
	b, err := json.Marshal(s.memory.nets)
	if err != nil {
		return err
	}
	return s.Library.SetNote(context.WithoutCancel(ctx), memoryKey(s.ch), b)
}

// Pardon forgets that paths of a channel have lied, on whatever network, so that the
// next sync asks them as any other: for who knows that they are in order again. Call
// it while no sync of the channel is under way.
func Pardon(ctx context.Context, lib Library, ch channel.ID) error {
	m, err := loadMemory(ctx, lib, ch, "")
	if err != nil {
		return err
	}
	for _, n := range m.nets {
		for i := range n.Paths {
			n.Paths[i].Lied, n.Paths[i].Failures = time.Time{}, 0
		}
	}
	b, err := json.Marshal(m.nets)
	if err != nil {
		return err
	}
	return lib.SetNote(ctx, memoryKey(ch), b)
}
