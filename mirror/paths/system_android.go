package paths

import "net/netip"

func systemResolvers() []netip.Addr {
	var as []netip.Addr
	for _, prop := range []string{"net.dns1", "net.dns2", "net.dns3", "net.dns4"} {
		as = append(as, parseProps(output("/system/bin/getprop", prop))...)
	}
	return as
}
