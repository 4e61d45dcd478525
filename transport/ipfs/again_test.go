package ipfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	bsnetwork "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	bsserver "github.com/ipfs/boxo/bitswap/server"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"tamizdat/transport"
)

// lingering is the network of a bitswap server whose first message takes as
// long to be sent as until the next wantlist is in: what a busy machine does
// now and then.
type lingering struct {
	bsnetwork.BitSwapNetwork
	server *bsserver.Server
	first  sync.Once
	lists  atomic.Int32
	second chan struct{}
}

func (l *lingering) SendMessage(ctx context.Context, p peer.ID, m bsmsg.BitSwapMessage) error {
	err := l.BitSwapNetwork.SendMessage(ctx, p, m)
	l.first.Do(func() {
		select {
		case <-l.second:
		case <-ctx.Done():
		}
	})
	return err
}

func (l *lingering) ReceiveMessage(ctx context.Context, p peer.ID, m bsmsg.BitSwapMessage) {
	l.server.ReceiveMessage(ctx, p, m)
	if l.lists.Add(1) == 2 {
		close(l.second)
	}
}
func (l *lingering) ReceiveError(err error)     { l.server.ReceiveError(err) }
func (l *lingering) PeerConnected(p peer.ID)    { l.server.PeerConnected(p) }
func (l *lingering) PeerDisconnected(p peer.ID) { l.server.PeerDisconnected(p) }

