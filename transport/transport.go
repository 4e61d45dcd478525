// Package transport is the narrow waist between everything that can carry news
// and everything that wants it.
//
// It holds seams and no implementation. Two nouns cross it: a *head* (small,
// signed, changes; the newest of all answers counts) and a *block*
// (content-addressed, never changes; the first correct answer counts). A way to
// fetch them is a [Path]; a way to spread them is a [Publisher]; and every
// socket of every path is opened through a [Network], so that a censor, a
// simulated net or a SOCKS5 proxy is one decorator.
//
// Bytes that come out of this package's interfaces are untrusted. An
// implementation may check them to drop forgeries early; mirror/sync always
// checks.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
)

// Sentinels for decisions. Implementations wrap them with %w.
var (
	// ErrUnsupported: this Network can't open such a socket (UDP through a
	// SOCKS5 proxy, say). The path rests; retrying is pointless.
	ErrUnsupported = errors.New("not supported on this network")
	// ErrBlocked: a censor (a decorator of Network) refused the socket at once.
	ErrBlocked = errors.New("blocked")
	// ErrNoNewer: the path answered, and holds nothing newer than asked.
	ErrNoNewer = errors.New("nothing newer")
	// ErrLost: the path answered other questions lately, but not this one, not now.
	// Asking again may help.
	ErrLost = errors.New("lost on a bad line")
	// ErrNotFound: the path answered, and does not hold what was asked.
	ErrNotFound = errors.New("not found")
	// ErrRefused: a publishing target refused what it was given for good
	// (unknown channel, wrong secret, bad edition, over quota). Don't retry.
	ErrRefused = errors.New("refused")
)

