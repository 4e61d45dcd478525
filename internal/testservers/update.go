package testservers

import (
	"encoding/base64"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
)

// Primary is a name server in this process that takes updates of a zone (RFC
// 2136, TXT only) and answers for it, to whoever has its key. Tests that want to
// see how updates fail need one that fails as told.
type Primary struct {
	// Addr is where it listens, Key the key as one line.
	Addr, Key string
	// Before is called with each message's number, counted from 1, and may give an
	// RCODE other than 0 to answer with, or drop the connection. Set it before use.
	Before func(n int, m *mdns.Msg) (rcode int, drop bool)

	mu      sync.Mutex
	n       int
	txt     map[string][]string // by name in lower case, in presentation form
	updates [][]string          // the names of each update that was applied
}

// NewPrimary serves a zone until the test ends.
func NewPrimary(t testing.TB, zone string) *Primary {
	t.Helper()
	secret := base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes ..."))
	p := &Primary{Key: "hmac-sha256:" + zone + ":" + secret, txt: map[string][]string{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Addr = ln.Addr().String()
	started := make(chan struct{})
	srv := &mdns.Server{
		Listener: ln, Handler: mdns.HandlerFunc(p.serve), TsigSecret: map[string]string{zone + ".": secret},
		MsgAcceptFunc:     func(mdns.Header) mdns.MsgAcceptAction { return mdns.MsgAccept },
		NotifyStartedFunc: func() { close(started) },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ActivateAndServe() // it ends with the test
	}()
	<-started
	t.Cleanup(func() {
		_ = srv.Shutdown() // nobody is served any more
		<-done
	})
	return p
}

// Names are the names that have TXT records.
func (p *Primary) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.txt))
}

// Updates are the names in each update that was applied.
func (p *Primary) Updates() [][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.updates)
}

// Spoil replaces what stands under a name.
func (p *Primary) Spoil(name, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.txt[strings.ToLower(name)] = []string{text}
}

func (p *Primary) serve(w mdns.ResponseWriter, m *mdns.Msg) {
	p.mu.Lock()
	p.n++
	n, before := p.n, p.Before
	p.mu.Unlock()
	resp := new(mdns.Msg).SetReply(m)
	if before != nil {
		rcode, drop := before(n, m)
		if drop {
			_ = w.Close()
			return
		}
		resp.Rcode = rcode
	}
	sig := m.IsTsig()
	switch {
	case sig == nil:
		resp.Rcode = mdns.RcodeRefused
	case w.TsigStatus() != nil:
		resp.SetRcode(m, mdns.RcodeNotAuth)
		resp.SetTsig(sig.Hdr.Name, sig.Algorithm, 300, int64(sig.TimeSigned))
		resp.Extra[0].(*mdns.TSIG).Error = mdns.RcodeBadSig
		_ = w.WriteMsg(resp) // the client may be gone
		return
	case resp.Rcode != 0:
	case m.Opcode == mdns.OpcodeUpdate:
		p.update(m)
	default:
		p.answer(m, resp)
	}
	if sig != nil {
		resp.SetTsig(sig.Hdr.Name, sig.Algorithm, 300, int64(sig.TimeSigned))
	}
	_ = w.WriteMsg(resp) // the client may be gone
}

func (p *Primary) update(m *mdns.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, rr := range m.Ns {
		name := strings.ToLower(rr.Header().Name)
		if names = append(names, name); rr.Header().Class == mdns.ClassANY {
			delete(p.txt, name)
		} else if txt, ok := rr.(*mdns.TXT); ok {
			if text := strings.Join(txt.Txt, "\n"); !slices.Contains(p.txt[name], text) {
				p.txt[name] = append(p.txt[name], text)
			}
		}
	}
	p.updates = append(p.updates, names)
}

func (p *Primary) answer(m, resp *mdns.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	texts := p.txt[strings.ToLower(m.Question[0].Name)]
	if len(texts) == 0 {
		resp.Rcode = mdns.RcodeNameError
	}
	for _, text := range texts {
		resp.Answer = append(resp.Answer, &mdns.TXT{
			Hdr: mdns.RR_Header{Name: m.Question[0].Name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: 60}, Txt: strings.Split(text, "\n"),
		})
	}
}
