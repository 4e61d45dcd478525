package censorlab

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"tamizdat/internal/censor"
)

// maxTrace bounds what a Trace keeps: the first events of a run tell the most.
const maxTrace = 200

// Trace keeps what a censor did, for a failure to print.
type Trace struct {
	mu      sync.Mutex
	events  []censor.Event
	dropped int
}

// Add keeps one event.
func (t *Trace) Add(e censor.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == maxTrace {
		t.dropped++
		return
	}
	t.events = append(t.events, e)
}

// String lists the events with their times since start.
func (t *Trace) String(start time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, e := range t.events {
		fmt.Fprintf(&b, "  %8.3f s  %-12s %-8s %s %s %d\n", e.At.Sub(start).Seconds(), e.Rule, e.Action, e.Proto, e.To, e.Size)
	}
	if t.dropped > 0 {
		fmt.Fprintf(&b, "  and %d more\n", t.dropped)
	}
	return b.String()
}
