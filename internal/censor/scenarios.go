package censor

import "time"

// scenarios is the table, in the order of CENSORS.md. "bbs#" is an issue of
// github.com/net4people/bbs. Open is a declaration, to be judged by whoever
// reads this: which ways the world's honest servers can still be reached.
//
// A new row takes a name, what is done, where it was seen, the rules that do it
// and the ways that it leaves:
//
//	{
//		Name: "tcp-443-rst", Summary: "resets every TCP connection to port 443",
//		Seen:  "where people measured it",
//		Rules: []Rule{ResetAll{To: Both(Not(OverUDP), Port(443))}},
//		Open:  Ways(ViaTCP, ViaCDNTCP, ViaGateway), Pairs: true,
//	},
func scenarios() []Scenario {
	dnsOnly := DropAll{To: Not(Resolvers)}
	const years3 = 3 * 365 * 24 * time.Hour
	return []Scenario{
		{
			Name: "open", Summary: "nothing is done",
			Open: Ways(), Pairs: true,
		},
		{
			Name:    "quic-sni",
			Summary: "decrypts the first datagram of each QUIC v1 flow and drops what goes to that host and port for 180 s if the name is listed; skips source ports up to the destination's",
			Seen:    "China since April 2024, bbs#505; Zohaib et al., USENIX Security 2025",
			Rules:   []Rule{QUICNames{Datagrams: 1, For: 180 * time.Second, SkipLowPorts: true}},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "quic-sni-reassembly",
			Summary: "the same, putting CRYPTO frames of 8 datagrams together",
			Seen:    "the likely next step",
			Rules:   []Rule{QUICNames{Datagrams: 8, For: 180 * time.Second, SkipLowPorts: true}},
			Open:    Ways(), Pairs: true, // QUIC to a server without a listed name
		},
		{
			Name:    "ech-drop",
			Summary: "drops TCP and QUIC ClientHellos with both an ECH extension and a listed outer name",
			Seen:    "Russia since November 2024, bbs#417",
			Rules:   []Rule{ECHNames{}},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "quic-v1-drop",
			Summary: "drops QUIC v1 long headers in datagrams with 1001 bytes of payload or more",
			Seen:    "Russia since March 2022, bbs#108",
			Rules:   []Rule{DropQUIC{Version: 1, Size: 1001}},
			Open:    Ways(ViaIPFSQUIC), Pairs: true, // libp2p speaks version 1 alone
		},
		{
			Name:    "udp-drop",
			Summary: "drops all UDP but DNS on port 53",
			Seen:    "Iran 2025, bbs#489",
			Rules:   []Rule{DropAll{To: Both(OverUDP, Not(PlainDNS))}},
			Open:    Ways(ViaQUIC, ViaCDNQUIC, ViaIPFSQUIC), Pairs: true,
		},
		{
			Name:    "tls-sni-rst",
			Summary: "resets TCP connections whose ClientHello has a listed name, without putting records together",
			Seen:    "everywhere",
			Rules:   []Rule{ResetNames{}},
			Open:    Ways(), Pairs: true, // TCP to a server without a listed name
		},
		{
			Name:    "tcp-freeze-16k",
			Summary: "lets 16 KB of a TCP connection to a foreign host through, then drops silently",
			Seen:    "Russia since June 2025, bbs#490",
			Rules:   []Rule{FreezeAfter{Bytes: 16 << 10, To: Not(Resolvers)}},
			Open:    Ways(ViaGateway, ViaIPFSTCP), Pairs: true, // to relays in small connections
		},
		{
			Name:    "ip-block",
			Summary: "drops all traffic to the relays' addresses, one more every 3 s while others are used",
			Seen:    "everywhere",
			Rules:   []Rule{DropRelays{Every: 3 * time.Second}},
			Open:    Ways(ViaQUIC, ViaTCP), Pairs: true, // it may come to know every relay
		},
		{
			Name:    "random-bytes",
			Summary: "drops TCP connections whose first packet looks random: neither text, TLS nor HTTP, and 3.4 to 4.6 one-bits a byte",
			Seen:    "China November 2021 to March 2023; Wu et al., USENIX Security 2023",
			Rules:   []Rule{DropRandom{}},
			Open:    Ways(), Pairs: true, // libp2p's first packet is /multistream/1.0.0 in plain text
		},
		{
			Name:    "throttle",
			Summary: "polices each flow to 128 kbit/s each way and loses 20 % of what is over",
			Seen:    "Russia (Xue et al., IMC 2021), Turkmenistan",
			Rules:   []Rule{Throttle{Rate: 16_000, Burst: 8_000, Lose: 0.2, To: Everything}},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "loss-60-up",
			Summary: "loses 60 % of what the reader sends",
			Seen:    "Iran, bbs#561",
			Line:    Line{LossUp: 0.6},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "loss-5-5",
			Summary: "loses 5 % each way at 100 ms",
			Seen:    "ordinary bad mobile networks",
			Line:    Line{RTT: 100 * time.Millisecond, LossUp: 0.05, LossDown: 0.05},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "dns-inject",
			Summary: "races forged answers ahead of the true one, for listed zones, over UDP only",
			Seen:    "China; GFWatch, USENIX Security 2021",
			Rules:   []Rule{ForgeAnswers{}},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "dns-only",
			Summary: "nothing but the ISP's resolver answers",
			Seen:    "shutdowns: Iran 2026, bbs#586",
			Rules:   []Rule{dnsOnly},
			Open:    []Way{ViaDNSUDP, ViaDNSTCP}, Pairs: true,
		},
		{
			Name:    "dns-hostile",
			Summary: "dns-only, and the resolver drops names over 72 characters, changes letter case, answers in at most 512 bytes and not over TCP, spoils bytes over 127, refuses over 10 queries a second, and cools a zone down for 60 s after 200 queries",
			Seen:    "Iran 2026, SlipNet#78 and #80",
			Rules: []Rule{dnsOnly, Resolver{
				LongestName: 72, MixCase: true, LargestAnswer: 512, NoTCP: true, Spoil: true,
				Rate: 10, CoolAfter: 200, CoolFor: time.Minute,
			}},
			Open: []Way{ViaDNSUDP}, Pairs: true,
		},
		{
			Name:    "dns-ttl",
			Summary: "dns-only, and the resolver keeps every answer for at least an hour",
			Seen:    "common",
			Rules:   []Rule{dnsOnly, Resolver{KeepFor: time.Hour}},
			Open:    []Way{ViaDNSUDP, ViaDNSTCP}, Pairs: true,
		},
		{
			Name:    "doh-block",
			Summary: "drops what goes to the well-known DoH and DoT servers",
			Seen:    "many countries; Basso, 2021",
			Rules:   []Rule{DropAll{To: DoHServers}},
			Open:    Ways(), Pairs: true,
		},
		{
			Name:    "mtu-1280",
			Summary: "a path MTU of 1280, without ICMP",
			Seen:    "mobile networks, tunnels",
			Line:    Line{MTU: 1280},
			Open:    Ways(ViaIPFSQUIC), Pairs: true, // libp2p's Initials have 1280 bytes before the headers
		},
		{
			Name:    "ipfs-block",
			Summary: "drops what goes to libp2p's bootstrap nodes and the public gateways",
			Seen:    "China, ipfs/kubo#5993",
			Rules:   []Rule{DropAll{To: PublicIPFS}},
			Open:    Ways(ViaGateway), Pairs: true, // peers that an invite names are neither
		},
		{
			Name:    "allowlist",
			Summary: "only some CDN and the ISP's resolver can be reached",
			Seen:    "Iran, bbs#630; Russian mobile networks, bbs#579",
			Rules:   []Rule{DropAll{To: Not(Allowed)}},
			Open:    []Way{ViaCDNQUIC, ViaCDNTCP, ViaDNSUDP, ViaDNSTCP}, Pairs: true,
		},
		{
			Name:    "offline",
			Summary: "nothing can be reached",
			Seen:    "shutdowns",
			Rules:   []Rule{DropAll{To: Everything}},
			Pairs:   true,
		},
		{
			Name:    "prober",
			Summary: "asks the relay everything that a stranger may ask, and compares it with the plain website",
			Seen:    "China, bbs#26",
			Open:    Ways(),
		},
		{
			Name:    "evil-relay",
			Summary: "a relay of the invite lies in every way it can",
			Far:     Far{Relay: lies},
			Open:    Ways(), Pairs: true, // other relays are honest
		},
		{
			Name:    "evil-peer",
			Summary: "an IPFS peer or gateway lies in every way it can",
			Far:     Far{Peer: lies},
			Open:    Ways(ViaGateway, ViaIPFSQUIC, ViaIPFSTCP), Pairs: true,
		},
		{
			Name:    "evil-resolver",
			Summary: "the first of the ISP's resolvers flips bits, cuts, repeats old answers, and makes them up",
			Rules:   []Rule{LyingResolver{Lies: resolverLies}},
			Far:     Far{Resolver: resolverLies},
			Open:    Ways(ViaDNSUDP, ViaDNSTCP), Pairs: true,
		},
		{
			Name:    "clock-ahead",
			Summary: "the reader's clock is three years ahead",
			Clock:   years3,
			Open:    Ways(ViaCDNQUIC, ViaCDNTCP, ViaGateway), Pairs: true, // the web's certificates have dates
		},
		{
			Name:    "clock-behind",
			Summary: "the reader's clock is three years behind",
			Clock:   -years3,
			Open:    Ways(ViaCDNQUIC, ViaCDNTCP, ViaGateway), Pairs: true, // the web's certificates have dates
		},
		{
			Name:    "seizure",
			Summary: "copies the reader's disk and looks for words of any article, channel or relay",
			Open:    Ways(),
		},
	}
}

var (
	lies         = []Evil{EvilFlip, EvilCut, EvilOld, EvilFork, EvilForeign, EvilEndless, EvilTrickle}
	resolverLies = []Evil{EvilFlip, EvilCut, EvilOld, EvilGarbage}
)
