package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"tamizdat/internal/cli"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

// dataFlags bound what a command fetches.
type dataFlags struct {
	Limit    size `help:"Fetch no more than this in one go and channel, say 5MB." placeholder:"SIZE"`
	LimitDay size `help:"Fetch no more than this in a day." name:"limit-day" placeholder:"SIZE"`
	Metered  bool `help:"Data costs money here: no images, and 2 MB in one go unless --limit says otherwise."`
}

// meteredLimit is what --metered lets one sync receive.
const meteredLimit = 2_000_000

// leastLimit is the least that a limit may be: below newsync.LeastBytes a sync
// may bring nothing, however often it is tried.
const leastLimit = 150_000

func (d dataFlags) check() error {
	if d.Limit > 0 && d.Limit < leastLimit || d.LimitDay > 0 && d.LimitDay < leastLimit {
		return cli.Usage("with such a limit nothing could come; 150kB at least")
	}
	return nil
}

// limits sets what a command may fetch, and in which languages first.
func (e *env) limits(d dataFlags, l langFlags) error {
	e.data, e.langs = d, l
	if err := d.check(); err != nil {
		return err
	}
	return l.check()
}

func (d dataFlags) limit() int64 {
	if d.Metered && d.Limit == 0 {
		return meteredLimit
	}
	return int64(d.Limit)
}

// size is a number of bytes as people write it: 500kB, 5MB, 1.5 GB.
type size int64

var errSize = errors.New("a size is a number and a unit, as in 500kB, 5MB or 1GB")

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	t := strings.ToLower(strings.ReplaceAll(string(text), " ", ""))
	t = strings.TrimSuffix(t, "b")
	unit := 1.0
	if t != "" {
		if i := strings.IndexByte("kmgt", t[len(t)-1]); i >= 0 {
			unit, t = math.Pow(1000, float64(i+1)), t[:len(t)-1]
		}
	}
	if strings.Trim(t, "0123456789.") != "" {
		return errSize
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || n*unit < 1 || n*unit >= math.MaxInt64 {
		return errSize
	}
	*s = size(n * unit)
	return nil
}

// progress shows a sync on a terminal: what comes, from where, how fast, how long.
type progress struct {
	meter *cli.Meter
	out   io.Writer
	told  bool // what the texts take
	stage string
	from  []string // paths that brought something of this stage
}

var stageNames = map[string]string{"head": "asking what is newest", "headlines": "headlines", "text": "texts", "images": "images", "rest": "the rest"}

// heard is the engine's Progress.
func (p *progress) heard(n newsync.Progress) {
	if n.Stage != p.stage {
		p.stage, p.from = n.Stage, nil
		p.told = p.told && n.Stage != "head" // another channel
	}
	if n.Event == newsync.EventBrought {
		p.from = append(p.from, n.Path)
	}
	if n.Cost.Queries > 0 && !p.told {
		p.told = true
		p.meter.Done()
		fmt.Fprintf(p.out, "only DNS works: the %s take %s\n", stageNames[n.Stage], costWords(n.Cost))
	}
	p.meter.Stage(p.line(n), n.Missing)
}

// costWords say what something takes over DNS.
func costWords(c transport.Cost) string {
	took := fmt.Sprintf("%d seconds", int(math.Ceil(c.Time.Seconds())))
	if c.Time >= 2*time.Minute {
		took = fmt.Sprintf("%d minutes", int(math.Ceil(c.Time.Minutes())))
	}
	return fmt.Sprintf("about %d questions, %s up and %s down, %s", c.Queries, cli.Bytes(c.Up), cli.Bytes(c.Down), took)
}

func (p *progress) line(n newsync.Progress) string {
	line := stageNames[n.Stage]
	if line == "" {
		line = n.Stage
	}
	if n.Bytes > 0 {
		line += ", " + cli.Bytes(n.Bytes)
	}
	if len(p.from) > 0 {
		line += " from " + p.from[0]
		if more := len(p.from) - 1; more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
	}
	if n.Rate > 0 {
		line += ", " + cli.Bytes(n.Rate) + "/s"
	}
	line += fmt.Sprintf(", %d s", int(n.At.Seconds()))
	if n.Cost.Queries > 0 {
		return line + ", " + costWords(n.Cost) + " left"
	}
	if n.Left >= time.Second {
		line += fmt.Sprintf(", about %d s left", int(n.Left.Seconds()))
	}
	return line
}
