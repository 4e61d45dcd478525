package demo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tamizdat/bundle"
	"tamizdat/internal/netreal"
	"tamizdat/internal/safehtml"
	"tamizdat/transport"
)

var discard = slog.New(slog.DiscardHandler)

// Each path alone brings every article, and images on all but DNS.
func TestCheck(t *testing.T) {
	t.Parallel()
	w, list := newWorld(t), samples(t)
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	pictures := 0
	for _, a := range list {
		pictures += len(a.Images)
	}
	rows, err := w.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(Kinds) {
		t.Fatalf("%d rows, want one for each of %d kinds", len(rows), len(Kinds))
	}
	for i, r := range rows {
		want := pictures
		if Kinds[i] == transport.KindDNS {
			want = 0
		}
		if !r.OK || r.Error != "" || r.Path != kindNames[Kinds[i]] || r.Articles != len(list) || r.Images != want {
			t.Errorf("row %d is %+v, want %q ok with %d articles and %d images", i, r, kindNames[Kinds[i]], len(list), want)
		}
		if r.ToHead <= 0 || r.ToHeadlines < r.ToHead || r.ToText < r.ToHeadlines || r.Bytes < 5000 {
			t.Errorf("row %+v: times out of order, or fewer bytes than the texts have", r)
		}
	}
}

// Each IPFS node alone brings everything: the relay's own, and somebody's. So do
// both when one of them lies.
func TestIPFSNodes(t *testing.T) {
	t.Parallel()
	// Without pictures, since a peer that keeps blocks to itself is waited for a
	// few seconds with each request.
	w, list := newWorld(t), slices.DeleteFunc(samples(t), func(a bundle.Article) bool { return len(a.Images) > 0 })
	if _, err := w.Publish(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	inv, err := w.pub.Invite("demo")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(inv.Places.Peers); n != 2 {
		t.Fatalf("an invite names %d addresses of IPFS nodes", n)
	}
	check := func(what string) {
		t.Helper()
		row := Row{}
		if err := w.checkPath(t.Context(), transport.KindIPFS, inv.String(), &row); err != nil || row.Articles != len(list) {
			t.Errorf("%s: %+v, %v", what, row, err)
		}
	}
	all := w.places
	alone := 0
	for _, p := range all {
		if p[0] == transport.KindIPFS {
			alone++
			w.places = [][3]string{p}
			check(strings.Join(p[1:], " ") + " alone")
		}
	}
	if w.places = all; alone != 2 {
		t.Errorf("%d places of IPFS nodes", alone)
	}
	evil, err := Find("evil-peer")
	if err != nil || !slices.Contains(leaves(evil), transport.KindIPFS) {
		t.Fatalf("an evil peer leaves %q, %v", leaves(evil), err)
	}
	w.liars.set(evil.Far)
	told := func() int {
		w.liars.mu.Lock()
		defer w.liars.mu.Unlock()
		return w.liars.told
	}
	// An honest node that is quick brings everything before the other is asked.
	for try := 0; told() == 0 && try < 20; try++ {
		check("one of them lies")
	}
	if told() == 0 {
		t.Error("nobody lied")
	}
}

// Check must be able to fail: a path that holds nothing, and articles that are
// not what was published.
func TestCheckSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Publish(t.Context(), samples(t)); err != nil {
		t.Fatal(err)
	}
	invite, err := w.Invite()
	if err != nil {
		t.Fatal(err)
	}
	check := func() (row Row, err error) {
		err = w.checkPath(t.Context(), transport.KindFile, invite, &row)
		return row, err
	}
	if _, err := check(); err != nil {
		t.Fatal(err)
	}
	pictured := slices.IndexFunc(w.articles, func(a bundle.Article) bool { return len(a.Images) > 0 })
	for what, forge := range map[string]func(a *bundle.Article){
		"title": func(a *bundle.Article) { a.Title += "!" },
		"text":  func(a *bundle.Article) { a.Body += "<p>One sentence more.</p>" },
		"image": func(a *bundle.Article) {
			a.Images = slices.Clone(a.Images)
			a.Images[0].Data = append(slices.Clone(a.Images[0].Data), 0)
		},
	} {
		kept := w.articles[pictured]
		forge(&w.articles[pictured])
		if _, err := check(); err == nil || !strings.Contains(err.Error(), "not what was published") {
			t.Errorf("another %s than was published: %v", what, err)
		}
		w.articles[pictured] = kept
	}
	if err := os.RemoveAll(w.Stick()); err != nil {
		t.Fatal(err)
	}
	if row, err := check(); err == nil || row.Articles > 0 {
		t.Errorf("an empty stick brought %d articles, %v", row.Articles, err)
	}
}

// estimate is what people are told where only DNS works.
var estimate = regexp.MustCompile(`about (\d+) (?:DNS )?questions, .+ up.+ down`)

