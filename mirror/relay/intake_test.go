package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// cutting closes every connection after so many bytes were written in all.
type cutting struct {
	only
	left atomic.Int64
}

func (c *cutting) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.left.Load() <= 0 {
		return nil, transport.ErrBlocked
	}
	conn, err := c.only.Dial(ctx, network, address)
	return &cutConn{conn, c}, err
}

type cutConn struct {
	net.Conn
	c *cutting
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.c.left.Add(-int64(len(b))) < 0 {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func TestTornUploadResumes(t *testing.T) {
	p := newPress(t, "torn")
	s := p.edition(t, 1_900_000)
	r := start(t, Config{})
	tg := target(t, r, p.ch)
	cut := &cutting{only: only{tcp: true}}
	cut.left.Store(int64(len(s.car)) * 3 / 4)
	if err := pusher(t, cut, tg).Publish(t.Context(), s.source(), nil); err == nil || errors.Is(err, transport.ErrRefused) {
		t.Fatalf("cut off: %v", err)
	}
	if h, _ := r.store.Head(p.ch); h != nil {
		t.Fatal("half an edition is visible")
	}
	// What was acknowledged survives the relay as well.
	r.Close()
	r = start(t, Config{Dir: r.cfg.Dir})
	first := int64(-1)
	err := pusher(t, &only{tcp: true}, target(t, r, p.ch)).Publish(t.Context(), s.source(), func(held, _ int64) {
		if first < 0 {
			first = held
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if first < 1<<20 {
		t.Errorf("resumed at byte %d, a whole part was acknowledged", first)
	}
	checkBlocks(t, paths(t, &only{tcp: true}, target(t, r, p.ch).Relay(p.batch))[1], p, s)
	if parts, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "incoming", "*", "*.part")); len(parts) > 0 {
		t.Errorf("left behind: %v", parts)
	}
}

func TestBadEditionsAreRefused(t *testing.T) {
	p, other := newPress(t, "good"), newPress(t, "bad")
	ok := p.edition(t, 100_000)
	foreign := other.edition(t, 1000)
	at := func(needle []byte) []byte {
		i := bytes.Index(ok.car, needle)
		if i < 0 {
			t.Fatal("not in the CAR")
		}
		b := bytes.Clone(ok.car)
		b[i+len(needle)/2] ^= 1
		return b
	}
	last := ok.packed.Blocks[len(ok.packed.Blocks)-1]
	junk := []byte("a block that belongs to nothing")
	forged := *ok
	forgedHead := *ok.head
	forgedHead.Time = forgedHead.Time.Add(time.Hour) // not what was signed
	forged.head = &forgedHead
	mixed := *foreign
	mixed.notes = ok.notes
	for name, c := range map[string]struct {
		car    []byte
		reason string
	}{
		"flipped bit in a block":     {at(last.Data), "hash"},
		"flipped bit in a root note": {at(p.notes[0]), "hash"},
		"flipped bit in the head":    {at(ok.head.Text()), "hash"},
		"flipped bit in the header":  {at([]byte("roots")), ""},
		"missing block":              {ok.marshal(t, ok.packed.Blocks[:len(ok.packed.Blocks)-1]), "missing"},
		"foreign block":              {ok.marshal(t, append(append([]bundle.Block{}, ok.packed.Blocks...), bundle.Block{CID: bundle.RawCID(junk), Data: junk})), "no part"},
		"directory not first":        {ok.marshal(t, append(append([]bundle.Block{}, ok.packed.Blocks[1:]...), ok.packed.Blocks[0])), "directory"},
		"unsigned head":              {forged.marshal(t, ok.packed.Blocks), "signature"},
		"another channel":            {foreign.car, "another channel"},
		"another channel's head":     {mixed.marshal(t, foreign.packed.Blocks), "another channel"},
		"cut off":                    {ok.car[:len(ok.car)-1], "cut off"},
		"no CAR at all":              {bytes.Repeat([]byte("<html>"), 1000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Config{})
			src := transport.Source{Channel: p.ch, CAR: bytes.NewReader(c.car), Size: int64(len(c.car))}
			err := pusher(t, &only{tcp: true}, target(t, r, p.ch)).Publish(t.Context(), src, nil)
			if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want a refusal that says %q", err, c.reason)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("reason of several lines: %q", err)
			}
			if h, _ := r.store.Head(p.ch); h != nil {
				t.Error("it is visible")
			}
			if _, err := r.store.Block(p.ch, ok.head.Root); err == nil {
				t.Error("its directory is served")
			}
			files, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "*", "*", "*"))
			if len(files) > 0 {
				t.Errorf("left on disk: %v", files)
			}
		})
	}
}

