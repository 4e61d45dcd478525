package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// A Server can be the hidden primary of other name servers: whoever has one of
// its keys may fetch a zone as a whole (AXFR, RFC 5936), and is told when there
// is something new (NOTIFY, RFC 1996). To everybody else a zone can't be listed.

const (
	// maxTransfers is how many zones are handed out at once: each holds one
	// message of transferBytes in memory, and the versions of the store that it
	// began with.
	maxTransfers  = 4
	transferBytes = 32 << 10
	// transferWrite is how long one message may take to be taken, transferTime
	// the whole zone.
	transferWrite = 30 * time.Second
	transferTime  = 30 * time.Minute
	// tsigRoom is what is kept free for the signature of an answer besides the names
	// of key and algorithm, in bytes.
	tsigRoom = 100
)

// Versioned is an optional interface of Store: one that knows when its content
// changes can be handed on as a whole. Both methods may be called at once.
type Versioned interface {
	Store
	// Version is the SOA serial of what the store holds, which only grows (over
	// restarts, too, and when the clock goes back), and a channel that is closed
	// when there is something newer.
	Version() (serial uint32, newer <-chan struct{})
	// Snapshot holds on to one version. Release must be called.
	Snapshot() (*Snapshot, error)
}

// Snapshot is everything that a store held at one time.
type Snapshot struct {
	Serial  uint32
	Entries iter.Seq2[Entry, error]
	Release func()
}

// keyring finds a key by its canonical name.
type keyring map[string]*Key

func newKeyring(keys []*Key) (keyring, error) {
	r := keyring{}
	for _, k := range keys {
		if r[k.name] != nil {
			return nil, errors.New("two tsig keys have the same name")
		}
		r[k.name] = k
	}
	return r, nil
}

// check verifies a request. If it is not to be answered, refusal is what to say
// instead (RFC 8945 section 5.2).
func (r keyring) check(raw []byte, m *mdns.Msg) (k *Key, mac string, refusal []byte) {
	t := m.IsTsig()
	if t == nil {
		return nil, "", nil
	}
	k = r[mdns.CanonicalName(t.Hdr.Name)]
	if k == nil || mdns.CanonicalName(t.Algorithm) != k.algorithm {
		return nil, "", refuse(m, nil, mdns.RcodeBadKey)
	}
	mac, err := k.verify(raw, m, "")
	switch {
	case errors.Is(err, mdns.ErrTime):
		return nil, "", refuse(m, k, mdns.RcodeBadTime)
	case err != nil:
		return nil, "", refuse(m, nil, mdns.RcodeBadSig)
	}
	return k, mac, nil
}

// refuse says that a signature was no good; with a key only, it is signed itself.
func refuse(m *mdns.Msg, k *Key, why uint16) []byte {
	t := m.IsTsig()
	resp := new(mdns.Msg).SetRcode(m, mdns.RcodeNotAuth)
	resp.SetTsig(t.Hdr.Name, t.Algorithm, tsigFudge, time.Now().Unix())
	mark, _ := resp.Extra[0].(*mdns.TSIG) // SetTsig put it there
	mark.Error = why
	secret := ""
	if k != nil { // the client's time comes back, and ours beside it
		secret = k.secret
		var now [8]byte
		binary.BigEndian.PutUint64(now[:], uint64(time.Now().Unix()))
		mark.TimeSigned, mark.OtherLen, mark.OtherData = t.TimeSigned, 6, fmt.Sprintf("%x", now[2:])
	}
	raw, _, err := mdns.TsigGenerate(resp, secret, t.MAC, false)
	if err != nil {
		return nil // nothing of it can be answered
	}
	return raw
}

