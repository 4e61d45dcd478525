package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
	wire "tamizdat/transport/relay"
)

// only is a censor that leaves one protocol open.
type only struct {
	netreal.Network
	tcp, udp bool
}

func (o *only) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !o.tcp {
		return nil, transport.ErrBlocked
	}
	return o.Network.Dial(ctx, network, address)
}

func (o *only) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if !o.udp {
		return nil, transport.ErrBlocked
	}
	return o.Network.ListenPacket(ctx, network, address)
}

func TestFromPublisherToReader(t *testing.T) {
	for _, way := range []struct {
		kind string
		net  *only
	}{{transport.KindQUIC, &only{udp: true}}, {transport.KindTCP, &only{tcp: true}}} {
		t.Run(way.kind, func(t *testing.T) {
			ctx := t.Context()
			p := newPress(t, way.kind)
			s := p.edition(t, 300_000)
			r := start(t, Config{})
			tg := target(t, r, p.ch)
			pub := pusher(t, way.net, tg)
			if _, err := pub.Current(ctx, p.ch); !errors.Is(err, transport.ErrNotFound) {
				t.Fatalf("Current of an empty relay: %v", err)
			}
			var last, total int64
			if err := pub.Publish(ctx, s.source(), func(h, n int64) { last, total = h, n }); err != nil {
				t.Fatal(err)
			}
			if last != int64(len(s.car)) || total != last {
				t.Errorf("progress ended at %d of %d", last, total)
			}
			if err := pub.Publish(ctx, s.source(), nil); err != nil {
				t.Errorf("pushing again: %v", err)
			}
			cur, err := pub.Current(ctx, p.ch)
			if err != nil || !bytes.Equal(cur, s.head.Text()) {
				t.Fatalf("Current: %v", err)
			}

			for _, path := range paths(t, way.net, tg.Relay(p.batch)) {
				if path.Kind != way.kind {
					if _, err := path.Heads.Head(ctx, p.ch, 0); !errors.Is(err, transport.ErrBlocked) {
						t.Errorf("%s through a censor: %v", path.Kind, err)
					}
					continue
				}
				checkOpening(t, path, p, s)
				checkHeads(t, path, p, s)
				checkBlocks(t, path, p, s)
			}
		})
	}
}

func checkOpening(t *testing.T, path transport.Path, p *press, s *sheet) {
	t.Helper()
	o, ok := path.Heads.(transport.Opener)
	if !ok {
		return // small connections bring no openings
	}
	var kinds []transport.PieceKind
	held := map[string][]byte{}
	for piece, err := range o.Open(t.Context(), transport.Ask{Channel: p.ch, Grant: p.batch.GrantName(p.ch)}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, piece.Kind)
		switch piece.Kind {
		case transport.PieceRootNote:
			if !bytes.Equal(piece.Data, p.notes[0]) {
				t.Error("another root note")
			}
		case transport.PieceHead:
			if _, err := p.roots.Head(piece.Data); err != nil {
				t.Error(err)
			}
		case transport.PieceGrant:
			if !bytes.Equal(piece.Data, noise(99, 4096)) {
				t.Error("another grant")
			}
		case transport.PieceBlock:
			held[piece.CID.KeyString()] = piece.Data
		}
	}
	want := []transport.PieceKind{transport.PieceRootNote, transport.PieceHead, transport.PieceGrant, transport.PieceBlock, transport.PieceBlock}
	if !slices.Equal(kinds, want) {
		t.Fatalf("opening of %v, want %v", kinds, want)
	}
	d, err := bundle.ParseDirectory(s.head.Root, held[s.head.Root.KeyString()])
	if err != nil {
		t.Fatal(err)
	}
	if held[d.Layers[bundle.LayerFront].KeyString()] == nil {
		t.Error("no front page in the opening")
	}
	for _, err := range o.Open(t.Context(), transport.Ask{Channel: p.ch, Have: s.head.Size, Root: 1}) {
		if !errors.Is(err, transport.ErrNoNewer) {
			t.Errorf("opening with nothing newer: %v", err)
		}
	}
}

