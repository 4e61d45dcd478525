package censorlab

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tamizdat/transport"
)

// A tunnel's habits. Those that people use check every answer (dnstt's Noise,
// iodine's own codec tests), so what was cut, forged or spoiled counts as not
// come, and the query is asked again.
const (
	tunnelFlight = 32
	tunnelSetup  = 4           // round trips
	tunnelRepeat = time.Second // between two queries for the same
	tunnelTries  = 300
	// tunnelProbes is how often a handshake's query is asked.
	tunnelProbes = 60
	// tunnelChoice is how long the narrow shape, once it passes, waits for the broad.
	tunnelChoice = 2 * time.Second
)

// shape is what a tunnel puts into a query and an answer: a real one finds out, or
// is told, what the resolvers on its way let pass.
type shape struct {
	name    string
	query   int // characters
	answer  int // bytes of TXT
	payload int // of them, what is carried
	letters bool
}

var (
	broad  = shape{name: "w", query: 130 * 8 / 5, answer: 900, payload: 900}
	narrow = shape{name: "n", query: 30 * 8 / 5, answer: 300, payload: 225, letters: true}
)

// stretch is the answer to a tunnel's query. It depends on the name, so that one
// to another query is noticed.
func (s shape) stretch(name string) []string {
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	text := strings.Repeat(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]), 5)[:249]
	var out []string
	for n := s.answer; n > 0; n -= 250 {
		piece := text[:min(249, n-1)]
		if s.letters {
			out = append(out, "A"+piece)
		} else {
			out = append(out, `\255`+piece) // one byte of those that only a clean way carries
		}
	}
	return out
}

// query is a question as long as the shape's are, under a label of its own.
func query(s shape, label string) *dns.Msg {
	name := s.name + label
	name += strings.Repeat("q", s.query-len(name))
	var labels []string
	for part := range slices.Chunk([]byte(name), 57) {
		labels = append(labels, string(part))
	}
	req := new(dns.Msg)
	req.SetQuestion(strings.Join(labels, ".")+"."+zoneTunnel+".", dns.TypeTXT)
	req.SetEdns0(1232, false)
	return req
}

// wholeStretch tells an answer that came as it was sent.
func wholeStretch(want []string) func(*dns.Msg) bool {
	return func(resp *dns.Msg) bool {
		return slices.ContainsFunc(resp.Answer, func(rr dns.RR) bool {
			txt, ok := rr.(*dns.TXT)
			return ok && slices.Equal(txt.Txt, want)
		})
	}
}

// tunnel is a client's session.
type tunnel struct {
	network transport.Network
	session int
	shape   shape
}

func readTunnel(ctx context.Context, m *modelled) error {
	t := &tunnel{network: m.network, session: int(m.start.UnixNano() % 1e9)}
	var err error
	if t.shape, err = t.handshake(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	m.o.Head = m.since()
	front, text, image := m.w.sizes()
	from := 0
	for _, part := range []struct {
		size int
		at   *time.Duration
	}{{front, &m.o.Headlines}, {text, &m.o.Text}, {image, &m.o.Images}} {
		n := (part.size + t.shape.payload - 1) / t.shape.payload
		if err := t.pullAll(ctx, from, n); err != nil {
			return err
		}
		from += n
		*part.at = m.since()
	}
	return nil
}

// handshake tries both shapes at once and returns the wider that passes.
func (t *tunnel) handshake(ctx context.Context) (shape, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	try := func(s shape) <-chan error {
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < tunnelSetup && err == nil; i++ {
				err = t.pull(ctx, s, -1-i, tunnelProbes)
			}
			done <- err
		}()
		return done
	}
	big, small := try(broad), try(narrow)
	select {
	case err := <-big:
		if err == nil {
			return broad, nil
		}
		return narrow, <-small
	case err := <-small:
		if err != nil {
			return broad, <-big
		}
	}
	enough := time.NewTimer(tunnelChoice)
	defer enough.Stop()
	select {
	case err := <-big:
		if err == nil {
			return broad, nil
		}
	case <-enough.C:
	}
	return narrow, nil
}

// pullAll gets n stretches.
func (t *tunnel) pullAll(ctx context.Context, from, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, errs := make(chan int), make(chan error)
	for range tunnelFlight {
		go func() {
			var err error
			for i := range jobs {
				if err == nil {
					err = t.pull(ctx, t.shape, i, tunnelTries)
				}
			}
			errs <- err
		}()
	}
	for i := range n {
		jobs <- from + i
	}
	close(jobs)
	var failed error
	for range tunnelFlight {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// errTunnel: a stretch never came whole.
var errTunnel = errors.New("the tunnel does not pass")

// pull gets one stretch. Its name is as long as the shape's names are, and new in
// every try, so that no cache answers.
func (t *tunnel) pull(ctx context.Context, s shape, n, tries int) error {
	for try := range tries {
		label := fmt.Sprintf("s%dn%dt%d-", t.session, n, try)
		req := query(s, label)
		start := time.Now()
		if _, err := ask(ctx, t.network, req, tunnelRepeat, wholeStretch(s.stretch(req.Question[0].Name))); err == nil {
			return nil
		}
		// A socket that fails at once is no reason to ask faster.
		if err := sleep(ctx, tunnelRepeat-time.Since(start)); err != nil {
			return err
		}
	}
	return errTunnel
}

// tunnelServer answers for the tunnel's zone, and for the mirror site's name.
func tunnelServer(pc net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		req := new(dns.Msg)
		if req.Unpack(buf[:n]) != nil || len(req.Question) != 1 {
			continue
		}
		q := req.Question[0]
		resp := new(dns.Msg).SetReply(req)
		hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
		switch {
		case q.Qtype == dns.TypeA && strings.EqualFold(q.Name, nameMirror+"."):
			resp.Answer = []dns.RR{&dns.A{Hdr: hdr, A: addrMirror.AsSlice()}}
		case q.Qtype == dns.TypeTXT:
			s := broad
			if strings.HasPrefix(strings.ToLower(q.Name), narrow.name) {
				s = narrow
			}
			hdr.Ttl = 0
			resp.Answer = []dns.RR{&dns.TXT{Hdr: hdr, Txt: s.stretch(q.Name)}}
		}
		resp.SetEdns0(1232, false)
		if b, err := resp.Pack(); err == nil {
			_, _ = pc.WriteTo(b, from)
		}
	}
}