// respondSigned answers a request that carries a signature, and signs the answer.
func (s *Server) respondSigned(ctx context.Context, req, out []byte, from peer) []byte {
	m := new(mdns.Msg)
	if m.Unpack(req) != nil || m.IsTsig() == nil || len(m.Question) != 1 {
		q := question{}
		w := reply{buf: append(out[:0], make([]byte, headerLen)...), q: &q}
		copy(w.buf[:2], req)
		w.buf[2] = 0x80
		return w.finish(int(dnsmessage.RCodeFormatError), from.limit)
	}
	k, mac, refusal := s.keys.check(req, m)
	if k == nil {
		return refusal
	}
	plain := m.Copy()
	plain.Extra = plain.Extra[:len(plain.Extra)-1]
	bare, err := plain.Pack()
	if err != nil {
		return nil
	}
	udp, limit := from.limit == 0, from.limit
	if udp {
		limit = plainSize
		if o := plain.IsEdns0(); o != nil {
			limit = min(max(int(o.UDPSize()), plainSize), ednsSize)
		}
	}
	resp := new(mdns.Msg)
	if z := s.whole(m); udp && z != nil && m.Question[0].Qtype == mdns.TypeIXFR {
		// What is new doesn't fit: the serial tells whether to come again over TCP
		// (RFC 1995 section 2).
		resp.SetReply(m)
		resp.Authoritative, resp.Answer = true, []mdns.RR{z.soaRR(z.serialNow())}
	} else if err := resp.Unpack(s.respond(ctx, bare, out, peer{limit: limit - tsigRoom - len(k.name) - len(k.algorithm)})); err != nil {
		return nil
	}
	raw, _, err := k.sign(resp, mac, false)
	if err != nil {
		return nil
	}
	return raw
}

// whole is the zone that a query is about as a whole, nil if it is about none.
func (s *Server) whole(m *mdns.Msg) *zone {
	if len(m.Question) != 1 || m.Question[0].Qclass != mdns.ClassINET {
		return nil
	}
	z := s.zones[lowerASCII(strings.TrimSuffix(m.Question[0].Name, "."))]
	if z == nil || z.versions == nil {
		return nil
	}
	return z
}

// asksForZone reports whether a query is AXFR or IXFR, which take more than one
// message to answer.
func asksForZone(req []byte) bool {
	q, _, err := parseQuery(req)
	return err == nil && (q.qtype == dnsmessage.TypeAXFR || q.qtype == typeIXFR)
}

// transfer answers AXFR and IXFR over TCP; the latter by the whole zone, too,
// which RFC 1995 section 4 allows. An error ends the connection.
func (s *Server) transfer(ctx context.Context, conn net.Conn, req []byte) error {
	send := func(raw []byte) error {
		_ = conn.SetWriteDeadline(time.Now().Add(transferWrite))
		return writeFrame(conn, raw)
	}
	m := new(mdns.Msg)
	if err := m.Unpack(req); err != nil {
		return err
	}
	k, mac, refusal := s.keys.check(req, m)
	if k == nil {
		if refusal == nil { // nobody lists a zone without a key
			var err error
			if refusal, err = new(mdns.Msg).SetRcode(m, mdns.RcodeRefused).Pack(); err != nil {
				return err
			}
		}
		return send(refusal)
	}
	answer := func(rcode int) error {
		raw, _, err := k.sign(new(mdns.Msg).SetRcode(m, rcode), mac, false)
		if err != nil {
			return err
		}
		return send(raw)
	}
	z := s.whole(m)
	if z == nil {
		return answer(mdns.RcodeNotAuth)
	}
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	default:
		return answer(mdns.RcodeServerFailure) // it comes again
	}
	snap, err := z.versions.Snapshot()
	if err != nil {
		s.log.Warn("dns store failed", "err", err)
		return answer(mdns.RcodeServerFailure)
	}
	defer snap.Release()
	out := &outgoing{m: m, key: k, mac: mac, send: send}
	soa := z.soaRR(snap.Serial)
	if upToDate(m, snap.Serial) {
		return out.end(soa)
	}
	for _, rr := range append([]mdns.RR{soa}, z.apexRRs()...) {
		if err := out.add(rr, 200); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(transferTime)
	for e, err := range snap.Entries {
		switch {
		case err != nil:
			s.log.Warn("dns store failed in a transfer", "err", err)
			return err
		case ctx.Err() != nil || time.Now().After(deadline):
			return errStopped
		}
		for rr := range e.rrs(z.name) {
			if err := out.add(rr, len(e.Data)*4/3+100); err != nil {
				return err
			}
		}
	}
	return out.end(soa)
}

