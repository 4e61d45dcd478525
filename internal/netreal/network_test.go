package netreal

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/fstest"
)

// word is an IPv4 address as the kernel's route table writes it on this machine.
func word(a, b, c, d byte) string {
	return fmt.Sprintf("%08X", binary.NativeEndian.Uint32([]byte{a, b, c, d}))
}

func TestGatewayFromTables(t *testing.T) {
	const routeHead = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const arpHead = "IP address       HW type     Flags       HW address            Mask     Device\n"
	const zero = "00000000000000000000000000000000"
	route := func(dev, dst, gw, flags string, metric int, mask string) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t0\t0\t%d\t%s\t0\t0\t0\n", dev, dst, gw, flags, metric, mask)
	}
	local := route("wlan0", word(192, 168, 7, 0), "00000000", "0001", 600, word(255, 255, 255, 0))
	wifi := route("wlan0", "00000000", word(192, 168, 7, 1), "0003", 600, "00000000")
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":     {nil, ""},
		"only local":  {map[string]string{"route": routeHead + local}, ""},
		"a router":    {map[string]string{"route": routeHead + local + wifi}, "gw 192.168.7.1"},
		"it is down":  {map[string]string{"route": routeHead + strings.Replace(wifi, "0003", "0002", 1)}, ""},
		"garbage":     {map[string]string{"route": routeHead + "x\n\n\x00\xff\t00000000\nwlan0\t00000000\tZZ\t0003\t0\t0\t1\t00000000\n"}, ""},
		"half a line": {map[string]string{"route": routeHead + wifi[:20]}, ""},
		"a router that was talked to": {map[string]string{
			"route": routeHead + wifi,
			"arp": arpHead + "192.168.7.9      0x1         0x2         02:00:00:00:00:09     *        wlan0\n" +
				"192.168.7.1      0x1         0x2         02:00:00:00:00:99     *        eth0\n" +
				"192.168.7.1      0x1         0x2         02:00:00:00:00:01     *        wlan0\n",
		}, "gw 192.168.7.1 02:00:00:00:00:01"},
		"not resolved": {map[string]string{
			"route": routeHead + wifi,
			"arp":   arpHead + "192.168.7.1      0x1         0x0         00:00:00:00:00:00     *        wlan0\n",
		}, "gw 192.168.7.1"},
		"cable before radio": {map[string]string{
			"route": routeHead + wifi + route("eth0", "00000000", word(10, 0, 0, 1), "0003", 100, "00000000"),
		}, "gw 10.0.0.1"},
		"a tunnel": {map[string]string{"route": routeHead + route("tun0", "00000000", "00000000", "0001", 50, "00000000") + wifi}, "if tun0"},
		"ipv6 alone": {map[string]string{"ipv6_route": "20010db8000000000000000000000000 40 " + zero + " 00 " + zero + " 00000100 00000001 00000000 00000001     eth0\n" +
			zero + " 00 " + zero + " 00 fe80000000000000000000000000cafe 00000400 00000001 00000000 00000003     eth0\n" +
			zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000100 00000001 00000000 00000003     eth0\n" +
			zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n"}, "gw fe80::1"},
	} {
		fsys := fstest.MapFS{}
		for n, text := range c.files {
			fsys[n] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := gateway(fsys); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPrefixes(t *testing.T) {
	var as []net.Addr
	for _, s := range []string{"127.0.0.1/8", "192.168.7.20/24", "fe80::1/64", "2001:db8:1:2:3:4:5:6/64", "2001:db8:1:2::9/64", "::1/128"} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		as = append(as, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	if got, want := prefixes(as), "192.168.7.0/24 2001:db8:1:2::/64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := prefixes(nil); got != "" {
		t.Errorf("no addresses give %q", got)
	}
}

// TestGateway: this machine's tables are read without trouble, and say the same twice.
func TestGateway(t *testing.T) {
	if a, b := Gateway(), Gateway(); a != b && !strings.HasPrefix(b, a) {
		t.Errorf("%q, then %q", a, b)
	}
}
