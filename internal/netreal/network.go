package netreal

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxTable bounds what is read of one of the kernel's tables, in bytes.
const maxTable = 1 << 20

// Gateway tells networks apart: it returns what identifies the one that the
// device is on now, "" if that is not known. On Linux that is the address of the
// default gateway, with its hardware address once the device has talked to it
// (so the same string with more at its end is still the same network); elsewhere,
// and on Android, which hides both, the prefixes of the device's own addresses.
//
// It names a place that somebody was at: never log it, and store it only as a
// keyed hash.
func Gateway() string {
	if g := gateway(os.DirFS("/proc/net")); g != "" {
		return g
	}
	as, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	return prefixes(as)
}

// gateway reads the tables of proc(5) below proc.
func gateway(proc fs.FS) string {
	if g := gateway4(proc); g != "" {
		return g
	}
	return gateway6(proc)
}

// gateway4 reads "route": Iface Destination Gateway Flags RefCnt Use Metric
// Mask …, addresses as hexadecimal numbers in the machine's byte order.
func gateway4(proc fs.FS) string {
	const up = 1
	best, bestMetric := "", -1
	for f := range table(proc, "route") {
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		metric, err2 := strconv.Atoi(f[6])
		if err != nil || err2 != nil || flags&up == 0 || bestMetric >= 0 && metric >= bestMetric {
			continue
		}
		n, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		a := netip.AddrFrom4(b)
		best, bestMetric = "if "+f[0], metric // a tunnel or a modem: it has no address
		if a.IsValid() && !a.IsUnspecified() {
			best = "gw " + a.String()
			if mac := hardware(proc, a.String(), f[0]); mac != "" {
				best += " " + mac
			}
		}
	}
	return best
}

// hardware looks a neighbour up in "arp": IP address, HW type, Flags, HW
// address, Mask, Device.
func hardware(proc fs.FS, addr, dev string) string {
	for f := range table(proc, "arp") {
		if len(f) >= 6 && f[0] == addr && f[5] == dev && f[3] != "00:00:00:00:00:00" {
			return f[3]
		}
	}
	return ""
}

// gateway6 reads "ipv6_route": destination, its length, source, its length, next
// hop, metric, two counters, flags, device.
func gateway6(proc fs.FS) string {
	const zero = "00000000000000000000000000000000"
	const upGateway = 3
	best, bestMetric := "", uint64(0)
	for f := range table(proc, "ipv6_route") {
		if len(f) < 10 || f[0] != zero || f[1] != "00" || f[4] == zero {
			continue
		}
		flags, err := strconv.ParseUint(f[8], 16, 32)
		metric, err2 := strconv.ParseUint(f[5], 16, 32)
		hop, err3 := hex.DecodeString(f[4])
		a, ok := netip.AddrFromSlice(hop)
		if err != nil || err2 != nil || err3 != nil || !ok || flags&upGateway != upGateway || best != "" && metric >= bestMetric {
			continue
		}
		best, bestMetric = "gw "+a.String(), metric
	}
	return best
}

// table yields the fields of each line of one of the kernel's tables, nothing if
// it can't be read.
func table(proc fs.FS, name string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		f, err := proc.Open(name)
		if err != nil {
			return
		}
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, maxTable))
		for lines.Scan() {
			if !yield(strings.Fields(lines.Text())) {
				return
			}
		}
	}
}

// prefixes are those of the addresses that are not the device's own business
// alone.
func prefixes(as []net.Addr) string {
	var out []string
	for _, ia := range as {
		p, err := netip.ParsePrefix(ia.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Masked().String())
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}