// upToDate reports whether an IXFR comes from a server that has the newest
// version: it sent its SOA along.
func upToDate(m *mdns.Msg, serial uint32) bool {
	if m.Question[0].Qtype != mdns.TypeIXFR || len(m.Ns) == 0 {
		return false
	}
	soa, ok := m.Ns[0].(*mdns.SOA)
	return ok && int32(soa.Serial-serial) >= 0 // RFC 1982
}

// rrs yields the records of an entry: its own, and the wildcard below if it is
// named.
func (e Entry) rrs(zone string) iter.Seq[mdns.RR] {
	return func(yield func(mdns.RR) bool) {
		name, data := e.Label+"."+zone+".", e.txt()
		if !e.Named {
			yield(txtRR(name, ttlContent, data))
			return
		}
		_ = yield(txtRR(name, ttlNamed, data)) && yield(txtRR("*."+name, ttlNamed, data))
	}
}

// outgoing is a zone on its way: signed messages, each with as many records as
// fit.
type outgoing struct {
	m       *mdns.Msg
	key     *Key
	mac     string
	send    func([]byte) error
	further bool
	rrs     []mdns.RR
	size    int
}

// add adds a record of about size bytes.
func (o *outgoing) add(rr mdns.RR, size int) error {
	if o.size+size > transferBytes {
		if err := o.flush(); err != nil {
			return err
		}
	}
	o.rrs, o.size = append(o.rrs, rr), o.size+size
	return nil
}

// end adds the SOA that ends a zone.
func (o *outgoing) end(soa mdns.RR) error {
	o.rrs = append(o.rrs, soa)
	return o.flush()
}

func (o *outgoing) flush() error {
	resp := new(mdns.Msg).SetReply(o.m)
	resp.Authoritative, resp.Compress, resp.Answer = true, true, slices.Clone(o.rrs)
	raw, mac, err := o.key.sign(resp, o.mac, o.further)
	if err != nil {
		return err
	}
	o.mac, o.further, o.rrs, o.size = mac, true, o.rrs[:0], 0
	return o.send(raw)
}

// soaRR is the zone's SOA with that serial.
func (z *zone) soaRR(serial uint32) *mdns.SOA {
	return &mdns.SOA{
		Hdr: mdns.RR_Header{Name: z.name + ".", Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: ttlZone},
		Ns:  z.ns[0].Host + ".", Mbox: "hostmaster." + z.name + ".", Serial: serial,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttlNegative,
	}
}

// apexRRs are the zone's name servers, with the addresses of those in the zone.
func (z *zone) apexRRs() []mdns.RR {
	var out []mdns.RR
	for _, ns := range z.ns {
		out = append(out, &mdns.NS{
			Hdr: mdns.RR_Header{Name: z.name + ".", Rrtype: mdns.TypeNS, Class: mdns.ClassINET, Ttl: ttlZone}, Ns: ns.Host + ".",
		})
		if !inZone(ns.Host, z.name) {
			continue
		}
		for _, a := range ns.Addrs {
			h := mdns.RR_Header{Name: ns.Host + ".", Rrtype: mdns.TypeAAAA, Class: mdns.ClassINET, Ttl: ttlZone}
			if a = a.Unmap(); a.Is4() {
				h.Rrtype = mdns.TypeA
				out = append(out, &mdns.A{Hdr: h, A: a.AsSlice()})
			} else {
				out = append(out, &mdns.AAAA{Hdr: h, AAAA: a.AsSlice()})
			}
		}
	}
	return out
}
