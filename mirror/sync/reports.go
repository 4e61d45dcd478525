package sync

import (
	"context"
	"encoding/json"
	"errors"
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

func (s *session) report(p transport.Path) *PathReport {
	r, ok := s.reports[p.Name]
	if !ok {
		r = &PathReport{Name: p.Name, Kind: p.Kind, State: stateIdle}
		s.reports[p.Name] = r
	}
	return r
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
