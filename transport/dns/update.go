package dns

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"time"

	mdns "github.com/miekg/dns"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
)

const (
	// updateBytes is how much goes into one update: half of what a message can
	// hold, since some servers write a journal of twice its size.
	updateBytes = 32 << 10
	// updateWait is how long one update may take: the server may sign the zone.
	updateWait = time.Minute
	// askedAtOnce is how many queries wait for their answers.
	askedAtOnce = 64
	// maxParts is how many parts a head can be cut into.
	maxParts = 4
)

// Updater changes a zone on somebody else's name server (RFC 2136) over TCP, each
// message signed with a key (RFC 8945). It touches TXT records only. What it
// sends is applied whole or not at all, message by message. Its methods are not
// to be called at once, and nobody retries inside: errors wrap
// transport.ErrRefused where trying again is of no use. No error holds an address
// or a key.
type Updater struct {
	nw   transport.Network
	zone string
	addr string
	key  *Key
	conn net.Conn
	buf  []byte
}

// NewUpdater checks the zone's name; it opens nothing. server is "host:port".
func NewUpdater(nw transport.Network, zone, server string, key *Key) (*Updater, error) {
	name, err := checkZone(zone)
	if err != nil {
		return nil, err
	}
	return &Updater{nw: nw, zone: name, addr: server, key: key}, nil
}

// Close ends the connection, if there is one.
func (u *Updater) Close() error {
	if u.conn == nil {
		return nil
	}
	err := u.conn.Close()
	u.conn = nil
	return err
}

// Head returns what stands under the channel's label; transport.ErrNotFound if
// nothing does.
func (u *Updater) Head(ctx context.Context, ch channel.ID) ([]byte, error) {
	var head []byte
	err := u.ask(ctx, []string{ch.Label()}, func(_ string, data []byte) { head = data })
	if err == nil && head == nil {
		err = fmt.Errorf("no head in the zone: %w", transport.ErrNotFound)
	}
	return head, err
}

// RootNote asks for a root note of the channel, unchecked. The error wraps
// transport.ErrNotFound if it is not there whole, and record.ErrBad if what is there is none.
func (u *Updater) RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error) {
	missing := fmt.Errorf("no root note %d in the zone: %w", version, transport.ErrNotFound)
	found, err := u.records(ctx, ch.RootLabel(version))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, missing
	}
	top, err := record.Parse(found[0])
	switch {
	case err != nil:
		return nil, err
	case top.Kind == record.Leaf:
		return top.Payload, nil
	case top.Kind != record.Piece || top.Size > channel.MaxRootNote: // of which all children are leaves
		return nil, fmt.Errorf("%w: no root note", record.ErrBad)
	}
	var labels []string
	for _, n := range top.Names {
		labels = append(labels, n.Label())
	}
	if found, err = u.records(ctx, labels...); err != nil {
		return nil, err
	}
	var note []byte
	for i, rec := range found {
		leaf, err := record.Parse(rec)
		if err != nil || record.NameOf(rec) != top.Names[i] {
			return nil, missing
		}
		note = append(note, leaf.Payload...)
	}
	if len(note) != top.Size {
		return nil, missing
	}
	return note, nil
}

// records are the records under labels, as far as they are there, in their order.
func (u *Updater) records(ctx context.Context, labels ...string) (found [][]byte, err error) {
	by := map[string][]byte{}
	err = u.ask(ctx, labels, func(label string, data []byte) { by[label] = data })
	for _, l := range labels {
		if data, ok := by[l]; ok {
			found = append(found, data)
		}
	}
	return found, err
}

