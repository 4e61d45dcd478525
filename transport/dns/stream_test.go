package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/record"
)

// One network doesn't take all connections, and gets its places back.
func TestPlaces(t *testing.T) {
	w := newWorld(t)
	srv, err := NewServer(ServerConfig{Zones: []Zone{{Name: testZone}}, Store: w.store, MaxTCP: 9})
	if err != nil {
		t.Fatal(err)
	}
	addr := start(t, w.nw, srv)
	q := appendQuery(nil, 5, w.ch.Label()+"."+testZone, record.Large)
	ask := func() (net.Conn, bool) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = writeFrame(conn, q)
		resp, err := readFrame(conn, make([]byte, maxMessage))
		return conn, err == nil && len(resp) > 0
	}
	first, ok1 := ask()
	second, ok2 := ask()
	third, ok3 := ask()
	if !ok1 || !ok2 || ok3 {
		t.Errorf("three connections: %v %v %v; a quarter of 9 is 2", ok1, ok2, ok3)
	}
	_ = third.Close()
	_ = second.Close()
	for { // as soon as the server has seen it
		conn, ok := ask()
		_ = conn.Close()
		if ok {
			break
		}
	}
	_ = first.Close()
	p := &places{limit: 1, taken: map[netip.Prefix]int{}}
	leave, ok := p.enter(netip.MustParseAddr("2001:db8::1"))
	if _, again := p.enter(netip.MustParseAddr("2001:db8:0:ff::1")); !ok || again {
		t.Error("a /56 has more than one place")
	}
	if leave(); len(p.taken) != 0 {
		t.Error("a network without connections is remembered")
	}
}

// Who asks what is not answered here is shown out after a while.
func TestBadQueriesEnd(t *testing.T) {
	srv, _ := limited(t)
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			srv.serveConn(t.Context(), ours, netip.MustParseAddr("192.0.2.1"), func() time.Duration { return tcpIdle })
		}()
		q := appendQuery(nil, 7, "example.org", record.Large)
		answered := 0
		for writeFrame(theirs, q) == nil {
			if _, err := readFrame(theirs, make([]byte, maxMessage)); err != nil {
				break
			}
			answered++
		}
		if answered != tcpBad {
			t.Errorf("%d refusals over one connection, want %d", answered, tcpBad)
		}
	})
}

// A connection ends when it was silent for as long as it may be just then.
func TestIdleEnds(t *testing.T) {
	srv, q := limited(t)
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var patience atomic.Int64
		patience.Store(int64(tcpIdle))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer ours.Close()
			srv.serveConn(ctx, ours, netip.MustParseAddr("192.0.2.1"), func() time.Duration { return time.Duration(patience.Load()) })
		}()
		talk := func() error {
			if err := writeFrame(theirs, q); err != nil {
				return err
			}
			_, err := readFrame(theirs, make([]byte, maxMessage))
			return err
		}
		time.Sleep(tcpIdle - time.Second)
		patience.Store(int64(tcpBusy))
		if err := talk(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != tcpBusy {
			t.Errorf("ended after %v: %v", time.Since(began), err)
		}
	})
}

// Queries that are sent without waiting are answered in their order, also when the
// last one comes in pieces.
func TestPipelining(t *testing.T) {
	w := newWorld(t).serve()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var sent bytes.Buffer
	const n = 300
	for i := range n {
		_ = writeFrame(&sent, appendQuery(nil, uint16(i), w.ch.Label()+"."+testZone, record.Large))
	}
	raw := sent.Bytes()
	read := func(from, to int) {
		for i := from; i < to; i++ {
			resp, err := readFrame(conn, make([]byte, maxMessage))
			if id, ok := readID(resp); err != nil || !ok || int(id) != i || resp[7] != 1 {
				t.Fatalf("answer %d: %x, %v", i, resp, err)
			}
		}
	}
	if _, err := conn.Write(raw[:len(raw)-5]); err != nil {
		t.Fatal(err)
	}
	read(0, n-1) // nothing is kept back for the rest of the last
	if _, err := conn.Write(raw[len(raw)-5:]); err != nil {
		t.Fatal(err)
	}
	read(n-1, n)
}
