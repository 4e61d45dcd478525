package ipfs

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	bsnetwork "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// puppet is a peer that speaks bitswap and answers as a test says.
type puppet struct {
	n      *Node
	net    bsnetNetwork
	answer func(from peer.ID, wants []bsmsg.Entry) bsmsg.BitSwapMessage
	heard  chan []bsmsg.Entry
}

type bsnetNetwork = bsnetwork.BitSwapNetwork

func newPuppet(t *testing.T, answer func(peer.ID, []bsmsg.Entry) bsmsg.BitSwapMessage) *puppet {
	t.Helper()
	n := newNode(t, Config{Network: new(loopback), Listen: bothListen})
	p := &puppet{n: n, answer: answer, heard: make(chan []bsmsg.Entry, 64)}
	p.net = bsnet.NewFromIpfsHost(n.host)
	p.net.Start(p) // takes the stream handlers over from the node's own exchange
	t.Cleanup(p.net.Stop)
	return p
}

func (p *puppet) ReceiveMessage(_ context.Context, from peer.ID, m bsmsg.BitSwapMessage) {
	wants := m.Wantlist()
	select {
	case p.heard <- wants:
	default:
	}
	if p.answer == nil {
		return
	}
	if out := p.answer(from, wants); out != nil {
		go func() { _ = p.net.SendMessage(context.Background(), from, out) }()
	}
}
func (*puppet) ReceiveError(error)       {}
func (*puppet) PeerConnected(peer.ID)    {}
func (*puppet) PeerDisconnected(peer.ID) {}

func blockWith(t *testing.T, c cid.Cid, data []byte) blocks.Block {
	t.Helper()
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func blocksFrom(t *testing.T, reader *Node, addrs ...[]string) transport.Blocks {
	t.Helper()
	var all []string
	for _, a := range addrs {
		all = append(all, a...)
	}
	p, err := reader.Path("", nil, all)
	if err != nil {
		t.Fatal(err)
	}
	return p.Blocks
}

func TestWrongBytes(t *testing.T) {
	e := newEdition(t)
	liar := newPuppet(t, func(_ peer.ID, wants []bsmsg.Entry) bsmsg.BitSwapMessage {
		m := bsmsg.New(false)
		for _, w := range wants {
			if !w.Cancel {
				m.AddBlock(blockWith(t, w.Cid, []byte("something else")))
			}
		}
		return m
	})
	reader := newNode(t, Config{Network: new(loopback)})
	reader.bitswap.patience, reader.bitswap.giveUp = 20*time.Millisecond, 60*time.Millisecond
	got, err := collect(t.Context(), t, blocksFrom(t, reader, liar.n.Addrs()), wantsOf(e.layer[:4]))
	if len(got) != 0 {
		t.Errorf("%d forged blocks were yielded", len(got))
	}
	if !errors.Is(err, errStalled) {
		t.Errorf("a peer that sent nothing of use: %v", err)
	}
	reader.bitswap.giveUp = defaultGiveUp

	// With an honest peer beside it everything arrives.
	srv := server(t, new(loopback), e.store)
	got, err = collect(t.Context(), t, blocksFrom(t, reader, liar.n.Addrs(), srv.Addrs()), wantsOf(e.layer))
	if err != nil || len(got) != len(e.layer) {
		t.Errorf("%d of %d blocks, %v", len(got), len(e.layer), err)
	}
}

// A peer that answers with an endless stream of other blocks is dropped, long
// before the fetch would give up.
func TestFlood(t *testing.T) {
	e := newEdition(t)
	var flooder *puppet
	var sent atomic.Int64
	flooder = newPuppet(t, func(from peer.ID, wants []bsmsg.Entry) bsmsg.BitSwapMessage {
		if wants[0].Cancel {
			return nil
		}
		go func() {
			for flooder.n.life.Err() == nil && sent.Load() < 16*maxStray {
				m := bsmsg.New(false)
				b := make([]byte, 1<<20)
				rand.Read(b)
				m.AddBlock(blocks.NewBlock(b))
				if flooder.net.SendMessage(flooder.n.life, from, m) != nil {
					return
				}
				sent.Add(1 << 20)
			}
		}()
		return nil
	})
	reader := newNode(t, Config{Network: new(loopback)})
	_, err := collect(t.Context(), t, blocksFrom(t, reader, flooder.n.Addrs()), wantsOf(e.layer[:1]))
	if !errors.Is(err, errFlood) {
		t.Errorf("flood ended with %v", err)
	}
}

func TestSilentPeer(t *testing.T) {
	e := newEdition(t)
	mute := newPuppet(t, nil)
	reader := newNode(t, Config{Network: new(loopback)})
	reader.bitswap.patience = time.Hour // it is not asked twice
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := collect(ctx, t, blocksFrom(t, reader, mute.n.Addrs()), wantsOf(e.layer[:2]))
		done <- err
	}()
	<-mute.heard // it was asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled fetch ended with %v", err)
	}
	for _, w := range <-mute.heard {
		if !w.Cancel {
			t.Error("the wants were not taken back")
		}
	}

	// Beside an honest peer the silent one costs the patience of one round.
	reader.bitswap.patience = 20 * time.Millisecond
	srv := server(t, new(loopback), e.store)
	got, err := collect(t.Context(), t, blocksFrom(t, reader, mute.n.Addrs(), srv.Addrs()), wantsOf(e.layer))
	if err != nil || len(got) != len(e.layer) {
		t.Errorf("%d of %d blocks, %v", len(got), len(e.layer), err)
	}

	// Alone it is given up.
	reader.bitswap.giveUp = 60 * time.Millisecond
	_, err = collect(t.Context(), t, blocksFrom(t, reader, mute.n.Addrs()), wantsOf(e.layer[:2]))
	if !errors.Is(err, errStalled) {
		t.Errorf("silence ended with %v", err)
	}
}

