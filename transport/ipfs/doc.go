// Package ipfs carries editions over IPFS: bitswap over libp2p for blocks, and
// IPNS records for heads.
//
// A [Node] is one libp2p host. A relay runs one that listens, serves the blocks
// of its store and hands out the IPNS records it was given. A reader runs one
// that never listens, announces nothing and talks to the peers of its invite
// only, since joining the public DHT would show its address there.
//
// An edition needs nothing of ours on the other side: its root CID is an
// ordinary UnixFS directory, and what names it is an ordinary IPNS record
// (https://specs.ipfs.tech/ipns/ipns-record/) whose value is /ipfs/<root> and
// whose signed metadata holds the compact head under "_head". So Kubo and Helia
// can hold, serve and republish both. The record is a hint: a reader believes
// the head in it, after channel.Roots has checked it, and nothing else. For that
// reason a record that has expired is still read (a clock may be wrong by
// years, and old news is shown with its age), while its signature always counts.
//
// Root notes and grants are not in the record. They are files of the edition's
// directory (root/<version>, grants/<name>), and [Node.Path] and
// [GatewayHeads] find them by walking it.
//
// Every socket is opened through transport.Network: QUIC through the reuse
// manager's override, TCP through a transport of our own, names through
// Network.Resolve. libp2p's other transports and helpers (WebSocket, WebRTC,
// WebTransport, mDNS, port mapping, circuit relays, hole punching, AutoNAT)
// open sockets of their own or tell strangers about us, and are not built in.
package ipfs
