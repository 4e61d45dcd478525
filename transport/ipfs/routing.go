package ipfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/ipns"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"

	"tamizdat/transport"
)

// The DHT protocol (specs.ipfs.tech/routing/kad-dht), of the public network and
// of Kubo's LAN network. One GET_VALUE is all we speak of it outside a DHT.
const (
	kadProtocol    protocol.ID = "/ipfs/kad/1.0.0"
	kadLANProtocol protocol.ID = "/ipfs/lan/kad/1.0.0"
)

const (
	// maxRecords bounds what SetRecord keeps: one record a channel.
	maxRecords = 1024
	// maxAnswer bounds a GET_VALUE answer: a record and the addresses of twenty
	// closer peers, which we don't read.
	maxAnswer = 128 << 10
	// maxQuestion bounds a GET_VALUE question: a key of about 40 bytes.
	maxQuestion = 4 << 10
	// askTimeout ends one GET_VALUE of a peer that says nothing.
	askTimeout = 15 * time.Second
	// idleTimeout ends a stream on which nobody asks any more.
	idleTimeout = time.Minute
)

// SetRecord hands a signed record to the node, which gives it to whoever asks
// for it with GET_VALUE and, in a DHT, puts it there and keeps it there. The
// record is checked against the name (see HeadFromRecord); one that is older
// than what the node holds is ignored. The node keeps records in memory: the
// caller stores them.
func (n *Node) SetRecord(name string, raw []byte) error {
	in, err := ipns.NameFromString(name)
	if err != nil {
		return fmt.Errorf("%w: not an ipns name", ErrRecord)
	}
	r, err := parseRecord(in, raw)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	if old, ok := n.records[in]; ok {
		o, err := parseRecord(in, old)
		if err == nil && !r.newer(o) {
			return nil
		}
	} else if len(n.records) >= maxRecords {
		return fmt.Errorf("%d ipns records held: no room for another", maxRecords)
	}
	n.records[in] = bytes.Clone(raw)
	if n.dht != nil {
		n.announce(in)
	}
	if !n.serving && (n.dht == nil || n.dhtClient()) {
		n.serving = true
		n.host.SetStreamHandler(kadProtocol, n.answer)
	}
	return nil
}

// RemoveRecord ends the handing out of the record that SetRecord keeps under a
// name, and its upkeep in a DHT, whose nodes (this one among them, in mode
// DHTServer) forget it within 48 hours. It is no error if there is none.
func (n *Node) RemoveRecord(name string) error {
	in, err := ipns.NameFromString(name)
	if err != nil {
		return fmt.Errorf("%w: not an ipns name", ErrRecord)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.records, in)
	return nil
}

// Record returns the record SetRecord keeps under a name, for a relay's gateway
// (/ipns/<name>?format=ipns-record); transport.ErrNotFound if there is none.
func (n *Node) Record(name string) ([]byte, error) {
	in, err := ipns.NameFromString(name)
	if err != nil {
		return nil, fmt.Errorf("%w: not an ipns name", ErrRecord)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.records[in]; ok {
		return bytes.Clone(r), nil
	}
	return nil, fmt.Errorf("ipns record: %w", transport.ErrNotFound)
}

// answer serves GET_VALUE for the records we hold and resets the stream at
// anything else, so that DHT nodes which look us over don't take us for one.
func (n *Node) answer(s network.Stream) {
	defer s.Close()
	r := msgio.NewVarintReaderSize(s, maxQuestion)
	w := msgio.NewVarintWriter(s)
	for {
		_ = s.SetDeadline(time.Now().Add(idleTimeout)) // fails only on a dead stream
		raw, err := r.ReadMsg()
		if err != nil {
			return
		}
		var q dhtpb.Message
		err = proto.Unmarshal(raw, &q)
		r.ReleaseMsg(raw)
		if err != nil || q.GetType() != dhtpb.Message_GET_VALUE {
			_ = s.Reset()
			return
		}
		a := dhtpb.NewMessage(dhtpb.Message_GET_VALUE, q.GetKey(), q.GetClusterLevel())
		if name, err := ipns.NameFromRoutingKey(q.GetKey()); err == nil {
			n.mu.Lock()
			held, ok := n.records[name]
			n.mu.Unlock()
			if ok {
				a.Record = record.MakePutRecord(string(q.GetKey()), held)
			}
		}
		out, err := proto.Marshal(a)
		if err != nil || w.WriteMsg(out) != nil {
			_ = s.Reset()
			return
		}
	}
}

// ask sends one GET_VALUE to p and returns the checked record; ErrNotFound if p
// holds none. Nothing else in the answer is followed.
func (n *Node) ask(ctx context.Context, p peer.AddrInfo, name ipns.Name) (*signed, error) {
	if err := n.connect(ctx, p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := n.host.NewStream(network.WithNoDial(ctx, "connected above"), p.ID, kadProtocol, kadLANProtocol)
	if err != nil {
		return nil, fmt.Errorf("peer answers no record questions: %w", err)
	}
	defer s.Close()
	// A stream knows no context; resetting it wakes Read and Write at once.
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()

	key := name.RoutingKey()
	q, err := proto.Marshal(dhtpb.NewMessage(dhtpb.Message_GET_VALUE, key, 0))
	if err != nil {
		return nil, err
	}
	if err := msgio.NewVarintWriter(s).WriteMsg(q); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	raw, err := msgio.NewVarintReaderSize(s, maxAnswer).ReadMsg()
	if err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("read answer: %w", err))
	}
	var a dhtpb.Message
	if err := proto.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if a.GetRecord() == nil || !bytes.Equal(a.GetRecord().GetKey(), key) {
		return nil, fmt.Errorf("ipns record: %w", transport.ErrNotFound)
	}
	return parseRecord(name, a.GetRecord().GetValue())
}

// grace is how long the other peers are heard after a first valid record: long
// enough for a fresher one on the same continent.
const grace = 400 * time.Millisecond

// resolve asks every peer at once and returns the newest record of all answers.
func (n *Node) resolve(ctx context.Context, peers []peer.AddrInfo, name ipns.Name) (*signed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		rec *signed
		err error
	}
	ch := make(chan answer, len(peers)+1)
	open := 0
	for _, p := range peers {
		open++
		go func() {
			rec, err := n.ask(ctx, p, name)
			ch <- answer{rec, err}
		}()
	}
	if n.dht != nil {
		open++
		go func() {
			rec, err := n.lookup(ctx, name)
			ch <- answer{rec, err}
		}()
	}
	if open == 0 {
		return nil, fmt.Errorf("no ipfs peers known: %w", transport.ErrNotFound)
	}
	var best *signed
	var errs []error
	var late <-chan time.Time
	missing := 0
	for ; open > 0; open-- {
		select {
		case a := <-ch:
			switch {
			case a.err == nil && (best == nil || a.rec.newer(best)):
				best = a.rec
			case errors.Is(a.err, transport.ErrNotFound):
				missing++
				fallthrough
			case a.err != nil:
				errs = append(errs, a.err)
			}
			if best != nil && late == nil {
				t := time.NewTimer(grace)
				defer t.Stop()
				late = t.C
			}
		case <-late:
			return best, nil
		case <-ctx.Done():
			if best != nil {
				return best, nil
			}
			return nil, ctx.Err()
		}
	}
	if best != nil {
		return best, nil
	}
	if missing > 0 { // somebody answered: the path works, and has nothing
		return nil, fmt.Errorf("ipns record: %w", transport.ErrNotFound)
	}
	return nil, errors.Join(errs...)
}