func TestMissingBlocks(t *testing.T) {
	e := newEdition(t)
	absent := rawCID(t, []byte("nobody has this"))
	srv := server(t, new(loopback), e.store)
	empty := server(t, new(loopback), newMemStore())
	reader := newNode(t, Config{Network: new(loopback)})
	wants := append([]cid.Cid{absent}, e.layer[:5]...)
	got, err := collect(t.Context(), t, blocksFrom(t, reader, empty.Addrs(), srv.Addrs()), wantsOf(wants))
	if err != nil || len(got) != 5 || got[absent] != nil {
		t.Errorf("%d blocks, %v", len(got), err)
	}
	// Without anybody to ask it is an error, not "not here".
	if _, err := collect(t.Context(), t, blocksFrom(t, reader), wantsOf(wants)); err == nil {
		t.Error("a path without peers claimed to know what is not there")
	}
}

func TestPeerGoesAway(t *testing.T) {
	e := newEdition(t)
	var gone atomic.Bool
	var leaver *puppet
	leaver = newPuppet(t, func(from peer.ID, _ []bsmsg.Entry) bsmsg.BitSwapMessage {
		if gone.CompareAndSwap(false, true) {
			go leaver.n.host.Network().ClosePeer(from)
		}
		return nil
	})
	reader := newNode(t, Config{Network: new(loopback)})
	if _, err := collect(t.Context(), t, blocksFrom(t, reader, leaver.n.Addrs()), wantsOf(e.layer[:3])); err == nil {
		t.Error("the only peer hung up, and the fetch ended without an error")
	}
	if !gone.Load() {
		t.Error("the peer was never asked")
	}
}

func TestOversizeBlock(t *testing.T) {
	e := newEdition(t)
	big := e.store.raw(t, bundle.MaxBlock+1)
	srv := server(t, new(loopback), e.store)
	reader := newNode(t, Config{Network: new(loopback)})
	got, err := collect(t.Context(), t, blocksFrom(t, reader, srv.Addrs()), wantsOf([]cid.Cid{big, e.layer[0]}))
	var we *transport.WantError
	if !errors.As(err, &we) || we.CID != big {
		t.Errorf("oversize block: %v", err)
	}
	if len(got) != 1 || got[e.layer[0]] == nil {
		t.Errorf("%d blocks beside the oversize one", len(got))
	}
}

func TestBreakEndsFetch(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	reader := newNode(t, Config{Network: new(loopback)})
	n := 0
	for _, err := range blocksFrom(t, reader, srv.Addrs()).Fetch(t.Context(), wantsOf(e.layer)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d blocks after break", n)
	}
	reader.bitswap.mu.Lock()
	left := len(reader.bitswap.fetches)
	reader.bitswap.mu.Unlock()
	if left != 0 {
		t.Errorf("%d fetches left behind", left)
	}
}

// Two fetches of the same blocks at once: each gets all, and one ending early
// does not take the other's wants back.
func TestParallelFetches(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	reader := newNode(t, Config{Network: new(loopback)})
	b := blocksFrom(t, reader, srv.Addrs())
	results := make(chan int, 4)
	for i := range 4 {
		go func() {
			n := 0
			for _, err := range b.Fetch(t.Context(), wantsOf(e.layer)) {
				if err != nil {
					t.Error(err)
					break
				}
				n++
				if i == 0 && n == 2 {
					break
				}
			}
			results <- n
		}()
	}
	total := 0
	for range 4 {
		total += <-results
	}
	if want := 3*len(e.layer) + 2; total != want {
		t.Errorf("%d blocks instead of %d", total, want)
	}
}

// A record question to a peer that accepts the stream and says nothing ends
// with the context; an endless answer ends at its limit.
func TestHostileRecordAnswers(t *testing.T) {
	e := newEdition(t)
	asked := make(chan struct{}, 1)
	mute := newNode(t, Config{Network: new(loopback), Listen: bothListen})
	mute.host.SetStreamHandler(kadProtocol, func(network.Stream) { asked <- struct{}{} })
	endless := newNode(t, Config{Network: new(loopback), Listen: bothListen})
	endless.host.SetStreamHandler(kadProtocol, func(s network.Stream) {
		_, _ = s.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
		for {
			if _, err := s.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	reader := newNode(t, Config{Network: new(loopback)})
	heads := func(addrs []string) transport.Heads {
		p, err := reader.Path("", e.ipnsPub, addrs)
		if err != nil {
			t.Fatal(err)
		}
		return p.Heads
	}
	if _, err := heads(endless.Addrs()).Head(t.Context(), [32]byte{}, 0); err == nil {
		t.Error("an endless answer was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := heads(mute.Addrs()).Head(ctx, [32]byte{}, 0)
		done <- err
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled question ended with %v", err)
	}
}