func TestOrderOfEditions(t *testing.T) {
	p := newPress(t, "order")
	r := start(t, Config{})
	edge := p.tree.Edge()
	first := p.edition(t, 0)
	fork := newPress(t, "order") // same keys, another history
	fork.edition(t, 0)
	forked := fork.edition(t, 77)
	second := p.edition(t, 0)
	pub := pusher(t, r.cfg.Network, target(t, r, p.ch))
	for _, s := range []*sheet{first, second} {
		if err := pub.Publish(t.Context(), s.source(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := pub.Publish(t.Context(), first.source(), nil); err != nil {
		t.Errorf("an edition that is held already: %v", err)
	}
	if err := pub.Publish(t.Context(), forked.source(), nil); !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "fork") {
		t.Errorf("a fork: %v", err)
	}
	again := p.sign(t, first.packed, edge, time.Unix(1_800_000_000, 0))
	if err := pub.Publish(t.Context(), again.source(), nil); !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older edition signed anew: %v", err)
	}
	// A heartbeat: the newest edition with a newer time.
	edge2 := channelEdge(p, 1)
	beat := p.sign(t, second.packed, edge2, time.Unix(1_800_000_000, 0))
	if err := pub.Publish(t.Context(), beat.source(), nil); err != nil {
		t.Fatal(err)
	}
	if h, _ := r.store.Head(p.ch); !h.Time.Equal(beat.head.Time) || h.Edition != 1 {
		t.Error("the newer head is not served")
	}
	if err := pub.Publish(t.Context(), second.source(), nil); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("the head before it: %v", err)
	}
	cars, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "editions", "*", "*"))
	if len(cars) != 4 { // two editions, two files each
		t.Errorf("on disk: %v", cars)
	}
}

func TestQuota(t *testing.T) {
	p := newPress(t, "quota")
	var sheets []*sheet
	for range 4 {
		sheets = append(sheets, p.edition(t, 200_000))
	}
	big := p.edition(t, 1_500_000)
	r := start(t, Config{Limits: Limits{Edition: 1_000_000, Channel: int64(len(sheets[3].car))*2 + 50_000}})
	for _, s := range sheets {
		push(t, r, s)
	}
	held := r.store.snapshot(p.ch)
	if len(held) != 2 || held[0].head.Edition != 3 || held[1].head.Edition != 2 {
		t.Fatalf("%d editions held", len(held))
	}
	if files, _ := filepath.Glob(filepath.Join(r.cfg.Dir, "editions", "*", "*")); len(files) != 4 {
		t.Errorf("on disk: %v", files)
	}
	err := pusher(t, r.cfg.Network, target(t, r, p.ch)).Publish(t.Context(), big.source(), nil)
	if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), "larger") {
		t.Errorf("an edition beyond the limit: %v", err)
	}
}

func TestUnfinishedUploadsAreBounded(t *testing.T) {
	p := newPress(t, "parts")
	s, err := OpenStore(t.TempDir(), Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		sh := p.edition(t, 1000)
		u, err := s.open(t.Context(), p.ch, bundle.RawCID(sh.head.Text()), func() {})
		if err != nil {
			t.Fatal(err)
		}
		if held, done, err := u.append(0, int64(len(sh.car)), bytes.NewReader(sh.car[:4000])); err != nil || done || held != 4000 {
			t.Fatal(held, done, err)
		}
		if _, err := s.open(over, p.ch, bundle.RawCID(sh.head.Text()), func() {}); !errors.Is(err, errBusy) {
			t.Errorf("two requests write one channel's uploads: %v", err)
		}
		u.unlock()
	}
	if parts, _ := os.ReadDir(filepath.Join(s.dir, "incoming", p.ch.String())); len(parts) != maxParts {
		t.Errorf("%d unfinished uploads kept", len(parts))
	}
}

func TestStrangersCannotPush(t *testing.T) {
	p := newPress(t, "stranger")
	s := p.edition(t, 0)
	r := start(t, Config{})
	tg := target(t, r, p.ch)
	wrong := tg
	wrong.Intake[0] ^= 1
	if err := pusher(t, r.cfg.Network, wrong).Publish(t.Context(), s.source(), nil); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("wrong intake key: %v", err)
	}
	reader := tg
	reader.Intake = tg.Mint
	if err := pusher(t, r.cfg.Network, reader).Publish(t.Context(), s.source(), nil); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("a reader pushes: %v", err)
	}
	imposter := tg
	imposter.Pin[3] ^= 1
	if err := pusher(t, r.cfg.Network, imposter).Publish(t.Context(), s.source(), nil); err == nil || errors.Is(err, transport.ErrRefused) {
		t.Errorf("wrong pin: %v", err)
	}
	for _, path := range paths(t, &netreal.Network{}, imposter.Relay(p.batch)) {
		if _, err := path.Heads.Head(t.Context(), p.ch, 0); err == nil {
			t.Errorf("%s: wrong pin accepted", path.Name)
		}
	}
}