// boxo's server drops a want for a block that it is just sending to the same
// peer, though the block may have arrived before the want was sent.
func TestWantDroppedByServer(t *testing.T) {
	e := newEdition(t)
	host := newNode(t, Config{Network: new(loopback), Listen: bothListen})
	l := &lingering{BitSwapNetwork: bsnet.NewFromIpfsHost(host.host), second: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	l.server = bsserver.New(ctx, l, readOnly{e.store})
	l.Start(l)
	t.Cleanup(func() {
		l.Stop()
		cancel()
		l.server.Close()
	})
	reader := newNode(t, Config{Network: new(loopback)})
	reader.bitswap.patience, reader.bitswap.giveUp = 80*time.Millisecond, 5*time.Second
	b := blocksFrom(t, reader, host.Addrs())
	for i := range 2 {
		if got, err := collect(t.Context(), t, b, wantsOf(e.layer[:1])); err != nil || len(got) != 1 {
			t.Fatalf("fetch %d: %d blocks, %v", i+1, len(got), err)
		}
	}
	if n := l.lists.Load(); n < 3 {
		t.Errorf("%d wantlists: the server dropped nothing", n)
	}
}

// One peer that loses wantlists is asked again, not for ever, and all that it
// was asked for.
func TestAskedAgain(t *testing.T) {
	e := newEdition(t)
	var lists atomic.Int32
	deaf := int32(2)
	p := newPuppet(t, func(_ peer.ID, wants []bsmsg.Entry) bsmsg.BitSwapMessage {
		if wants[0].Cancel || lists.Add(1) <= atomic.LoadInt32(&deaf) {
			return nil
		}
		m := bsmsg.New(false)
		for _, w := range wants {
			if b, err := e.store.Get(context.Background(), w.Cid); err == nil {
				m.AddBlock(blockWith(t, w.Cid, b))
			} else {
				m.AddDontHave(w.Cid)
			}
		}
		return m
	})
	reader := newNode(t, Config{Network: new(loopback)})
	reader.bitswap.patience, reader.bitswap.giveUp = 40*time.Millisecond, 5*time.Second
	wants := append([]cid.Cid{rawCID(t, []byte("not there"))}, e.layer[:3]...)
	got, err := collect(t.Context(), t, blocksFrom(t, reader, p.n.Addrs()), wantsOf(wants))
	if err != nil || len(got) != 3 {
		t.Errorf("%d of 3 blocks, %v", len(got), err)
	}

	lists.Store(0)
	atomic.StoreInt32(&deaf, 1<<30)
	reader = newNode(t, Config{Network: new(loopback)}) // which does not know how slow the peer was
	reader.bitswap.patience, reader.bitswap.giveUp = 40*time.Millisecond, time.Second
	_, err = collect(t.Context(), t, blocksFrom(t, reader, p.n.Addrs()), wantsOf(e.layer[3:4]))
	if !errors.Is(err, errStalled) {
		t.Errorf("a deaf peer: %v", err)
	}
	if n := lists.Load(); n != 1+maxRepeats {
		t.Errorf("a deaf peer was asked %d times instead of %d", n, 1+maxRepeats)
	}
}

// Root notes and grants of one edition share its folders: each block is fetched once.
func TestFoldersFetchedOnce(t *testing.T) {
	e := newEdition(t)
	srv := server(t, new(loopback), e.store)
	if err := srv.SetRecord(e.name, e.record); err != nil {
		t.Fatal(err)
	}
	h := headsOf(t, newNode(t, Config{Network: new(loopback)}), e, srv.Addrs())
	if _, err := h.Head(t.Context(), [32]byte{}, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if b, err := h.RootNote(t.Context(), [32]byte{}, 1); err != nil || !bytes.Equal(b, e.note) {
			t.Fatalf("root note: %v", err)
		}
		if b, err := h.Grant(t.Context(), [32]byte{}, grantName); err != nil || !bytes.Equal(b, e.grant) {
			t.Fatalf("grant: %v", err)
		}
	}
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	if n := e.store.gets[e.root]; n != 1 {
		t.Errorf("the directory was fetched %d times", n)
	}
	if n := len(e.store.gets); n != 5 {
		t.Errorf("%d blocks were fetched", n)
	}
}

func TestNoNewerHead(t *testing.T) {
	e := newEdition(t)
	record := func(edition uint64, at int64, seq uint64) (*signed, []byte) {
		t.Helper()
		head := e.headAt(t, edition, at)
		raw, err := Record(e.ipnsKey, head, seq, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		n, err := nameOf(e.ipnsPub)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRecord(n, raw)
		if err != nil {
			t.Fatal(err)
		}
		return r, head.Compact()
	}
	var now *signed
	h := &heads{resolve: func(context.Context) (*signed, error) { return now, nil }}
	ask := func(what string, have uint64, want []byte) {
		t.Helper()
		raw, err := h.Head(t.Context(), [32]byte{}, have)
		if want == nil && !errors.Is(err, transport.ErrNoNewer) || want != nil && (err != nil || !bytes.Equal(raw, want)) {
			t.Errorf("%s: %d bytes, %v", what, len(raw), err)
		}
	}
	first, head := record(200, 1_700_000_000, 1) // its number takes two bytes
	now = first
	ask("a smaller head than the reader's", 202, nil)
	ask("the reader's head, never given by this path", 201, head)
	ask("the same again", 201, nil)
	ask("the same to a reader with less", 200, head)
	ask("the same to a reader with nothing", 0, head)
	now, _ = record(200, 1_700_000_000, 2) // signed anew, nothing new in it
	ask("a new record of the same head", 201, nil)
	var beat []byte
	now, beat = record(200, 1_700_003_600, 3)
	ask("a heartbeat", 201, beat)
	ask("the heartbeat again", 201, nil)
	now = first
	ask("a laggard after the heartbeat", 201, nil)
	now, head = record(201, 1_700_007_200, 4)
	ask("the next edition", 201, head)
	e.generation = 1 // what the reader holds may be what it has left out
	now, head = record(7, 1_700_010_800, 5)
	ask("fewer editions of a later generation", 201, head)
	ask("the same again", 201, head)

	// What is no compact head of ours is for the caller to judge.
	for _, raw := range [][]byte{
		{9, 1},
		{1},
		{1, 0xff},
		append([]byte{1}, bytes.Repeat([]byte{0xff}, 20)...),
		binary.AppendUvarint([]byte{1}, 1<<64-1), // plus one is nothing
	} {
		h := &heads{resolve: func(context.Context) (*signed, error) { return &signed{compact: raw}, nil }}
		if got, err := h.Head(t.Context(), [32]byte{}, 1<<62); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%x: %v", raw, err)
		}
	}
}
