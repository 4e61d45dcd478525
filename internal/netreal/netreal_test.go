package netreal

import (
	"net"
	"net/netip"
	"testing"
)

func TestUDPIsBare(t *testing.T) {
	pc, err := (&Network{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, ok := pc.(*net.UDPConn); !ok {
		t.Fatalf("ListenPacket returned a %T: quic-go loses its fast paths", pc)
	}
}

func TestAddressResolvesToItself(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8::1": "2001:db8::1"} {
		as, err := (&Network{}).Resolve(t.Context(), in)
		if err != nil || len(as) != 1 || as[0] != netip.MustParseAddr(want) {
			t.Errorf("Resolve(%q) = %v, %v", in, as, err)
		}
	}
}

func TestDialAndListenMeet(t *testing.T) {
	n := &Network{}
	ln, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, _ = c.Write([]byte("x"))
			c.Close()
		}
	}()
	c, err := n.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1)
	if _, err := c.Read(b); err != nil || b[0] != 'x' {
		t.Fatalf("read %q, %v", b, err)
	}
}
