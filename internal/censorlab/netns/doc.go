// Package netns checks the censor lab against a kernel: the real commands
// (mirror, mirror-relay, mirror-publish) and a real recursive resolver (unbound)
// run in network namespaces, and the censor is nftables in the router between
// them. Only its tests do anything, on Linux, as root, with the Debian packages
// iproute2, nftables and unbound:
//
//	go test -tags nodynamic -count=1 -v ./internal/censorlab/netns
//
// (-count=1, because go test does not see that the commands have changed.)
//
//	reader any ──┐                          ┌── relay1  mirror-relay run --dns
//	reader quic ─┤                          ├── relay2  mirror-relay run --dns
//	reader … ────┼── router: nft, forward ──┼── cdn     TLS, WebPKI name, to relay1
//	isp: unbound ┘                          └── press   mirror-publish
//
// Each box is a namespace with one veth pair to the router and a default route
// through it; nothing leads out, so no packet leaves the machine, and the
// machine's own interfaces, routes and rules are not touched. What is made is
// called tamizdat-PID-…, and goes away with the test; what a killed run left
// behind is removed by the next.
//
// A row of the table in netns_test.go is a scenario of CENSORS.md: its name and
// its nft rules. It is played to several readers at once, who all have
// yesterday's edition. One of them has every way in; each of the others has one
// way only, since the router shuts all else to him. Today's text must arrive by
// each way that package censor, the model, calls open in that scenario, and by
// none of the others: so each row shows that the model agrees with a kernel,
// that its counter-measure works, and that the censor bites.
//
// What this can't judge is time: links are a kernel's, without delay or loss.
// The figures are the simulated net's (package censorlab), and so are the rows
// that need more of a censor than nftables is.
package netns
