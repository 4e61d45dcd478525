package dns

import (
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// answerer is a datagram socket that sends each answer from the address that the query
// came to. On one that is open on all of a machine's addresses the system would take the
// one that lies nearest to who asks, and he drops what comes from another than he asked.
type answerer struct {
	pc net.PacketConn
	// msg is pc where it has more than one address and the system says which of them a
	// datagram came to; else nil.
	msg msgConn
}

// msgConn is *net.UDPConn, and what wraps one whole.
type msgConn interface {
	net.PacketConn
	net.Conn
	syscall.Conn
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
}

var _ msgConn = (*net.UDPConn)(nil)

// controlBytes has room for the control messages of both families: a socket for both gets
// two of them with a datagram over IPv4.
const controlBytes = 128

func newAnswerer(pc net.PacketConn) *answerer {
	a := &answerer{pc: pc}
	c, ok := pc.(msgConn)
	if !ok || !addrOf(pc.LocalAddr()).IsUnspecified() {
		return a
	}
	err4 := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	err6 := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	if err4 == nil || err6 == nil { // neither on Windows, and one of them on a socket for one family
		a.msg = c
	}
	return a
}

// read reads a datagram into b, with control as room for what comes along; source is what
// goes back with the answer, and made of no memory of either.
func (a *answerer) read(b, control []byte) (n int, from net.Addr, source []byte, err error) {
	if a.msg == nil {
		n, from, err = a.pc.ReadFrom(b)
		return n, from, nil, err
	}
	n, controls, _, addr, err := a.msg.ReadMsgUDP(b, control)
	if err != nil {
		return 0, nil, nil, err
	}
	return n, addr, sourceOf(control[:controls]), nil
}

// sourceOf is the control message by which an answer goes from where the query came to;
// nil if the query's control messages don't say that, or the system has no such message.
func sourceOf(control []byte) []byte {
	var to net.IP
	var m4 ipv4.ControlMessage
	var m6 ipv6.ControlMessage
	if m4.Parse(control) == nil && m4.Dst != nil {
		to = m4.Dst
	} else if m6.Parse(control) == nil {
		to = m6.Dst
	}
	switch {
	case to == nil:
		return nil
	case to.To4() != nil:
		return (&ipv4.ControlMessage{Src: to}).Marshal()
	default:
		return (&ipv6.ControlMessage{Src: to}).Marshal()
	}
}

// write sends an answer, which is lost like any datagram if it can't be. Where the system
// sends nothing from the address that was asked, as from a broadcast's, it goes from any.
func (a *answerer) write(b, source []byte, to net.Addr) {
	if addr, ok := to.(*net.UDPAddr); ok && len(source) > 0 {
		if _, _, err := a.msg.WriteMsgUDP(b, source, addr); err == nil {
			return
		}
	}
	_, _ = a.pc.WriteTo(b, to)
}