func checkHeads(t *testing.T, path transport.Path, p *press, s *sheet) {
	t.Helper()
	ctx := t.Context()
	if h, err := path.Heads.Head(ctx, p.ch, 0); err != nil || !bytes.Equal(h, s.head.Text()) {
		t.Errorf("head: %v", err)
	}
	if _, err := path.Heads.Head(ctx, p.ch, s.head.Size); !errors.Is(err, transport.ErrNoNewer) {
		t.Errorf("head when nothing is newer: %v", err)
	}
	if n, err := path.Heads.RootNote(ctx, p.ch, 1); err != nil || !bytes.Equal(n, p.notes[0]) {
		t.Errorf("root note: %v", err)
	}
	if _, err := path.Heads.RootNote(ctx, p.ch, 2); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("root note that does not exist: %v", err)
	}
	if g, err := path.Heads.Grant(ctx, p.ch, p.batch.GrantName(p.ch)); err != nil || !bytes.Equal(g, noise(99, 4096)) {
		t.Errorf("grant: %v", err)
	}
	if _, err := path.Heads.Grant(ctx, p.ch, strings.Repeat("b", 26)); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("grant that does not exist: %v", err)
	}
	if _, err := path.Heads.Head(ctx, newPress(t, "stranger").ch, 0); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("head of another channel: %v", err)
	}
}

func checkBlocks(t *testing.T, path transport.Path, p *press, s *sheet) {
	t.Helper()
	r := transport.Request{Edition: transport.Edition{Channel: p.ch, Root: s.head.Root}}
	want := map[string][]byte{}
	for _, b := range s.packed.Blocks {
		r.Wants = append(r.Wants, transport.Want{CID: b.CID, Size: len(b.Data)})
		want[b.CID.KeyString()] = b.Data
	}
	stranger := bundle.RawCID([]byte("not there"))
	r.Wants = append(r.Wants, transport.Want{CID: stranger})
	counts := make([]int, len(r.Wants))
	mu := make(chan struct{}, 1)
	r.Got = func(i, n int) { mu <- struct{}{}; counts[i] += n; <-mu }
	for b, err := range path.Blocks.Fetch(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want[b.CID.KeyString()], b.Data) {
			t.Errorf("block %s differs or came twice", b.CID)
		}
		delete(want, b.CID.KeyString())
	}
	if len(want) > 0 {
		t.Errorf("%d blocks did not come", len(want))
	}
	for i, b := range s.packed.Blocks {
		if counts[i] != len(b.Data) {
			t.Errorf("Got heard of %d bytes of %d", counts[i], len(b.Data))
		}
	}
}

