package ipfs

import (
	"context"
	"fmt"
	"sync"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	bspb "github.com/ipfs/boxo/bitswap/message/pb"
	bsnet "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// window bounds the wants of one fetch that are asked for or wait for their
	// reader: 32 blocks, 2 MiB.
	window = 32
	// defaultPatience is how long a fetch watches nothing arrive before it asks
	// other peers for the same blocks as well.
	defaultPatience = 2 * time.Second
	// defaultGiveUp is how long a fetch watches nothing arrive before it ends.
	defaultGiveUp = 30 * time.Second
	// beats is how often a fetch looks around during its patience.
	beats = 4
	// maxRepeats is how often a silent peer is asked again for the same blocks,
	// each time after twice as long: with the default patience after 1, 3 and 7
	// seconds of silence.
	maxRepeats = 3
	// maxStray is how many bytes nobody asked for a peer may send during one
	// fetch: a few windows of blocks that were on their way when an earlier fetch
	// took its wants back, or that another fetch asked for.
	maxStray = 8 << 20
	// sendTimeout bounds the sending of one wantlist.
	sendTimeout = 10 * time.Second
)

// exchange is the asking half of bitswap
// (specs.ipfs.tech/bitswap-protocol/, version 1.2) over boxo's network layer and
// messages. boxo's own client is made for finding blocks among hundreds of
// peers: it asks who has them first, which costs a round trip more, and a
// session never learns that nobody does, since its broadcasts ask for no
// DONT_HAVE. With a few given peers every want goes straight to one of them, and
// when all have said no the fetch ends.
type exchange struct {
	host   host.Host
	net    bsnet.BitSwapNetwork
	life   context.Context
	cancel context.CancelFunc

	patience, giveUp time.Duration

	mu      sync.Mutex
	fetches map[*fetch]struct{}
	// pace is how long connected peers were silent before their late answers, the
	// last ones above all: who is slow is asked again later.
	pace map[peer.ID]time.Duration
}

var _ bsnet.Receiver = (*exchange)(nil)

func newExchange(h host.Host, n bsnet.BitSwapNetwork) *exchange {
	x := &exchange{
		host: h, net: n, fetches: make(map[*fetch]struct{}), pace: make(map[peer.ID]time.Duration),
		patience: defaultPatience, giveUp: defaultGiveUp,
	}
	x.life, x.cancel = context.WithCancel(context.Background())
	return x
}

// close ends every fetch.
func (x *exchange) close() {
	x.cancel()
	x.net.Stop()
}

// ReceiveMessage hands blocks and DONT_HAVEs to the fetches that wait for them.
// A block's CID was computed from its bytes when the message was read, so wrong
// bytes come under a CID nobody wants.
func (x *exchange) ReceiveMessage(_ context.Context, p peer.ID, m bsmsg.BitSwapMessage) {
	bs, no := m.Blocks(), m.DontHaves()
	if len(bs) == 0 && len(no) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for f := range x.fetches {
		f.mu.Lock()
		for _, b := range bs {
			if !f.arrived(p, b) {
				f.stray(p, len(b.RawData()))
			}
		}
		for _, c := range no {
			f.refused(p, c)
		}
		f.mu.Unlock()
	}
}

// PeerDisconnected moves what p was asked for to other peers.
func (x *exchange) PeerDisconnected(p peer.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pace, p)
	for f := range x.fetches {
		f.lost(p)
	}
}

// PeerConnected does nothing: a fetch connects to its peers itself.
func (x *exchange) PeerConnected(peer.ID) {}

// ReceiveError does nothing: the streams of one peer fail alone, and a peer that
// is gone is heard of by PeerDisconnected.
func (x *exchange) ReceiveError(error) {}

// send asks p for wants, in the background. f hears if that fails.
func (x *exchange) send(f *fetch, p peer.ID, wants []cid.Cid) {
	m := bsmsg.New(false)
	for i, c := range wants {
		// A higher priority is served first; wants come in reading order.
		m.AddEntry(c, int32(window-i), bspb.Message_Wantlist_Block, true)
	}
	go func() {
		ctx, cancel := context.WithTimeout(network.WithNoDial(x.life, "fetch connects"), sendTimeout)
		defer cancel()
		if err := x.net.SendMessage(ctx, p, m); err != nil {
			f.fail(p, fmt.Errorf("ask peer for blocks: %w", err))
		}
	}()
}

// repeat asks the silent peers of f once more for what they were asked for. A
// want can get lost on either side: boxo's server drops one for a block that it
// is still sending to the same peer, though the block may be here already and
// be wanted anew; messages travel on streams of their own, so that an earlier
// fetch's withdrawal can overtake a want; and an answer whose stream breaks is
// not sent again. To a server that merely takes its time a repeated want is the
// same want.
func (x *exchange) repeat(f *fetch, now time.Time) {
	out := make(map[peer.ID][]cid.Cid)
	x.mu.Lock()
	f.mu.Lock()
	for p, s := range f.live {
		wait := max(x.patience/2, min(2*x.pace[p], x.giveUp/4))
		if s.load == 0 || s.repeats >= maxRepeats || now.Sub(s.since) < wait<<(s.repeats+1)-wait {
			continue
		}
		s.repeats++
		for _, w := range f.order {
			if w.open && w.asked[p] == waiting {
				out[p] = append(out[p], w.cid)
			}
		}
	}
	f.mu.Unlock()
	x.mu.Unlock()
	for p, cs := range out {
		x.send(f, p, cs)
	}
}

// withdraw takes back what f asked of its peers and did not get from them, so
// that they neither send nor remember it. Blocks that another fetch waits for
// from the same peer stay asked for.
func (x *exchange) withdraw(f *fetch) {
	x.mu.Lock()
	delete(x.fetches, f)
	open := make(map[peer.ID][]cid.Cid)
	f.mu.Lock()
	for c, w := range f.all {
		for p, a := range w.asked {
			if a != delivered && !x.wanted(p, c) {
				open[p] = append(open[p], c)
			}
		}
	}
	f.mu.Unlock()
	x.mu.Unlock()
	for p, cs := range open {
		if x.host.Network().Connectedness(p) != network.Connected {
			continue
		}
		m := bsmsg.New(false)
		for _, c := range cs {
			m.Cancel(c)
		}
		go func() {
			ctx, cancel := context.WithTimeout(network.WithNoDial(x.life, "withdraw"), sendTimeout)
			defer cancel()
			_ = x.net.SendMessage(ctx, p, m) // a courtesy
		}()
	}
}

// wanted reports whether another fetch waits for c from p. x.mu is held.
func (x *exchange) wanted(p peer.ID, c cid.Cid) bool {
	for f := range x.fetches {
		f.mu.Lock()
		w, ok := f.all[c]
		waits := ok && w.open && w.asked[p] == waiting
		f.mu.Unlock()
		if waits {
			return true
		}
	}
	return false
}