// The page of a reader whose ways are blocked by hand.
func TestLive(t *testing.T) {
	t.Parallel()
	l := startLive(t, quick)
	v := visit(t, l)
	for _, a := range samples(t) {
		v.until("sample article", func() bool { return v.headline(a.Title) != "" })
	}

	// The panel takes the actions that it shows and no others, and tells the last few.
	t.Run("actions", func(t *testing.T) {
		p := panel{l.Live}
		for _, action := range []string{"", "block", "block everything", "open quic tcp", "close quic", "Publish", "lie", "lie trickle", "lie old-head now", "proof"} {
			if err := p.Do(t.Context(), action); err == nil {
				t.Errorf("action %q was taken", action)
			}
		}
		for _, k := range Kinds {
			if l.censor.Blocked(k) {
				t.Errorf("%s is blocked", k)
			}
		}
		for range 2 * maxLines {
			if err := p.Do(t.Context(), "block "+transport.KindDNS); err != nil {
				t.Fatal(err)
			}
		}
		view := p.View(t.Context())
		if len(view.Lines) != maxLines {
			t.Errorf("%d lines, want %d at most", len(view.Lines), maxLines)
		}
		if n := len(view.Switches); n != len(Kinds)+1 {
			t.Fatalf("%d switches, want one for each kind and the relay's", n)
		}
		for i, sw := range view.Switches[:len(Kinds)] {
			if want := Kinds[i] != transport.KindDNS; sw.On != want || (sw.State == "open") != want {
				t.Errorf("switch %+v, want on=%v", sw, want)
			}
		}
	})

	// While one path is open, what is published after the others were blocked
	// arrives, headline and text.
	for i, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			v := v.on(t)
			v.only(kind)
			v.press("Publish a new article")
			title := l.newest()
			v.until("bulletin over "+kindNames[kind], func() bool { return v.headline(title) != "" })
			where := v.headline(title)
			// Its second paragraph is in no lead: the text itself is here.
			_, body, _ := strings.Cut(bulletins[i%len(bulletins)].body, "</p>")
			v.until("its text", func() bool { return strings.Contains(text(v.get(where)), safehtml.Text(body)) })
			if kind != transport.KindDNS {
				return
			}
			// Before it came, people were told what it takes.
			for _, page := range []string{"/", "/status"} {
				v.until("what it takes, on "+page, func() bool {
					said := estimate.FindStringSubmatch(text(v.get(page)))
					return said != nil && said[1] != "0"
				})
			}
		})
	}

	// With everything blocked nothing arrives; it does when one switch is thrown back.
	t.Run("nothing", func(t *testing.T) {
		v := v.on(t)
		v.only("")
		v.press("Publish a new article")
		title := l.newest()
		if v.headline(title) != "" {
			t.Fatal("an article arrived while every path was blocked")
		}
		v.press("Unblock: " + kindNames[transport.KindTCP])
		v.until("bulletin after unblocking", func() bool { return v.headline(title) != "" })
	})
}

// plain is one socket of each sort on loopback, and switches that know them.
type plain struct {
	*Switches
	udp, udp2 net.PacketConn
	tcp, tcp2 net.Listener
}

func newPlain(t *testing.T) *plain {
	t.Helper()
	real := &netreal.Network{}
	p := &plain{Switches: NewSwitches(real)}
	var err [4]error
	p.udp, err[0] = real.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	p.udp2, err[1] = real.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	p.tcp, err[2] = real.Listen(t.Context(), "tcp", "127.0.0.1:0")
	p.tcp2, err[3] = real.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err := errors.Join(err[:]...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.udp.Close(); p.udp2.Close(); p.tcp.Close(); p.tcp2.Close() })
	p.Know("a", "udp", p.udp.LocalAddr().String())
	p.Know("b", "udp", p.udp2.LocalAddr().String())
	p.Know("a", "tcp", p.tcp.Addr().String())
	p.Know("b", "tcp", p.tcp2.Addr().String())
	return p
}