func TestRestartKeepsEditions(t *testing.T) {
	p := newPress(t, "restart")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	for range 3 {
		push(t, r, p.edition(t, 1000))
	}
	pin, before := r.Pin(), len(r.store.snapshot(p.ch))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// One index is torn, one is gone; both CARs are whole.
	idx, err := filepath.Glob(filepath.Join(dir, "editions", "*", "*.idx"))
	if err != nil || len(idx) != 3 {
		t.Fatal(idx, err)
	}
	if err := os.Truncate(idx[0], 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(idx[1]); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	if r.Pin() != pin {
		t.Error("the pin changed")
	}
	if after := len(r.store.snapshot(p.ch)); after != before {
		t.Errorf("%d editions of %d after restart", after, before)
	}
	s := p.edition(t, 10)
	push(t, r, s)
	checkBlocks(t, paths(t, &netreal.Network{}, target(t, r, p.ch).Relay(p.batch))[0], p, s)
}

func TestDamagedEditionIsSetAside(t *testing.T) {
	p := newPress(t, "rot")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir})
	s := p.edition(t, 100_000)
	push(t, r, s)
	r.Close()
	car, _ := filepath.Glob(filepath.Join(dir, "editions", "*", "*.car"))
	flip(t, car[0], int64(len(s.car)/2))
	if err := os.Remove(indexPath(car[0])); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	if h, _ := r.store.Head(p.ch); h != nil {
		t.Error("a damaged edition is served")
	}
	push(t, r, s) // the same edition heals it
	if h, _ := r.store.Head(p.ch); h == nil {
		t.Error("pushed again, still not served")
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessAFolder(t *testing.T) {
	r := start(t, Config{})
	second, err := New(Config{Dir: r.cfg.Dir, Network: r.cfg.Network, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); !errors.Is(err, ErrRunning) {
		t.Fatalf("second relay on one folder: %v", err)
	}
	// But it may say the address, and the first one carries the channel at once.
	p := newPress(t, "late")
	tg := target(t, second, p.ch)
	if tg.Address() != r.Addr().String() {
		t.Errorf("address %s, listens on %s", tg.Address(), r.Addr())
	}
	if err := pusher(t, r.cfg.Network, tg).Publish(t.Context(), p.edition(t, 0).source(), nil); err != nil {
		t.Errorf("channel carried by another process: %v", err)
	}
}

func TestTargetLine(t *testing.T) {
	r := start(t, Config{Also: []string{"127.0.0.1:0"}, ECH: "www.example.org"})
	tg := target(t, r, newPress(t, "line").ch)
	if len(tg.Also) != 1 || tg.Also[0] == tg.Port || len(tg.ECH) == 0 {
		t.Errorf("other ports %v, %d bytes of ECH configuration", tg.Also, len(tg.ECH))
	}
	for _, host := range []string{tg.Host, "relay.example.org", "2001:db8::1"} {
		tg.Host = host
		back, err := wire.ParseTarget(" " + tg.String() + "\n")
		if err != nil || !reflect.DeepEqual(back, tg) {
			t.Errorf("%s: %v", host, err)
		}
	}
	line := tg.String()
	for i := range line {
		for _, c := range []string{"", "/", line[i:i+1] + "x"} {
			if bad := line[:i] + c + line[i+1:]; bad != line {
				if got, err := wire.ParseTarget(bad); err == nil && got.String() != bad {
					t.Errorf("accepted %q", bad)
				} else if err != nil && !errors.Is(err, wire.ErrBadTarget) {
					t.Error(err)
				}
			}
		}
	}
	if s := fmt.Sprint(wire.ParseTarget("mirror-relay address")); !strings.Contains(s, "relay1:") {
		t.Errorf("no hint in %q", s)
	}
}

// One more port is no more room for strangers.
func TestAlsoSharesLimits(t *testing.T) {
	r := start(t, Config{Also: []string{"127.0.0.1:0"}, Throttle: Throttle{Conns: wire.Limits{ConnsPerAddr: 1}}})
	dial := func(at net.Addr) error {
		c, err := tls.Dial("tcp", at.String(), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}
	if err := dial(r.server.Addr()); err != nil {
		t.Fatal(err)
	}
	if dial(r.others[0].Addr()) == nil {
		t.Error("one of an address at each port")
	}
}

// What can't work is refused at start, by the name of its setting.
func TestSettingsAreChecked(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, cfg := range map[string]Config{
		`also: "61001"`: {Also: []string{"61001"}}, `redirect: "80"`: {Redirect: "80"}, "no listener for also: ": {Also: []string{busy.Addr().String()}},
		`acme: "https://www.example.org"`: {ACME: ACME{Names: []string{"https://www.example.org"}}}, `acme: "192.0.2.1"`: {ACME: ACME{Names: []string{"192.0.2.1"}}},
		`acme: "*.example.org"`: {ACME: ACME{Names: []string{"www.example.org", "*.example.org"}}},
	} {
		cfg.Dir, cfg.Network, cfg.Listen = t.TempDir(), &netreal.Network{}, []string{"127.0.0.1:0"}
		r, err := New(cfg)
		if err == nil {
			err = r.Start(t.Context())
			_ = r.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
