package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Meter shows the progress of several transfers at once: on a terminal one line
// that is drawn again, elsewhere one plain line when a transfer ends.
type Meter struct {
	out   io.Writer
	live  bool
	start time.Time

	mu    sync.Mutex
	order []string
	rows  map[string]row
	drawn time.Time
	dirty bool
}

type row struct{ held, total int64 }

// NewMeter writes to out.
func NewMeter(out io.Writer) *Meter {
	f, ok := out.(*os.File)
	return &Meter{out: out, live: ok && term.IsTerminal(int(f.Fd())), start: time.Now(), rows: map[string]row{}}
}

// redraw is how often a terminal is drawn at most.
const redraw = 100 * time.Millisecond

// Set says how far the transfer of that name is. It may be called from several
// goroutines.
func (m *Meter) Set(name string, held, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.rows[name]
	if !ok {
		m.order = append(m.order, name)
	}
	m.rows[name] = row{held, total}
	if !m.live {
		if held == total && total > 0 && old.held != total {
			fmt.Fprintf(m.out, "%s: %s\n", name, Bytes(total))
		}
		return
	}
	if time.Since(m.drawn) >= redraw || held == total {
		m.draw()
	}
}

func (m *Meter) draw() {
	var held, total int64
	running := ""
	for _, n := range m.order {
		r := m.rows[n]
		held, total = held+r.held, total+r.total
		if r.held < r.total && running == "" {
			running = n
		}
	}
	if total == 0 {
		return
	}
	rate := float64(held) / max(time.Since(m.start).Seconds(), 0.001)
	left := time.Duration(float64(total-held) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(m.out, "\r\x1b[K%3d %%  %s of %s  %s/s  %s left  %s", held*100/total, Bytes(held), Bytes(total), Bytes(int64(rate)), left, running)
	m.drawn, m.dirty = time.Now(), true
}

// Done ends the line that is drawn.
func (m *Meter) Done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirty {
		fmt.Fprint(m.out, "\r\x1b[K")
		m.dirty = false
	}
}

// Stage shows one line of a longer job, with how much is still missing. Without
// a terminal it says nothing.
func (m *Meter) Stage(text string, missing int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.live {
		return
	}
	if missing > 0 {
		text += fmt.Sprintf(", %d to go", missing)
	}
	fmt.Fprintf(m.out, "\r\x1b[K%s", text)
	m.dirty = true
}
