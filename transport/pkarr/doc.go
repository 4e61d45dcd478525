// Package pkarr keeps a channel's newest head on BitTorrent's DHT, as pkarr does
// (https://pkarr.org): a DNS packet of at most 1,000 bytes in a mutable item (BEP 44),
// signed with the channel's IPNS key, which its root notes vouch for.
//
// It carries the head and nothing else. A [Client] puts items ([Client.Put], a relay's
// work) and looks for them ([Client.Path], a reader's, off unless asked for: whoever asks
// shows his address, and the key, to nodes that anybody may run). It never answers
// questions of others (BEP 43), keeps no table of nodes, and holds a socket only while it
// asks.
//
// # The item
//
// Normative. The value is a DNS response with one answer: a TXT record with TTL 60 at
// _head.KEY, where KEY is the 32 bytes of the public key in z-base-32, whose strings of
// 255 bytes, the last one shorter, make the compact head. So stock pkarr tools show it.
// There is no salt. The sequence number is a time in microseconds, as pkarr has it.
//
// An item travels, to a relay say, as pkarr's relays take it: signature (64 bytes),
// sequence number (8 bytes, big-endian), value.
//
// # Two protocols, one key
//
// What is signed here begins with "3:seqi", what is signed of an IPNS record with
// "ipns-signature:" or, in its old form, with the record's value, "/ipfs/…": no signature
// of the one passes for one of the other.
//
// # No library
//
// The one there is, github.com/anacrolix/dht, is the other side in the tests and no part of
// the programs: a datagram of nine bytes from anybody, "d2:ip1:xe", ends a program with its
// server; its messages can't be had without a module that has no licence (multiless); it
// wants a version of another that its author has retracted; and it logs addresses.
package pkarr
