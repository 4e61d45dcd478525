//go:build !windows && !darwin && !android

package paths

import "net/netip"

func systemResolvers() []netip.Addr { return fromResolvConf("/etc/resolv.conf") }
