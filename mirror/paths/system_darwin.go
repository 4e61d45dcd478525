package paths

import "net/netip"

func systemResolvers() []netip.Addr {
	if as := parseScutil(output("/usr/sbin/scutil", "--dns")); len(as) > 0 {
		return as
	}
	return fromResolvConf("/etc/resolv.conf")
}
