package paths

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/windows"
)

// maxAdapters bounds the list of adapters, in bytes. Windows says how much it
// needs; 15 KB to begin with is what its documentation advises.
const (
	firstAdapters = 15 << 10
	maxAdapters   = 1 << 20
)

func systemResolvers() []netip.Addr { return ofAdapters(adapters()) }

// adapters asks GetAdaptersAddresses.
func adapters() []adapter {
	const flags = windows.GAA_FLAG_SKIP_UNICAST | windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST
	size := uint32(firstAdapters)
	var buf []byte
	for range 3 { // the list may grow between two calls
		buf = make([]byte, size)
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, flags, 0, (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0])), &size)
		if err == nil && size > 0 {
			return readAdapters((*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0])))
		}
		if err != windows.ERROR_BUFFER_OVERFLOW || size > maxAdapters {
			return nil
		}
	}
	return nil
}

func readAdapters(first *windows.IpAdapterAddresses) []adapter {
	var out []adapter
	for aa := first; aa != nil; aa = aa.Next {
		a := adapter{
			up:       aa.OperStatus == windows.IfOperStatusUp,
			loopback: aa.IfType == windows.IF_TYPE_SOFTWARE_LOOPBACK,
			metric:   min(aa.Ipv4Metric, aa.Ipv6Metric),
		}
		for d := aa.FirstDnsServerAddress; d != nil; d = d.Next {
			a.resolvers = append(a.resolvers, addrOf(d.Address, aa.Ipv6IfIndex))
		}
		out = append(out, a)
	}
	return out
}

// addrOf reads a socket address; the zero Addr if it is neither IPv4 nor IPv6.
func addrOf(s windows.SocketAddress, index uint32) netip.Addr {
	a, ok := netip.AddrFromSlice(s.IP())
	if ok && a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(strconv.FormatUint(uint64(index), 10))
	}
	return a
}
