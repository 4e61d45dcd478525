package sync

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

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
	// Source is the path's (see transport.Path).
	Source string `json:"source,omitempty"`
	// State is "ok", "failed", "lied", "slow" or "idle". A path that lied is not used
	// any more in its sync, and for a day only when all others have been asked;
	// if it then answers truly it is a path like any other.
	State string `json:"state"`
	// Error is why, in one line, if it failed or lied.
	Error string `json:"error,omitempty"`
	// Blocks and Bytes are what it brought: in one sync in a Result, in all of
	// them in Reports.
	Blocks int       `json:"blocks"`
	Bytes  int64     `json:"bytes"`
	At     time.Time `json:"at"`
	// Head is the tree size of the newest head that this path showed, 0 for none,
	// Tree that tree's hash (its first bytes in hex), HeadTime when that head was signed. Seen is when the path last answered, with
	// that head or that it has nothing newer than what was held, by the reader's
	// clock. Reports carry them on from sync to sync.
	Head     uint64    `json:"head,omitempty"`
	Tree     string    `json:"tree,omitempty"`
	HeadTime time.Time `json:"head_time,omitzero"`
	Seen     time.Time `json:"seen,omitzero"`
	// Past: the path has not been needed since, and its source has done as it should
	// over another one. What State and Error say of it is an old story.
	Past bool `json:"past,omitempty"`
}

// Older reports whether the path answered last with an older head than is held. It
// may be innocent: nobody has told it yet.
func (r PathReport) Older() bool { return r.State == stateOK && r.Error == laggard }

// Forked reports whether the path is called a liar since it showed another history that is
// signed with the channel's keys: who lies then is not known.
func (r PathReport) Forked() bool { return r.State == stateLied && r.Error == channel.ErrFork.Error() }

// excuses reports whether what a path did in this sync makes an old story of what
// another one to the same source did before. That there is nothing newer can be said by
// who lies with every byte.
func (r PathReport) excuses(o PathReport) bool {
	return r.State == stateOK && r.Error == "" && !r.Seen.IsZero() && sharesSource(r, o) &&
		(o.State != stateLied || r.Head > 0 || r.Blocks > 0)
}

func (s *session) report(p transport.Path) *PathReport {
	r, ok := s.reports[p.Name]
	if !ok {
		r = &PathReport{Name: p.Name, Kind: p.Kind, Source: p.Source, State: stateIdle}
		s.reports[p.Name] = r
	}
	return r
}

// treeMark is a head's tree as reports have it.
func treeMark(h *channel.Head) string { return hex.EncodeToString(h.Tree[:8]) }

// pathsKey is the note that holds how each path did last.
func pathsKey(ch channel.ID) string { return ch.String() + "/paths" }

// saveReports merges this sync's reports into those of before: a path that was
// not needed keeps its last state.
func (s *session) saveReports(ctx context.Context) error {
	return s.storeReports(ctx, s.res.Paths)
}

// storeReports may be called several times in a sync; what it adds to is always
// what was stored before the sync.
func (s *session) storeReports(ctx context.Context, reports []PathReport) (err error) {
	if s.old == nil {
		if s.old, err = Reports(ctx, s.Library, s.ch); err != nil {
			return err
		}
		if s.old == nil {
			s.old = []PathReport{} // read, and none there
		}
	}
	old := s.old
	if s.forgetHeads {
		old = slices.Clone(old)
		for i := range old {
			old[i].Head, old[i].Tree, old[i].HeadTime, old[i].Seen = 0, "", time.Time{}, time.Time{}
		}
	}
	merged := slices.Clone(reports)
	for i, r := range merged {
		j := slices.IndexFunc(old, func(o PathReport) bool { return o.Name == r.Name })
		switch {
		case j < 0:
		case r.State == stateIdle:
			merged[i] = old[j]
			merged[i].Source = r.Source // more may be known of it by now
			merged[i].Past = merged[i].Past || slices.ContainsFunc(reports, func(o PathReport) bool { return o.excuses(merged[i]) })
		default:
			merged[i].Blocks += old[j].Blocks
			merged[i].Bytes += old[j].Bytes
			if r.Head == 0 { // "nothing newer" shows no head
				merged[i].Head, merged[i].Tree, merged[i].HeadTime = old[j].Head, old[j].Tree, old[j].HeadTime
			}
			if r.Seen.IsZero() {
				merged[i].Seen = old[j].Seen
			}
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

// joinPaths is one line: a reason and each path's failure.
func joinPaths(reason error, failures []error) error {
	for _, f := range failures {
		reason = fmt.Errorf("%w; %w", reason, f)
	}
	return reason
}