// Put adds an edition to the zone: records by hash first, then root notes and
// grants, and in one last update the head in all its forms, so that nobody is
// sent after records that aren't there. With resume it asks for each record by
// hash whether it is there, and sends the others. progress (may be nil) hears of
// bytes of TXT data.
func (u *Updater) Put(ctx context.Context, e *Edition, resume bool, progress func(held, total int64)) error {
	var total, held int64
	var labels []string
	for entry, err := range e.Entries() {
		if err != nil {
			return fmt.Errorf("%w: %w", transport.ErrRefused, err)
		}
		total += int64(len(entry.Data))
		if !entry.Named {
			labels = append(labels, entry.Label)
		}
	}
	there, spoiled := map[string]bool{}, map[string]bool{}
	if resume {
		err := u.ask(ctx, labels, func(label string, data []byte) {
			if isRecord(label, data) {
				there[label] = true
			} else {
				spoiled[label] = true
			}
		})
		if err != nil {
			return err
		}
	}
	tell := func(n int) {
		if held += int64(n); progress != nil {
			progress(held, total)
		}
	}
	b := &batch{u: u, done: tell}
	var head []Entry
	for entry, err := range e.Entries() {
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", transport.ErrRefused, err)
		case there[entry.Label] && !spoiled[entry.Label]:
			tell(len(entry.Data))
			continue
		case isHead(e.Channel, entry.Label):
			head = append(head, entry)
			continue
		}
		if spoiled[entry.Label] {
			b.remove(entry.Label, false)
		}
		if err := b.add(ctx, entry); err != nil {
			return err
		}
	}
	if err := b.flush(ctx); err != nil || len(head) == 0 {
		return err
	}
	return b.putHead(ctx, e.Channel, head)
}

// PutHead puts the head alone into the zone, in one update, and returns how many bytes of
// TXT data that took. Whatever it leads to must be there.
func (u *Updater) PutHead(ctx context.Context, e *Edition) (sent int64, err error) {
	b := &batch{u: u, done: func(n int) { sent += int64(n) }}
	var head []Entry
	for entry, err := range e.Entries() {
		if err != nil {
			return 0, fmt.Errorf("%w: %w", transport.ErrRefused, err)
		}
		if isHead(e.Channel, entry.Label) {
			head = append(head, entry)
		}
	}
	err = b.putHead(ctx, e.Channel, head)
	return sent, err
}

