package censor

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// windowBytes is how much of a stream may be on its way to the reader.
	windowBytes = 64 << 10
	pieceBytes  = 16 << 10
	// swallowBytes is how much may be written into a connection that stands
	// still before the writer waits: a system's send buffer.
	swallowBytes = 64 << 10
)

// stream is a TCP connection behind the middleboxes. One goroutine reads what
// arrives; it ends when the connection is closed or reset.
type stream struct {
	c     *Censor
	inner net.Conn
	flow  *flow
	in    *inbox

	turn chan struct{} // one writer at a time; a mutex held over a wait would stop a fake clock

	mu        sync.Mutex
	end       error // set once it was reset or closed
	still     bool
	swallowed int
	deadline  time.Time     // of writes
	changed   chan struct{} // closed and replaced when any of it changes
}

var _ net.Conn = (*stream)(nil)

func newStream(c *Censor, inner net.Conn, f *flow) net.Conn {
	t := &stream{c: c, inner: inner, flow: f, in: newInbox(), turn: make(chan struct{}, 1), changed: make(chan struct{})}
	c.mu.Lock()
	c.streams[t] = struct{}{}
	c.mu.Unlock()
	go t.pump()
	if f.stale() { // changed while it was being opened: Set has not seen it
		t.apply(f.connect())
	}
	return t
}

// change runs f under the lock and wakes writers.
func (t *stream) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
}

// apply does what the middleboxes say about the connection as a whole.
func (t *stream) apply(v Verdict) {
	switch v.Action {
	case Drop, Freeze:
		t.freeze()
	case Reset:
		t.reset()
	default:
	}
}

// freeze lets nothing pass any more. What has passed already arrives.
func (t *stream) freeze() { t.change(func() { t.still = true }) }

// reset ends the connection at both ends.
func (t *stream) reset() {
	t.change(func() {
		if t.end == nil {
			t.end = os.NewSyscallError("write", syscall.ECONNRESET)
		}
	})
	t.in.finish(os.NewSyscallError("read", syscall.ECONNRESET), true)
	switch c := t.inner.(type) {
	case interface{ Reset() }:
		c.Reset()
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0) // so that the other end hears of it
	}
	_ = t.inner.Close()
	t.forget()
}

func (t *stream) forget() {
	t.c.mu.Lock()
	delete(t.c.streams, t)
	t.c.mu.Unlock()
}

// stopped reports whether nothing passes any more.
func (t *stream) stopped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.still || t.end != nil
}

// pump reads until the connection ends or stands still.
func (t *stream) pump() {
	buf := make([]byte, pieceBytes)
	for {
		n, err := t.inner.Read(buf)
		if t.stopped() {
			return // what comes now is lost
		}
		if n > 0 && !t.arrived(buf[:n]) {
			return
		}
		if err != nil {
			t.in.finish(err, false)
			return
		}
		for {
			ok, changed := t.in.room(windowBytes, windowBytes)
			if ok {
				break
			}
			<-changed
		}
	}
}

// arrived passes a piece on; false: it was the last.
func (t *stream) arrived(b []byte) bool {
	v := t.flow.in(b)
	if v.Data != nil {
		b = v.Data
	}
	switch v.Action {
	case Reset:
		t.reset()
		return false
	case Drop:
		b = nil
	case Freeze:
		b = b[:min(v.Keep, len(b))]
	default:
	}
	if len(b) > 0 {
		t.c.down.Add(int64(len(b)))
		t.in.put(arrival{due: time.Now().Add(v.Delay), data: append([]byte(nil), b...)}, true)
	}
	if v.Action != Pass {
		t.freeze()
		return false
	}
	return true
}

// Read implements net.Conn.
func (t *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, err := t.in.take(p, true)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, opError("read", TCP, err)
}