// Network is the one seam for sockets. Nothing below mirror/ calls package net
// to open one itself. All methods may be called at once. They return an error
// wrapping ErrUnsupported if this network has no such thing. Closing what was
// returned wakes its blocked Read and Write at once.
type Network interface {
	// Dial resolves address itself ("tcp" or "udp", "host:port") and connects.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens a stream listener on a local address.
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	// ListenPacket opens a datagram socket on a local address. The real network
	// returns a bare *net.UDPConn: a wrapper costs quic-go 37 % of its speed.
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
	// Resolve looks a host up; an address resolves to itself. Through a proxy
	// it returns ErrUnsupported: names are never resolved locally there.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Heads asks one path for the small things that change. Answers are
// unchecked bytes of at most the size the format allows (an implementation
// bounds what it reads: head 4 KiB, root note 8 KiB, grant 8 KiB). All methods
// may be called at once and return when ctx ends. Nobody retries inside; the
// caller does. ErrNotFound if the path answers but holds no such thing.
type Heads interface {
	// Head returns the newest head the path holds, in text or in compact form
	// (channel.Roots.Head takes both). have is how many editions the caller's head covers, its
	// tree size: with have > 0 the path may hold the request open until it has
	// a larger one (long poll) and returns ErrNoNewer if it has none. One that is no
	// larger but of a later generation of the log than the first is returned as well:
	// what the caller holds may be what that generation has left out.
	Head(ctx context.Context, ch channel.ID, have uint64) ([]byte, error)
	// RootNote returns the signed root note of that version.
	RootNote(ctx context.Context, ch channel.ID, version uint64) ([]byte, error)
	// Grant returns the grant file of that name (see channel.Seed.GrantName).
	Grant(ctx context.Context, ch channel.ID, name string) ([]byte, error)
}

// Opener is an optional interface of Heads: everything a reader needs for the
// front page in one flight. Pieces come in the order root notes, head, grant,
// directory, front; an implementation may leave any out. An error is the last
// value yielded; ErrNoNewer as in Heads.Head.
type Opener interface {
	Open(ctx context.Context, ask Ask) iter.Seq2[Piece, error]
}

// Ask says what an opening should hold.
type Ask struct {
	Channel channel.ID
	// Have is the tree size of the caller's head, 0 if none.
	Have uint64
	// Signed is when that head was signed: one of the same size and a later time is
	// worth telling of, without its front page. Zero for no matter.
	Signed time.Time
	// Root is the highest root note version the caller holds, 0 if none. A path that
	// holds a higher one answers whatever Have is.
	Root uint64
	// Grant is the name of the caller's grant, "" for none.
	Grant string
}

// PieceKind says what a Piece claims to be.
type PieceKind int

// The kinds of Piece, in the order in which they come.
const (
	PieceRootNote PieceKind = iota + 1
	PieceHead
	PieceGrant
	PieceBlock
)

// Piece is one part of an opening answer: a root note, a head, a grant, or a
// block (whose CID is the one it came under, not yet checked).
type Piece struct {
	Kind PieceKind
	CID  cid.Cid // PieceBlock only
	Data []byte
}

// Blocks fetches content-addressed blocks of one edition. Fetch yields each
// want at most once, in any order, unchecked; breaking out or cancelling ends
// it at once. An error of type *WantError means one want failed, go on; any
// other error is the last value. A want that is not yielded is not here now.
// Fetch may be called at once from several goroutines.
type Blocks interface {
	Fetch(ctx context.Context, r Request) iter.Seq2[Block, error]
}

// Request is one small batch of wants of one edition (about half a second of
// work for the path).
type Request struct {
	Edition Edition
	Wants   []Want
	// Once: bytes are dear. Nothing may be asked for a second time while it may
	// still come, though that would be faster on a bad line.
	Once bool
	// Got, if not nil, hears of bytes as they arrive for Wants[i], also of those
	// that come a second time.
	Got func(i, n int)
}

// Edition tells a path where an edition lies. Root is always set; Names holds
// the DNS names known so far by layer ("front" from the head's leaf, "text" and
// "log" from the front page), for paths that find bytes by them.
type Edition struct {
	Channel channel.ID
	Number  uint64
	Root    cid.Cid
	Names   map[string]record.Names
}

// Want names one block; see bundle.
type Want = bundle.Want

// Block is a block as a path delivered it: unchecked. Data stays as it is: the path
// does not write to it again, nor does who received it.
type Block struct {
	CID  cid.Cid
	Data []byte
}

// WantError says that one want of a request failed while others may go on.
type WantError struct {
	CID cid.Cid
	Err error
}

func (e *WantError) Error() string { return fmt.Sprintf("block %s: %v", e.CID, e.Err) }
func (e *WantError) Unwrap() error { return e.Err }

// Wide is an optional interface of Blocks, of a path that now and then carries more
// than its last requests show.
type Wide interface {
	// Ahead is how many bytes a Request should hold at least, 0 for no opinion.
	Ahead() int64
}

// Costly is an optional interface of Blocks, of a path that is so narrow that
// people want to know beforehand what something takes.
type Costly interface {
	// Cost says what n bytes of blocks take from now on, going by how the path did
	// lately. It asks nobody and may be called at any time.
	Cost(n int64) Cost
}

// Cost is what something takes, about.
type Cost struct {
	Queries int64 `json:"queries"`
	// Up and Down are bytes on the wire, with the headers of UDP and IP.
	Up   int64         `json:"up"`
	Down int64         `json:"down"`
	Time time.Duration `json:"time"` // in nanoseconds
}

// Hints tells the engine how a path likes to be used. Zero values mean "no
// opinion".
type Hints struct {
	// Batch is how many wants a Request should hold, Parallel how many Requests
	// may run at once.
	Batch, Parallel int
	// MaxBlock is the largest block the path can carry, in bytes.
	MaxBlock int
	// Unit is the path's own quantum in bytes (a DNS leaf), Setup the round
	// trips before the first byte, Burst how many units may be asked at once.
	Unit, Setup, Burst int
	// Overhead is bytes on the wire for each byte of payload, 1.05 for 5 %.
	Overhead float64
	// Patience is how long the quieter paths may have a head start over this one.
	Patience time.Duration
	// Text marks a path that carries no media.
	Text bool
}

// Path is one way to fetch: this relay over QUIC, that one over TCP, this zone
// through that resolver. Heads or Blocks is nil if the path can't do that.
type Path struct {
	// Name is unique among a reader's paths and shown to people; it holds no
	// secret: "relay 198.51.100.7:443 quic".
	Name string
	// Kind is one of the Kind constants.
	Kind string
	// Source is alike for paths that lead to one server by ways that don't look
	// it (a relay and the CDN before it): what one of them says another one does
	// not confirm. A path that depends on several has one in each line. It holds no
	// secret; empty means that the name tells.
	Source string
	Hints  Hints
	Heads  Heads
	Blocks Blocks
}

// The kinds of paths, as shown in status and in the demo's table.
const (
	KindQUIC    = "quic"
	KindTCP     = "tcp"
	KindGateway = "gateway"
	KindIPFS    = "ipfs"
	KindDNS     = "dns"
	KindFile    = "file"
	KindDHT     = "dht" // heads alone
)

// Publisher spreads one edition to one target. Publish returns nil when the
// edition is durable there; it is idempotent and resumes where an earlier call
// stopped. The caller retries unless the error wraps ErrRefused. progress (may
// be nil) hears how many bytes the target holds of the total.
type Publisher interface {
	Publish(ctx context.Context, s Source, progress func(held, total int64)) error
	// Current returns the newest head the target holds for the channel, in text or
	// compact form; ErrNotFound if it holds none.
	Current(ctx context.Context, ch channel.ID) ([]byte, error)
}

// HeadTaker is an optional interface of Publisher: a target that takes a head alone, of
// an edition that it holds under an earlier one, or under one that fewer witnesses have
// seen. PublishHead returns nil when the head of the source's edition, or a newer one, is
// durable there, and how many bytes went for it; it is idempotent. ErrNotFound: the
// edition is not there, or the target found that it has to have all of it: Publish brings
// it. The caller retries unless the error wraps ErrRefused.
type HeadTaker interface {
	PublishHead(ctx context.Context, s Source) (sent int64, err error)
}

// MaxRecord is the largest IPNS record in bytes, as its specification has it
// (https://specs.ipfs.tech/ipns/ipns-record/).
const MaxRecord = 10 << 10

// Namer is an optional interface of Publisher: a target that hands out the
// channel's signed IPNS record, of at most MaxRecord bytes, whose value is the
// edition's root and which holds the compact head. PublishRecord returns nil
// when the record, or a newer one, is durable there; it is idempotent, and a
// record older than the stored one is ignored. The target takes a record only
// of an edition that it holds, so editions come first. The caller retries
// unless the error wraps ErrRefused. It may be called at once with Publish.
type Namer interface {
	PublishRecord(ctx context.Context, ch channel.ID, record []byte) error
}

// MaxPacket is the largest signed packet in bytes: a value of 1,000 (BEP 44) with
// signature and number in front.
const MaxPacket = 1072

// Poster is an optional interface of Publisher: a target that puts the channel's signed
// packet, with the compact head in it, on BitTorrent's DHT now and again (see package
// transport/pkarr), if it does so at all. PostPacket returns nil when the packet, or a
// newer one, is durable there; it is idempotent. The target takes a packet only of an
// edition that it holds. The caller retries unless the error wraps ErrRefused.
type Poster interface {
	PostPacket(ctx context.Context, ch channel.ID, packet []byte) error
}

// Denier is an optional interface of Publisher: a target that tells readers by
// their batch, and shows those of a revoked one nothing. Pin says whose list of
// revoked batches it takes. PublishDenied returns nil when that list (a signed
// channel.Denied), or one of the same epoch that says the same, is durable and
// heeded there; it is idempotent, and a list that comes after one of a later epoch
// is refused. The caller retries unless the error wraps ErrRefused.
type Denier interface {
	Pin() channel.Pin
	PublishDenied(ctx context.Context, ch channel.ID, list []byte) error
}

// Cosigner is a witness of transparency logs (c2sp.org/tlog-witness), and an
// optional interface of Publisher: a target that may be one besides. Cosign returns
// signature lines, unchecked, once it is durable there that this checkpoint was
// seen. A *SizeError says from which size the proof has to be instead. ErrNotFound:
// there is no witness, or it does not know the log (yet). The caller retries unless
// the error wraps ErrRefused.
type Cosigner interface {
	Cosign(ctx context.Context, s channel.Submission) ([]byte, error)
}

// SizeError is a witness's answer to who does not know what it has seen last.
type SizeError struct {
	// Size is that of the tree it has cosigned last, 0 for none.
	Size uint64
}

func (e *SizeError) Error() string { return fmt.Sprintf("the witness has seen %d editions", e.Size) }

// Pruner is an optional interface of Publisher: a target that holds editions
// until it is told that nobody may ask for them any more. Prune removes all
// editions of the channel but those in keep, which the newest edition there must
// be among, and returns how many files went. No block goes that an edition in keep
// uses. It is idempotent and resumes; the caller retries unless the error wraps
// ErrRefused.
type Pruner interface {
	Prune(ctx context.Context, ch channel.ID, keep []uint64) (removed int, err error)
}

// Source is one packed edition as its CAR (see bundle/car): root notes, head,
// directory, layers, log, grants. Reading it may happen from several goroutines
// at once.
type Source struct {
	Channel channel.ID
	Edition uint64
	CAR     io.ReaderAt
	Size    int64
}
