package dns

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// maxFacts is how many resolvers a pool remembers of one network, the best.
	maxFacts = 128
	// Who was good is remembered for a month after that, who never was for a week
	// after he was asked.
	keepGood = 30 * 24 * time.Hour
	keepBad  = 7 * 24 * time.Hour
	// smallAgain is how long it is remembered that a resolver carries Small records
	// only: then it gets another chance at once, sooner it gets one after smallFor.
	smallAgain = 24 * time.Hour
	// saveFacts is how often they are stored at most.
	saveFacts = 30 * time.Second
	// trustLess is how much sooner than others a resolver counts as gone of which we
	// know only from an earlier run.
	trustLess = 4
)

// maxKept is how many bytes a Keeper keeps under one key.
const maxKept = 64 << 10

// Keeper keeps small values from one run to the next, and none of them lets
// anybody in; what is in them says which resolvers somebody asks, so they should be
// encrypted. Its methods may be called at once and don't wait for a disk; a value
// that is lost costs time only.
type Keeper interface {
	// Load returns what was last stored under key, nil if nothing was.
	Load(key string) []byte
	// Store keeps at most 64 KiB under key; nil deletes it.
	Store(key string, value []byte)
}

// PoolConfig configures a Pool. Network is required.
type PoolConfig struct {
	Network transport.Network
	// Trust says by what certificates of resolvers asked over TLS are checked. The
	// zero value is what everybody uses.
	Trust gateway.Trust
	// Hurry lifts the limit of 10 queries a second with a burst of 32 for each
	// resolver. Some resolvers refuse faster clients, and it stands out.
	Hurry bool
	// Keeper, if not nil, keeps what was learned of the resolvers under Key, which
	// should be another one for each network: resolvers are often only for who is
	// on theirs.
	Keeper Keeper
	Key    string
	// Without is for the censor lab.
	Without Without
}

// Pool is what clients of several zones share: how fast each resolver may be
// asked, by all of them together, what it was found to carry, and the records that
// came. Its methods may be called at once. Without Close what was learned in the last half minute may be
// forgotten, and a spare may be asked for some seconds more.
type Pool struct {
	cfg  PoolConfig
	kept *kept

	// life ends with Close, and with it what nobody waits for.
	life   context.Context
	end    context.CancelFunc
	probes sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*standing
	order  []string // of known, as they came
	dirty  bool
	saved  time.Time
	closed bool
}

// NewPool makes a pool, which remembers what cfg.Keeper has.
func NewPool(cfg PoolConfig) *Pool {
	p := &Pool{cfg: cfg, kept: newKept(), known: map[string]*standing{}}
	p.life, p.end = context.WithCancel(context.Background())
	for _, f := range loadFacts(cfg.Keeper, cfg.Key) {
		p.put(f)
	}
	return p
}

func (p *Pool) put(f Facts) *standing {
	s := p.newStanding(f)
	p.known[s.Resolver] = s
	p.order = append(p.order, s.Resolver)
	return s
}

// standing returns what is known of a resolver.
func (p *Pool) standing(a Address) *standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := a.String()
	if s := p.known[key]; s != nil {
		return s
	}
	return p.put(Facts{Resolver: key})
}

// Found are the best n of the resolvers that a Scan has found on this network, as
// ParseResolver takes them.
func (p *Pool) Found(n int) []string {
	var out []string
	for _, f := range p.Facts() {
		if f.Found && !f.OK.IsZero() && len(out) < n {
			out = append(out, f.Resolver)
		}
	}
	return out
}

// Facts are what is known of all resolvers, the best first.
func (p *Pool) Facts() []Facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts()
}

func (p *Pool) facts() []Facts {
	var out []Facts
	for _, key := range p.order {
		if s := p.known[key]; !s.At.IsZero() || s.Found {
			out = append(out, s.Facts)
		}
	}
	return Best(out)
}

// Close ends what is asked of spares, waits for their sockets to be closed, and
// stores what was learned since the last time. Clients may go on, without spares.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end()
	p.probes.Wait()
	p.save(0)
	return nil
}

// probing reports whether a spare may still be asked; p.probes.Done must follow then.
func (p *Pool) probing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.probes.Add(1)
	return true
}

// save stores what was learned, if that was not done lately.
func (p *Pool) save(lately time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dirty || p.cfg.Keeper == nil || time.Since(p.saved) < lately {
		return
	}
	storeFacts(p.cfg.Keeper, p.cfg.Key, p.facts())
	p.dirty, p.saved = false, time.Now()
}