// Write implements net.Conn.
func (t *stream) Write(p []byte) (int, error) {
	// A write under way ends by the same deadline and Close that would end ours.
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	done := 0
	for {
		piece := p[done:min(len(p), done+pieceBytes)]
		n, err := t.write(piece)
		if done += n; err != nil || done >= len(p) {
			return done, err
		}
	}
}

// write sends one piece.
func (t *stream) write(p []byte) (int, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	if t.stopped() {
		return t.swallow(len(p))
	}
	t.c.up.Add(int64(len(p)))
	v := t.flow.out(p)
	b := p
	if v.Data != nil {
		b = v.Data
	}
	switch v.Action {
	case Reset:
		t.reset()
		return 0, t.check()
	case Drop:
		b = nil
	case Freeze:
		b = b[:min(v.Keep, len(b))]
	default:
	}
	if v.Delay > 0 {
		if err := t.sleep(v.Delay); err != nil {
			return 0, err
		}
	}
	if len(b) > 0 {
		if n, err := t.inner.Write(b); err != nil {
			if end := t.check(); end != nil {
				err = end
			}
			return min(n, len(p)), err
		}
	}
	if v.Action != Pass {
		t.freeze()
	}
	return len(p), nil
}

// check returns why nothing can be written: an end, or the deadline.
func (t *stream) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why()
}

// why is check with mu held.
func (t *stream) why() error {
	if t.end != nil {
		return opError("write", TCP, t.end)
	}
	if !t.deadline.IsZero() && !t.deadline.After(time.Now()) {
		return opError("write", TCP, os.ErrDeadlineExceeded)
	}
	return nil
}

// swallow takes n bytes that go nowhere, as long as a send buffer would.
func (t *stream) swallow(n int) (int, error) {
	for {
		t.mu.Lock()
		if err := t.why(); err != nil {
			t.mu.Unlock()
			return 0, err
		}
		if t.swallowed+n <= swallowBytes {
			t.swallowed += n
			t.mu.Unlock()
			return n, nil
		}
		changed, deadline := t.changed, t.deadline
		t.mu.Unlock()
		await(changed, deadline)
	}
}

// sleep waits, unless the connection ends or the deadline comes first.
func (t *stream) sleep(d time.Duration) error {
	until := time.Now().Add(d)
	for {
		t.mu.Lock()
		err, changed, wake := t.why(), t.changed, until
		if !t.deadline.IsZero() && t.deadline.Before(wake) {
			wake = t.deadline
		}
		t.mu.Unlock()
		if err != nil || !until.After(time.Now()) {
			return err
		}
		await(changed, wake)
	}
}

// Close implements net.Conn: it wakes Read and Write at once.
func (t *stream) Close() error {
	t.change(func() {
		if t.end == nil {
			t.end = net.ErrClosed
		}
		if z, ok := t.inner.(interface{ Freeze() }); ok && t.still {
			z.Freeze() // the other end does not hear of it
		}
	})
	t.in.close()
	t.forget()
	return t.inner.Close()
}

// CloseWrite ends what the reader says, if the connection below can do that.
func (t *stream) CloseWrite() error {
	h, ok := t.inner.(interface{ CloseWrite() error })
	if !ok || t.stopped() {
		return nil
	}
	return h.CloseWrite()
}

// LocalAddr implements net.Conn.
func (t *stream) LocalAddr() net.Addr { return t.inner.LocalAddr() }

// RemoteAddr implements net.Conn.
func (t *stream) RemoteAddr() net.Addr { return t.inner.RemoteAddr() }

// SetDeadline implements net.Conn.
func (t *stream) SetDeadline(d time.Time) error {
	t.in.setDeadline(d)
	return t.SetWriteDeadline(d)
}

// SetReadDeadline implements net.Conn.
func (t *stream) SetReadDeadline(d time.Time) error {
	t.in.setDeadline(d)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (t *stream) SetWriteDeadline(d time.Time) error {
	t.change(func() { t.deadline = d })
	return t.inner.SetWriteDeadline(d)
}
