// Package channel says who may say what is new.
//
// A channel is one publisher's stream. Its keys are stated by [RootNote]s, a
// chain that begins with the note whose hash is the channel's [ID]. The keys
// sign [Head]s: each is a C2SP checkpoint of the channel's append-only log,
// with the log's last [Leaf] (one edition a leaf) and the proof that it is in
// the tree. What a reader remembers of all this is a [View]: it decides
// whether a head is newer, stale, or proof of a fork. [Grant]s hand out epoch
// keys and relays to one batch of invites; an [Invite] makes someone a reader.
// Both name [Places]: a [Relay] there is known by its [Pin], or, behind a CDN's
// name, by WebPKI.
//
// Everything here is bytes to bytes: no network, no disk. The formats are
// specified in bundle/FORMAT.md. Parsers refuse whatever does not re-encode to
// the same bytes.
package channel
