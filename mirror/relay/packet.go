package relay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/pkarr"
)

// packetFile is a channel's newest signed packet, beside its editions.
const packetFile = "head.packet"

const (
	// postEvery is how often packets are put on the DHT again, whose nodes forget them
	// after two hours; postAgain is how soon if nobody took one.
	postEvery = time.Hour
	postAgain = 5 * time.Minute
)

// packet is a channel's signed packet, checked. It is immutable.
type packet struct {
	item *pkarr.Item
	key  ed25519.PublicKey
	raw  []byte
	head *channel.Head
}

// checkPacket checks all of a packet that needs no store. Errors wrap pkarr.ErrItem.
func checkPacket(roots *channel.Roots, raw []byte) (*packet, error) {
	p := &packet{key: roots.IPNSKey(), raw: raw}
	var err error
	if p.item, err = pkarr.Parse(p.key, raw); err != nil {
		return nil, err
	}
	if p.head, err = roots.Head(p.item.Compact); err != nil {
		return nil, fmt.Errorf("%w: %w", pkarr.ErrItem, err)
	}
	return p, nil
}

// putPacket stores a channel's packet if it is newer than the one held, and returns the
// length of the packet held then; it is durable. Errors that are the packet's fault wrap
// pkarr.ErrItem.
func (s *Store) putPacket(ch channel.ID, raw []byte) (held int, err error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	newest, _ := s.newest(ch)
	if newest == nil {
		return 0, fmt.Errorf("%w: no edition of the channel is held yet", pkarr.ErrItem)
	}
	p, err := checkPacket(newest.roots, raw)
	if err != nil {
		return 0, err
	}
	if !s.holds(ch, p.head) {
		return 0, fmt.Errorf("%w: edition %d is not held, or is another one here", pkarr.ErrItem, p.head.Edition)
	}
	// One of an older generation of the log, which may state more editions, counts no more.
	if old := s.packet(ch); old != nil && old.key.Equal(p.key) && old.head.Generation == p.head.Generation {
		if p.item.Seq <= old.item.Seq {
			return len(old.raw), nil
		}
		if p.head.Size < old.head.Size {
			return 0, fmt.Errorf("%w: it goes back from edition %d to %d", pkarr.ErrItem, old.head.Edition, p.head.Edition)
		}
	}
	if err := s.kept.save(context.Background(), s.kept.at(ch, packetFile), raw); err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.shelf(ch).packet = p
	tell := s.posted
	s.mu.Unlock()
	if tell != nil {
		tell()
	}
	return len(raw), nil
}

// packet returns the channel's packet, nil if none is held.
func (s *Store) packet(ch channel.ID) *packet {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sh, ok := s.shelves[ch]; ok {
		return sh.packet
	}
	return nil
}

// onPacket has tell hear of every packet that is stored from now on; nil ends it.
func (s *Store) onPacket(tell func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posted = tell
}

// loadPacket loads a channel's packet after its editions. One that does not go with them
// is left out: the next push brings another.
func (s *Store) loadPacket(ctx context.Context, ch channel.ID, sh *shelf) error {
	raw, err := s.kept.load(ctx, s.kept.at(ch, packetFile), pkarr.MaxItem)
	if errors.Is(err, fs.ErrNotExist) || len(sh.editions) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := checkPacket(sh.editions[len(sh.editions)-1].roots, raw)
	if err != nil {
		s.log.Warn("stored packet is not used", "err", err)
		return nil
	}
	sh.packet = p
	return nil
}

// takePacket is the intake of packets: PUT /packet/CHANNEL.
func (h *Handler) takePacket(w http.ResponseWriter, r *http.Request, ch channel.ID) (code, held int, reason string) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", "PUT")
		return http.StatusMethodNotAllowed, 0, "method not allowed"
	}
	raw, err := io.ReadAll(io.LimitReader(newPatient(w, r.Body), transport.MaxPacket+1))
	if err != nil {
		return http.StatusBadRequest, 0, "the packet was cut off"
	}
	if len(raw) > transport.MaxPacket {
		return http.StatusRequestEntityTooLarge, 0, "larger than a signed packet may be"
	}
	held, err = h.store.putPacket(ch, raw)
	switch {
	case errors.Is(err, pkarr.ErrItem):
		h.log.Warn("packet refused", "err", err)
		return http.StatusUnprocessableEntity, 0, strings.TrimPrefix(err.Error(), pkarr.ErrItem.Error()+": ")
	case err != nil:
		h.log.Error("packet not stored", "err", err)
		return http.StatusInternalServerError, 0, "the relay's disk fails"
	}
	return http.StatusNoContent, held, ""
}

// PostPackets puts the carried channels' signed packets on BitTorrent's DHT, beginning
// with these nodes, again every hour, and new ones as they arrive. It shows the relay's
// address, and the channels' IPNS keys, to nodes that anybody may run. Only after Start,
// and once; it ends with the relay.
func (r *Relay) PostPackets(nodes []string) error {
	if r.store == nil || r.poster != nil {
		return errors.New("relay: not started, or posting already")
	}
	c, err := pkarr.New(pkarr.Config{Network: r.cfg.Network, Nodes: nodes, Logger: r.cfg.Log})
	if err != nil {
		return err
	}
	p := &poster{client: c, store: r.store, carried: r.carried, log: r.cfg.Log, fresh: make(chan struct{}, 1), posted: map[channel.ID]posting{}}
	life, stop := context.WithCancel(context.Background())
	p.stop = stop
	r.store.onPacket(p.wake)
	p.wg.Go(func() { p.run(life) })
	r.poster = p
	return nil
}

// poster puts packets on the DHT.
type poster struct {
	client  *pkarr.Client
	store   *Store
	carried *carried
	log     *slog.Logger
	fresh   chan struct{} // there is a new one

	stop context.CancelFunc
	wg   sync.WaitGroup

	posted map[channel.ID]posting // of run alone
}

// posting is which packet some node took last, and when.
type posting struct {
	seq int64
	at  time.Time
}

func (p *poster) wake() {
	select {
	case p.fresh <- struct{}{}:
	default: // it has been told
	}
}

func (p *poster) run(life context.Context) {
	for {
		wait := postEvery
		for _, ch := range p.carried.channels() {
			held := p.store.packet(ch.id)
			if held == nil {
				continue
			}
			last := p.posted[ch.id]
			left := postEvery - time.Since(last.at)
			if last.seq != held.item.Seq || left <= 0 {
				left = postEvery
				if !p.post(life, ch.id, held) {
					left = postAgain
				}
			}
			wait = min(wait, left)
		}
		select {
		case <-p.fresh:
		case <-time.After(wait):
		case <-life.Done():
			return
		}
	}
}

// post reports whether a node took the packet.
func (p *poster) post(ctx context.Context, ch channel.ID, held *packet) bool {
	n, err := p.client.Put(ctx, held.item)
	if err != nil {
		p.log.Info("packet not put on the dht", "err", err)
		return false
	}
	p.posted[ch] = posting{held.item.Seq, time.Now()}
	p.log.Info("packet put on the dht", "nodes", n)
	return true
}

// close ends it; a nil poster is none.
func (p *poster) close() {
	if p == nil {
		return
	}
	p.store.onPacket(nil)
	p.stop()
	p.wg.Wait()
}