// Facts is what is known of one resolver on one network.
type Facts struct {
	// Resolver is as ParseResolver takes it.
	Resolver string `json:"resolver"`
	// Found: a Scan found it, nobody named it.
	Found bool `json:"found,omitempty"`
	// Size is the length in bytes of the longest record that came through over
	// datagrams, Stream of the longest over a stream.
	Size   int `json:"size,omitempty"`
	Stream int `json:"stream,omitempty"`
	// Small is when Large records were last found not to come through; zero if
	// they do.
	Small time.Time `json:"small,omitzero"`
	// Name is the longest name in characters, random labels and zone included, that
	// was answered; Drops is how long the shortest is that is not, where shorter ones
	// are, 0 if none is known, and Dropped when that was found. For ten minutes it is
	// asked for shorter ones only.
	Name    int       `json:"name,omitempty"`
	Drops   int       `json:"drops,omitempty"`
	Dropped time.Time `json:"dropped,omitzero"`
	// Recases: it answers with other letters in the name than it was asked with. It is
	// asked in lower case only, then.
	Recases bool `json:"recases,omitempty"`
	// RTT is how long an answer takes, Rate the most good answers that came in one
	// second. Limit is how many questions a second it is asked at most since it refused
	// more, 0 if it never did.
	RTT   time.Duration `json:"rtt,omitempty"`
	Rate  int           `json:"rate,omitempty"`
	Limit int           `json:"limit,omitempty"`
	// Good and Lost count questions with and without a good answer; both are halved
	// now and then, so that the old weighs less.
	Good int `json:"good,omitempty"`
	Lost int `json:"lost,omitempty"`
	// OK is when it was last good, At when it was last asked; it is left alone until
	// Cool, since it could not be reached.
	OK   time.Time `json:"ok,omitzero"`
	At   time.Time `json:"at,omitzero"`
	Cool time.Time `json:"cool,omitzero"`
}

// maxCounted is when counts are halved.
const maxCounted = 200

// Score says what a resolver is worth, to be compared: payload bytes that one
// question brings, a good many of which can be under way at once, less where
// answers are slow. 0 if it never was good.
func (f Facts) Score() float64 {
	if f.OK.IsZero() {
		return 0
	}
	payload := record.Large.Payload()
	if !f.Small.IsZero() {
		payload = record.Small.Payload()
	}
	share := float64(f.Good+1) / float64(f.Good+f.Lost+2)
	return share * float64(payload) / (1 + f.RTT.Seconds())
}

// fresh reports whether the facts are still of use.
func (f Facts) fresh(now time.Time) bool {
	return now.Sub(f.OK) < keepGood || now.Sub(f.At) < keepBad
}

// Best sorts facts, the best first, and leaves no more than may be kept.
func Best(fs []Facts) []Facts {
	slices.SortStableFunc(fs, func(a, b Facts) int {
		switch x, y := a.Score(), b.Score(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return fs[:min(len(fs), maxFacts)]
}

// loadFacts reads what a pool stored. What can't be read counts as nothing.
func loadFacts(m Keeper, key string) []Facts {
	if m == nil {
		return nil
	}
	var fs []Facts
	if json.Unmarshal(m.Load(key), &fs) != nil || len(fs) > maxFacts {
		return nil // of another version: start anew
	}
	now, seen := time.Now(), map[string]bool{}
	return slices.DeleteFunc(fs, func(f Facts) bool {
		a, err := ParseResolver(f.Resolver)
		twice := seen[f.Resolver]
		seen[f.Resolver] = true
		return err != nil || a.String() != f.Resolver || twice || !f.fresh(now) || f.Good < 0 || f.Lost < 0 || f.RTT < 0 || f.Limit < 0 || f.Drops < 0
	})
}

// storeFacts stores the best, and returns those for which there was room.
func storeFacts(m Keeper, key string, fs []Facts) []Facts {
	fs = Fit(fs, maxKept)
	b, err := json.Marshal(fs)
	if err != nil {
		return nil // can't be: times of this clock, and numbers
	}
	m.Store(key, b)
	return fs
}

// Fit leaves off the last of the facts until they take no more than room bytes as
// JSON. A resolver asked over HTTPS may have a path of a kilobyte.
func Fit(fs []Facts, room int) []Facts {
	room -= len("[]")
	for i := range fs {
		b, err := json.Marshal(fs[i])
		if err != nil {
			return fs[:i] // can't be, as above
		}
		if room -= len(b) + len(","); room < 0 {
			return fs[:i]
		}
	}
	return fs
}