func TestSwitchesDropDatagrams(t *testing.T) {
	p := newPlain(t)
	c, err := p.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func(from net.PacketConn, to net.Addr, what string) {
		t.Helper()
		if n, err := from.WriteTo([]byte(what), to); n != len(what) || err != nil {
			t.Fatalf("write of %q: %d, %v", what, n, err) // a drop looks like a success
		}
	}
	next := func(at net.PacketConn) string {
		t.Helper()
		b := make([]byte, 100)
		n, _, err := at.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	// On loopback datagrams of one sender keep their order: the first that comes is the first let through.
	p.Block("a", true)
	send(c, p.udp.LocalAddr(), "dropped")
	p.Block("a", false)
	send(c, p.udp.LocalAddr(), "passed")
	if got := next(p.udp); got != "passed" {
		t.Errorf("%q went out while blocked", got)
	}
	p.Block("a", true)
	send(p.udp, c.LocalAddr(), "dropped")
	send(p.udp2, c.LocalAddr(), "of the other kind")
	if got := next(c); got != "of the other kind" {
		t.Errorf("%q came in while blocked", got)
	}
	// Whoever is not of this world is neither heard nor reached.
	stranger, err := (&netreal.Network{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	send(c, stranger.LocalAddr(), "dropped")
	send(stranger, c.LocalAddr(), "dropped")
	send(p.udp2, c.LocalAddr(), "second")
	if got := next(c); got != "second" {
		t.Errorf("%q came from a stranger", got)
	}
	if want := int64(len("passed") + len("of the other kind") + len("second")); p.Bytes() != want {
		t.Errorf("%d bytes counted, want the %d that passed", p.Bytes(), want)
	}
}

func TestSwitchesRefuse(t *testing.T) {
	p := newPlain(t)
	p.Block("a", true)
	for _, addr := range []struct{ network, address string }{
		{"tcp", p.tcp.Addr().String()},
		{"tcp4", p.tcp.Addr().String()},
		{"udp", p.udp.LocalAddr().String()},
		{"tcp", p.udp.LocalAddr().String()}, // no such place
		{"tcp", "192.0.2.1:443"},
	} {
		if c, err := p.Dial(t.Context(), addr.network, addr.address); !errors.Is(err, transport.ErrBlocked) {
			if err == nil {
				c.Close()
			}
			t.Errorf("dial %v: %v, want blocked", addr, err)
		}
	}
	if _, err := p.Listen(t.Context(), "tcp", "127.0.0.1:0"); !errors.Is(err, transport.ErrUnsupported) {
		t.Errorf("listen: %v, want unsupported", err)
	}
	if _, err := p.Resolve(t.Context(), "news.example"); !errors.Is(err, transport.ErrBlocked) {
		t.Errorf("resolve of a name: %v, want blocked", err)
	}
	got, err := p.Resolve(t.Context(), "::ffff:127.0.0.1")
	if err != nil || len(got) != 1 || got[0].String() != "127.0.0.1" {
		t.Errorf("resolve of an address: %v, %v", got, err)
	}
	p.Block("a", false)
	for _, network := range []string{"tcp", "tcp4"} {
		c, err := p.Dial(t.Context(), network, p.tcp.Addr().String())
		if err != nil {
			t.Fatalf("dial %s when open again: %v", network, err)
		}
		c.Close()
	}
	if n := len(p.conns); n != 0 {
		t.Errorf("%d closed connections are still remembered", n)
	}
}

func TestSwitchesCutStandingConnections(t *testing.T) {
	p := newPlain(t)
	dial := func(ln net.Listener) (here, there net.Conn) {
		t.Helper()
		here, err := p.Dial(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close() })
		if there, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { there.Close() })
		return here, there
	}
	cut, cutFar := dial(p.tcp)
	kept, keptFar := dial(p.tcp2)
	read := make(chan error, 1)
	go func() {
		_, err := cut.Read(make([]byte, 1))
		read <- err
	}()
	p.Block("a", true)
	if err := <-read; err == nil {
		t.Error("a blocked connection could be read")
	}
	if _, err := cut.Write([]byte("x")); !errors.Is(err, transport.ErrBlocked) {
		t.Errorf("write to a blocked connection: %v", err)
	}
	if n, err := cutFar.Read(make([]byte, 1)); err == nil || n != 0 {
		t.Error("the far end was not cut off")
	}
	if _, err := kept.Write([]byte("still here")); err != nil {
		t.Errorf("a connection of another kind: %v", err)
	}
	b := make([]byte, 10)
	if n, err := keptFar.Read(b); err != nil || string(b[:n]) != "still here" {
		t.Errorf("a connection of another kind brought %q, %v", b[:n], err)
	}
}

func TestSwitchesOnly(t *testing.T) {
	s := NewSwitches(&netreal.Network{})
	for _, kind := range Kinds {
		s.Only(kind)
		for _, k := range Kinds {
			if s.Blocked(k) != (k != kind) {
				t.Errorf("only %s: %s blocked is %v", kind, k, s.Blocked(k))
			}
		}
	}
}

// A dial that is under way when the switch is thrown must not slip through.
func TestSwitchesCutDialUnderWay(t *testing.T) {
	p := newPlain(t)
	p.base = throwing{p.base, func() { p.Block("a", true) }}
	c, err := p.Dial(t.Context(), "tcp", p.tcp.Addr().String())
	if err != nil {
		return // refused: as good
	}
	defer c.Close()
	there, err := p.tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if _, err := there.Write([]byte("x")); err != nil {
		return
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a connection made while the switch was thrown brings bytes")
	}
}

// throwing is a network on which something happens in the middle of a dial.
type throwing struct {
	transport.Network
	then func()
}

func (n throwing) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := n.Network.Dial(ctx, network, address)
	n.then()
	return c, err
}