func (b *batch) putHead(ctx context.Context, ch channel.ID, head []Entry) error {
	// Parts of a longer head that was there before must not stay.
	for i := range maxParts {
		b.remove(partLabel(ch.Label(), i), true)
	}
	for _, entry := range head {
		if err := b.put(entry); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

func isHead(ch channel.ID, label string) bool {
	if label == ch.Label() {
		return true
	}
	for i := range maxParts {
		if label == partLabel(ch.Label(), i) {
			return true
		}
	}
	return false
}

// Remove removes what stands under those labels, and returns how many of them are
// gone for certain.
func (u *Updater) Remove(ctx context.Context, entries iter.Seq[Entry]) (removed int, err error) {
	n := 0
	b := &batch{u: u, done: func(int) { removed, n = removed+n, 0 }}
	for e := range entries {
		b.remove(e.Label, e.Named)
		if n++; b.size > updateBytes {
			if err := b.flush(ctx); err != nil {
				return removed, err
			}
		}
	}
	return removed, b.flush(ctx)
}

// batch is one update in the making.
type batch struct {
	u    *Updater
	rrs  []mdns.RR
	size int
	data int
	done func(data int) // after each update, with the bytes of data in it
}

// add sends what there is if the entry doesn't fit in any more.
func (b *batch) add(ctx context.Context, e Entry) error {
	if b.size > 0 && b.size+3*len(e.Data) > updateBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	return b.put(e)
}

// put adds an entry; what is named takes the place of what was there.
func (b *batch) put(e Entry) error {
	if err := checkHost(e.Label); err != nil {
		return err
	}
	if e.Named {
		b.remove(e.Label, true)
	}
	for rr := range e.rrs(b.u.zone) {
		b.rrs = append(b.rrs, rr)
		b.size += len(rr.Header().Name) + len(e.Data)*4/3 + 20
	}
	b.data += len(e.Data)
	return nil
}

// remove removes TXT records and nothing else, which is all that a careful server
// lets the key do; named ones with their wildcard.
func (b *batch) remove(label string, named bool) {
	names := []string{label}
	if named {
		names = append(names, "*."+label)
	}
	for _, n := range names {
		rr := &mdns.ANY{Hdr: mdns.RR_Header{Name: n + "." + b.u.zone + ".", Rrtype: mdns.TypeTXT, Class: mdns.ClassANY}}
		b.rrs = append(b.rrs, rr)
		b.size += len(rr.Hdr.Name) + 12
	}
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.rrs) == 0 {
		return nil
	}
	m := new(mdns.Msg).SetUpdate(b.u.zone + ".")
	m.Ns, m.Compress = b.rrs, true
	resp, err := b.u.exchange(ctx, m)
	if err != nil {
		return fmt.Errorf("dns update: %w", err)
	}
	if err := meaning(resp); err != nil {
		return fmt.Errorf("dns update: %w", err)
	}
	b.done(b.data)
	b.rrs, b.size, b.data = nil, 0, 0
	return nil
}

// Entries yields what the edition puts into a zone; the head last. An error is
// the last thing yielded.
func (e *Edition) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for p, err := range e.records() {
			entry := Entry{Label: p.label, Data: p.bytes, Named: p.label != ""}
			if !entry.Named {
				entry.Label = p.name.Label()
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// isRecord reports whether TXT data is the record of that name, unspoiled.
func isRecord(label string, data []byte) bool {
	if record.NameOf(data).Label() == label {
		return true
	}
	small, ok := untext(record.Small, data)
	return ok && record.NameOf(small).Label() == label
}

// ask asks for the TXT records of labels, many at once. got hears of those that
// have one.
func (u *Updater) ask(ctx context.Context, labels []string, got func(label string, data []byte)) error {
	for len(labels) > 0 {
		some, rest := labels[:min(askedAtOnce, len(labels))], labels[min(askedAtOnce, len(labels)):]
		used := u.conn != nil
		left, err := u.askSome(ctx, some, got)
		// Some servers take only so many queries over one connection, which may
		// cost the last answers.
		if err != nil && (!errors.Is(err, errClosed) || !used && len(left) == len(some)) {
			return fmt.Errorf("dns query: %w", err)
		}
		labels = append(left, rest...)
	}
	return nil
}

// askSome returns the labels that were not answered.
func (u *Updater) askSome(ctx context.Context, labels []string, got func(string, []byte)) (left []string, err error) {
	type sent struct{ label, mac string }
	waiting := map[uint16]sent{}
	var raws [][]byte
	for _, l := range labels {
		q := new(mdns.Msg).SetQuestion(l+"."+u.zone+".", mdns.TypeTXT)
		q.RecursionDesired = false
		for q.Id = mdns.Id(); waiting[q.Id] != (sent{}); q.Id++ {
		}
		raw, mac, err := u.key.sign(q, "", false)
		if err != nil {
			return labels, err
		}
		waiting[q.Id] = sent{l, mac}
		raws = append(raws, raw)
	}
	err = u.talk(ctx, raws, func(raw []byte, resp *mdns.Msg) (bool, error) {
		w, ok := waiting[resp.Id]
		if !ok {
			return false, nil
		}
		if err := u.genuine(raw, resp, w.mac); err != nil {
			return false, err
		}
		if resp.Rcode != mdns.RcodeNameError {
			if err := meaning(resp); err != nil {
				return false, err
			}
		}
		delete(waiting, resp.Id)
		for _, rr := range resp.Answer {
			if txt, ok := rr.(*mdns.TXT); ok {
				data, err := txtOf(txt)
				if err != nil {
					return false, err
				}
				got(w.label, data)
			}
		}
		return len(waiting) == 0, nil
	})
	for _, w := range waiting {
		left = append(left, w.label)
	}
	return left, err
}

// txtOf joins the strings of a TXT record as they came over the wire.
func txtOf(rr *mdns.TXT) ([]byte, error) {
	wire := make([]byte, mdns.Len(rr))
	n, err := mdns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return nil, errBadMessage
	}
	_, off, err := mdns.UnpackDomainName(wire, 0)
	if err != nil || off+10 > n {
		return nil, errBadMessage
	}
	var out []byte
	for b := wire[off+10 : n]; len(b) > 0; b = b[1+int(b[0]):] { // type, class, TTL and length are 10 bytes
		if int(b[0]) >= len(b) {
			return nil, errBadMessage
		}
		out = append(out, b[1:1+int(b[0])]...)
	}
	return out, nil
}

// exchange sends one message and returns the answer to it.
func (u *Updater) exchange(ctx context.Context, m *mdns.Msg) (resp *mdns.Msg, err error) {
	raw, mac, err := u.key.sign(m, "", false)
	if err != nil {
		return nil, err
	}
	for {
		used := u.conn != nil
		err = u.talk(ctx, [][]byte{raw}, func(raw []byte, got *mdns.Msg) (bool, error) {
			if got.Id != m.Id {
				return false, nil
			}
			resp = got
			return true, u.genuine(raw, got, mac)
		})
		// It may have been closed since it was used; an update may come twice.
		if !used || !errors.Is(err, errClosed) {
			return resp, err
		}
	}
}

// errClosed: the connection ended before the answer.
var errClosed = errors.New("the name server closed the connection")

// talk writes messages and reads answers until take is done with them. After an
// error the connection is closed: what comes on it would be for somebody else.
func (u *Updater) talk(ctx context.Context, raws [][]byte, take func(raw []byte, resp *mdns.Msg) (done bool, err error)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, updateWait)
	defer cancel()
	if u.conn == nil {
		if u.conn, err = u.nw.Dial(ctx, "tcp", u.addr); err != nil {
			u.conn = nil
			return errors.New("the name server can't be reached over TCP")
		}
		u.buf = make([]byte, 0xffff)
	}
	conn := u.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() || err != nil {
			_ = u.Close() // it is of no more use
		}
	}()
	written := make(chan error, 1)
	go func() {
		for _, raw := range raws {
			if err := writeFrame(conn, raw); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	defer func() {
		if err != nil {
			_ = conn.Close() // or writing might go on
		}
		if werr := <-written; err == nil && werr != nil {
			err = errClosed
		}
	}()
	for {
		raw, err := readFrame(conn, u.buf)
		if err != nil {
			switch {
			case context.Cause(ctx) != nil:
				return fmt.Errorf("no answer: %w", context.Cause(ctx))
			case errors.Is(err, errBadMessage):
				return err
			}
			return errClosed
		}
		resp := new(mdns.Msg)
		if err := resp.Unpack(raw); err != nil || !resp.Response {
			return errBadMessage
		}
		if done, err := take(raw, resp); done || err != nil {
			return err
		}
	}
}

// genuine checks an answer's signature. Refusals may come without one: who can
// forge them can cut the line as well.
func (u *Updater) genuine(raw []byte, resp *mdns.Msg, mac string) error {
	if err := meaning(resp); err != nil && resp.Rcode != mdns.RcodeNameError {
		return err
	}
	if _, err := u.key.verify(raw, resp, mac); err != nil {
		return errors.New("the answer is not signed with the key, so it is not believed")
	}
	return nil
}

// meaning turns the code of an answer into an error that says what to look at.
func meaning(resp *mdns.Msg) error {
	final := func(what string) error { return fmt.Errorf("%s: %w", what, transport.ErrRefused) }
	if t := resp.IsTsig(); t != nil {
		switch t.Error {
		case mdns.RcodeBadKey:
			return final("the name server does not know the key; its name and algorithm must be the same there")
		case mdns.RcodeBadSig:
			return final("the name server has another secret under the key's name")
		case mdns.RcodeBadTime:
			return final("the name server's clock is more than five minutes from this one; set both right")
		}
	}
	switch resp.Rcode {
	case mdns.RcodeSuccess:
		return nil
	case mdns.RcodeRefused:
		return final("the name server lets this key change nothing here; allow it to update TXT records of the zone")
	case mdns.RcodeNotAuth:
		return final("the name server is not the zone's primary, or does not know the key")
	case mdns.RcodeNotZone:
		return final("the name server has another zone of this name; is the zone's name right?")
	case mdns.RcodeNotImplemented:
		return final("the name server takes no updates (RFC 2136)")
	case mdns.RcodeFormatError:
		return final("the name server does not understand the update")
	case mdns.RcodeServerFailure:
		return errors.New("the name server failed; its log may say why (its quota, its disk)")
	}
	return fmt.Errorf("the name server answered %s", mdns.RcodeToString[resp.Rcode])
}
