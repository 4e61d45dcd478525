package ipfs

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"tamizdat/bundle/channel"
)

// MaxRecord is the largest IPNS record in bytes, as the specification has it.
const MaxRecord = ipns.MaxRecordSize

// maxCompact bounds the compact head in a record: it fits one DNS record.
const maxCompact = 1040

// headKey names the compact head in the record's signed data; keys that are not
// IPNS's own begin with an underscore.
const headKey = "_head"

// recordTTL is how long others may keep an answer before asking again. Short:
// records are small, and news is wanted soon.
const recordTTL = time.Minute

// ErrRecord is wrapped by every refusal of an IPNS record.
var ErrRecord = errors.New("ipns record refused")

// Name returns the IPNS name of a channel's IPNS key: a CIDv1 with the
// libp2p-key codec in base36, as it stands in /ipns/<name>.
func Name(key ed25519.PublicKey) (string, error) {
	n, err := nameOf(key)
	if err != nil {
		return "", err
	}
	return n.String(), nil
}

func nameOf(key ed25519.PublicKey) (ipns.Name, error) {
	pk, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return ipns.Name{}, fmt.Errorf("ipns key: %w", err)
	}
	id, err := peer.IDFromPublicKey(pk)
	if err != nil {
		return ipns.Name{}, fmt.Errorf("ipns key: %w", err)
	}
	return ipns.NameFromPeer(id), nil
}

// Record makes the signed IPNS record (specs.ipfs.tech/ipns/ipns-record) of a
// head: value /ipfs/<root>, the compact head in the signed metadata, valid for
// the given time from now. seq must grow with every record of the key; a head's
// tree size does for new editions, its time in seconds for heartbeats as well.
// DHT nodes forget a record after 48 hours and refuse one that has expired.
func Record(key ed25519.PrivateKey, head *channel.Head, seq uint64, validity time.Duration) ([]byte, error) {
	return signRecord(key, head.Root, head.Compact(), seq, time.Now().Add(validity))
}

func signRecord(key ed25519.PrivateKey, root cid.Cid, compact []byte, seq uint64, eol time.Time) ([]byte, error) {
	if len(compact) == 0 || len(compact) > maxCompact {
		return nil, fmt.Errorf("compact head of %d bytes does not fit an ipns record", len(compact))
	}
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("ipns key: %w", err)
	}
	// The fields of version 1 are repeated (boxo's default), about 200 bytes:
	// older nodes serve no record without them.
	rec, err := ipns.NewRecord(sk, path.FromCid(root), seq, eol, recordTTL,
		ipns.WithMetadata(map[string]any{headKey: compact}))
	if err != nil {
		return nil, fmt.Errorf("make ipns record: %w", err)
	}
	return ipns.MarshalRecord(rec)
}

// HeadFromRecord checks a record against the IPNS name (base36 or base58, with
// or without /ipns/) whose key must have signed it, and returns the compact
// head in it and the root CID that its value names. The head itself is not
// checked. An expired record is accepted: see the package comment.
func HeadFromRecord(name string, record []byte) (compact []byte, root cid.Cid, err error) {
	n, err := ipns.NameFromString(name)
	if err != nil {
		return nil, cid.Undef, fmt.Errorf("%w: not an ipns name", ErrRecord)
	}
	r, err := parseRecord(n, record)
	if err != nil {
		return nil, cid.Undef, err
	}
	return r.compact, r.root, nil
}

// Sequence returns a record's sequence number, by which IPNS nodes tell the
// newer of two, without checking whose record it is: for one that the caller
// made or stored itself. Errors wrap ErrRecord.
func Sequence(record []byte) (uint64, error) {
	rec, err := ipns.UnmarshalRecord(record)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	seq, err := rec.Sequence()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return seq, nil
}

// signed is a record whose signature was checked.
type signed struct {
	raw     []byte
	compact []byte
	root    cid.Cid
	seq     uint64
	eol     time.Time
}

// newer reports whether r replaces o, by the rule all IPNS nodes use.
func (r *signed) newer(o *signed) bool {
	return r.seq > o.seq || r.seq == o.seq && r.eol.After(o.eol)
}

func parseRecord(name ipns.Name, raw []byte) (*signed, error) {
	refuse := func(err error) (*signed, error) { return nil, fmt.Errorf("%w: %w", ErrRecord, err) }
	rec, err := ipns.UnmarshalRecord(raw) // checks MaxRecord first
	if err != nil {
		return refuse(err)
	}
	// Validate looks at the end of validity only after signature and agreement
	// of both versions' fields.
	if err := ipns.ValidateWithName(rec, name); err != nil && !errors.Is(err, ipns.ErrExpiredRecord) {
		return refuse(err)
	}
	r := &signed{raw: raw}
	if r.seq, err = rec.Sequence(); err != nil {
		return refuse(err)
	}
	if r.seq > math.MaxInt64 { // in the signed data it is a signed number
		return refuse(errors.New("sequence number out of range"))
	}
	if r.eol, err = rec.Validity(); err != nil {
		return refuse(err)
	}
	value, err := rec.Value()
	if err != nil {
		return refuse(err)
	}
	ip, err := path.NewImmutablePath(value)
	if err != nil || len(value.Segments()) != 2 {
		return refuse(errors.New("its value is not /ipfs/ and a CID"))
	}
	r.root = ip.RootCid()
	meta, err := rec.Metadata(headKey)
	if err != nil {
		return refuse(errors.New("no head in it"))
	}
	if r.compact, err = meta.AsBytes(); err != nil {
		return refuse(err)
	}
	if len(r.compact) == 0 || len(r.compact) > maxCompact {
		return refuse(fmt.Errorf("a head of %d bytes in it", len(r.compact)))
	}
	// Where the head is asked for and where the files are must be one edition: root notes
	// and grants are looked for below the value.
	if c, ok := channel.ClaimOf(r.compact); ok && !c.Root.Equals(r.root) {
		return refuse(errors.New("the head in it is of another edition"))
	}
	return r, nil
}
