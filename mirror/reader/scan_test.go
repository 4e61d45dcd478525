package reader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/transporttest"
)

// silent is a network on which nobody answers; it counts who was asked.
type silent struct {
	transport.Network

	mu    sync.Mutex
	asked map[string]int
}

func (n *silent) Dial(_ context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[addr]++
	return &mute{closed: make(chan struct{})}, nil
}

type mute struct {
	net.Conn // nothing else is called
	once     sync.Once
	closed   chan struct{}
}

func (c *mute) Write(b []byte) (int, error)      { return len(b), nil }
func (c *mute) SetWriteDeadline(time.Time) error { return nil }
func (c *mute) Read([]byte) (int, error)         { <-c.closed; return 0, net.ErrClosed }
func (c *mute) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }

// A scan that is stopped goes on where it was; wrong lines are named, and said
// twice is tried once.
func TestScanResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := transporttest.NewChannel(t, "Kolokol")
		n := &silent{asked: map[string]int{}}
		r := inMemory(t, c, func(cfg *Config) { cfg.Network = n })
		if _, err := r.Scan(t.Context(), c.ID(), nil, nil); !errors.Is(err, ErrNoZone) {
			t.Errorf("without a zone: %v", err)
		}
		c2 := transporttest.NewChannel(t, "In DNS")
		if _, err := r.Add(t.Context(), c2.Invite(channel.Places{Zones: []channel.Zone{{Name: "n.example"}}}).String()); err != nil {
			t.Fatal(err)
		}
		const total = 400
		var b strings.Builder
		b.WriteString("\ufeff# a list\n\n")
		for i := range total {
			fmt.Fprintf(&b, "  10.0.%d.%d \r\n", i/256, i%256)
		}
		b.WriteString("10.0.0.1\n10.0.0.1:53\nresolver of mine\nhttp://dns.example\n" + strings.Repeat("x", 5000) + "\n")
		list := []byte(b.String())
		last := 0
		run := func(d time.Duration) (ScanResult, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return r.Scan(ctx, c2.ID(), list, func(s ScanStep) {
				if s.Total != total || s.Good != 0 || s.Done < last {
					t.Errorf("%+v", s)
				}
				last = s.Done
			})
		}
		first, err := run(10 * time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || first.Done < 100 || first.Done == total {
			t.Errorf("%+v, %v", first.ScanStep, err)
		}
		if first.Wrong != 3 || len(first.Lines) != 3 || !strings.HasPrefix(first.Lines[0], "line 405: ") {
			t.Errorf("wrong: %d %q", first.Wrong, first.Lines)
		}
		last = 0
		second, err := run(time.Hour)
		if err != nil || second.Done != total || second.Resumed < first.Done-10 || second.Resumed > first.Done || len(second.Found) != 0 {
			t.Errorf("%+v, %v", second, err)
		}
		// Of those that were under way some are tried again, nobody else.
		again := 0
		for _, k := range n.asked {
			again += k - 1
		}
		if len(n.asked) != total || again > 64+10 {
			t.Errorf("%d were tried, %d once more", len(n.asked), again)
		}
		last = 0
		if third, _ := run(time.Second); third.Resumed != 0 {
			t.Errorf("a list that was tried to its end goes on at %d", third.Resumed)
		}
		if err := r.ForgetResolvers(t.Context()); err != nil || len(r.Resolvers(t.Context())) != 0 {
			t.Errorf("%v", err)
		}
	})
}