// A publisher that was killed leaves a request behind whose body never ends,
// and on QUIC not even a closed connection. It does not keep the next one out.
func TestNewerPushTakesOver(t *testing.T) {
	for name, way := range map[string]*only{"quic": {udp: true}, "tcp": {tcp: true}} {
		t.Run(name, func(t *testing.T) {
			p := newPress(t, "killed")
			s := p.edition(t, 600_000)
			r := start(t, Config{})
			tg := target(t, r, p.ch)
			head := bundle.RawCID(s.head.Text()).String()
			body, silent := io.Pipe()
			defer silent.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch,
				"https://"+tg.Address()+"/"+tg.Intake.Mint([8]byte{}).Path()+"/intake/"+p.ch.String()+"/"+head, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(wire.HeaderOffset, "0")
			req.Header.Set(wire.HeaderLength, strconv.Itoa(len(s.car)))
			req.ContentLength = int64(len(s.car))
			dead := pusher(t, way, tg)
			if _, err := dead.Current(t.Context(), p.ch); !errors.Is(err, transport.ErrNotFound) { // finds out what connects
				t.Fatal(err)
			}
			go func() {
				if resp, err := dead.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
			}()
			if _, err := silent.Write(s.car[:100_000]); err != nil {
				t.Fatal(err)
			}
			part := filepath.Join(r.cfg.Dir, "incoming", p.ch.String(), head+".part")
			for size := int64(0); size < 50_000; { // until the relay is at it
				if info, err := os.Stat(part); err == nil {
					size = info.Size()
				}
				time.Sleep(time.Millisecond)
			}
			// Less than sendTimeout, by which the dead request would end itself.
			ctx, cancel := context.WithTimeout(t.Context(), sendTimeout*5/6)
			defer cancel()
			first := int64(-1)
			err = pusher(t, way, tg).Publish(ctx, s.source(), func(held, _ int64) {
				if first < 0 {
					first = held
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if first < 50_000 {
				t.Errorf("went on at byte %d", first)
			}
			if h, _ := r.store.Head(p.ch); h == nil {
				t.Error("not stored")
			}
		})
	}
}

// Room is set aside before a byte is taken: who comes too many is told so, and
// may come again.
func TestUploadsShareTheirRoom(t *testing.T) {
	p, other := newPress(t, "room"), newPress(t, "other room")
	a, b := p.edition(t, 300_000), other.edition(t, 300_000)
	s, err := OpenStore(t.TempDir(), Limits{Edition: 400_000, Incoming: 500_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(sh *sheet) *upload {
		t.Helper()
		u, err := s.open(t.Context(), sh.head.Channel, bundle.RawCID(sh.head.Text()), func() {})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	first, second := open(a), open(b)
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, _, err := first.append(0, int64(len(a.car)), in)
		done <- err
	}()
	if _, err := out.Write(a.car[:1000]); err != nil { // it is at it
		t.Fatal(err)
	}
	if _, _, err := second.append(0, int64(len(b.car)), strings.NewReader("not even read")); !errors.Is(err, errCrowded) {
		t.Errorf("a second upload: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(s.dir, "incoming", other.ch.String(), "*")); len(files) > 0 {
		t.Errorf("it left %v", files)
	}
	if _, err := out.Write(a.car[1000:]); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, complete, err := second.append(0, int64(len(b.car)), bytes.NewReader(b.car)); err != nil || !complete {
		t.Errorf("when there is room again: %t %v", complete, err)
	}
	if len(s.reserved) != 0 {
		t.Errorf("still reserved: %v", s.reserved)
	}
}

// Of an edition that the channel did not sign no more is taken than its front,
// however much comes in one request.
func TestFrontIsCheckedFirst(t *testing.T) {
	p, other := newPress(t, "fronts"), newPress(t, "other fronts")
	ok := p.edition(t, 1_000_000)
	foreign := other.edition(t, 1_000_000)
	forged, head := *ok, *ok.head
	head.Time = head.Time.Add(time.Hour) // not what was signed
	forged.head = &head
	for name, file := range map[string][]byte{
		"unsigned head":   forged.marshal(t, ok.packed.Blocks),
		"another channel": foreign.car,
		"no CAR at all":   bytes.Repeat([]byte("<html>"), 200_000),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := OpenStore(t.TempDir(), Limits{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			u, err := s.open(t.Context(), p.ch, bundle.RawCID(head.Text()), func() {})
			if err != nil {
				t.Fatal(err)
			}
			defer u.unlock()
			body := bytes.NewReader(file)
			if held, _, err := u.append(0, int64(len(file)), body); !errors.Is(err, errBad) || held != 0 {
				t.Errorf("%d bytes held, %v", held, err)
			}
			if took := len(file) - body.Len(); took > frontPart {
				t.Errorf("%d of %d bytes were taken", took, len(file))
			}
			// And the publisher hears why, whichever way he comes.
			r := start(t, Config{})
			for _, nw := range []transport.Network{&netreal.Network{}, &only{tcp: true}} {
				src := transport.Source{Channel: p.ch, CAR: bytes.NewReader(file), Size: int64(len(file))}
				if err := pusher(t, nw, target(t, r, p.ch)).Publish(t.Context(), src, nil); !errors.Is(err, transport.ErrRefused) {
					t.Errorf("%T: %v", nw, err)
				}
			}
		})
	}
}
