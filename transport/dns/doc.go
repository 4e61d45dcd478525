// Package dns carries editions through the Domain Name System: the path that is
// open when nothing else is, since a country that cuts its resolvers off cuts
// itself off.
//
// It has three users. A relay runs a [Server], authoritative for its zones,
// over a [Store] of records (an [Index] of each edition's CAR, or [Memory]). A
// publisher without a relay writes a zone file for any name server
// ([WriteZone]), or keeps a zone on one that takes updates ([Updater]). A reader
// asks any resolver through a [Client], which makes a [transport.Path]: in the
// clear, over TLS or over HTTPS ([ParseResolver]). Clients of several zones share a
// [Pool] of resolvers, which a [Scan] may have found, and what is known of them.
// Other name servers may fetch a
// Server's zones as a whole, with a [Key].
//
// # What stands where in a zone
//
// Normative; the records themselves are specified in bundle/record. All labels
// are compared without regard to case. TTL is 86400 for what is named by its
// hash and 60 for the rest. A name ending in -s, -s0 … -s3 is of the Small
// class, and so is a record by its first byte; Small records travel as base64,
// Large ones and the head as they are, in one TXT record of as many strings of
// up to 255 bytes as it takes.
//
//	NAME              the record of that name (26 characters)
//	HEAD              the compact head; HEAD is the label of the channel ID
//	HEAD-s0 … -s3     the same, cut into parts
//	ROOT, ROOT-s      top record of root note v; ROOT is the label of (channel, v)
//	GRANT, GRANT-s    top record of a grant; GRANT is the grant's name
//	_dnslink.HEAD     "dnslink=/ipns/" and the channel's IPNS name, as it is, for
//	                  stock IPFS tools (dnslink.dev)
//	*.X               the same as X, for each X of all rows but the first: a random
//	                  label in front gets past a resolver that keeps old answers
//
// Root notes and grants are single pieces. The trees of an edition, three or
// four, are lists of pieces: front is the edition's directory block, then the
// blocks of front.age; text, dict (if there is one) and log are the blocks of
// those files. The blocks of a file
// come depth first, each UnixFS node before what it links to. So their number
// and the width of a node, 174, tell which are nodes: none if there is one
// block; the first alone up to 175 blocks; beyond that the first, and the first
// of each run of 175 after it.
//
// A reader with nothing but channel ID and zone needs three round trips: head,
// root note and the grant's top; the top of front and the grant's leaves; the
// leaves of front.
package dns
