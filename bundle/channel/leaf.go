package channel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/transparency-dev/merkle/rfc6962"

	"tamizdat/bundle/record"
)

// Hash is a hash of the channel's log (RFC 6962, SHA-256).
type Hash = [sha256.Size]byte

// Leaf is one entry of a channel's log: one edition.
type Leaf struct {
	Channel ID
	// Edition is also the leaf's index in the log, from 0.
	Edition uint64
	// Epoch numbers the key that the edition's layers are encrypted with.
	Epoch uint64
	// RootVersion is the root note in force when the edition was made.
	RootVersion uint64
	// Root is the edition's directory: CIDv1, dag-pb, SHA-256.
	Root cid.Cid
	// Front names the DNS records of directory and front page.
	Front record.Names
	// Content is the RFC 6962 tree hash over the lines of the text layer.
	Content Hash
	// Date is when the edition was packed, to the second, UTC.
	Date time.Time
}

// Text is the exact text of the leaf.
func (l *Leaf) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tamizdat/v1/leaf\n%s\nedition %d\nepoch %d\nroot-note %d\n%s\nfront %s %s\ncontent %s\ndate %d\n",
		l.Channel, l.Edition, l.Epoch, l.RootVersion, l.Root,
		lower32.EncodeToString(l.Front.Large[:]), lower32.EncodeToString(l.Front.Small[:]),
		b64(l.Content[:]), l.Date.Unix())
	return b.Bytes()
}

// Hash is the leaf's hash in the log.
func (l *Leaf) Hash() Hash { return Hash(rfc6962.DefaultHasher.HashLeaf(l.Text())) }

// ParseLeaf is the inverse of Text, and strict: the text re-encodes to the same bytes.
func ParseLeaf(text []byte) (*Leaf, error) {
	leaf, l := &Leaf{}, &lines{rest: string(text)}
	l.exact("tamizdat/v1/leaf")
	leaf.Channel = l.id(l.next())
	leaf.Edition = l.uint(l.fields("edition", 1)[0])
	leaf.Epoch = l.uint(l.fields("epoch", 1)[0])
	leaf.RootVersion = l.uint(l.fields("root-note", 1)[0])
	leaf.Root = l.rootCID(l.next())
	names := l.fields("front", 2)
	leaf.Front.Large, leaf.Front.Small = l.name(names[0]), l.name(names[1])
	leaf.Content = Hash(l.bytes32(l.fields("content", 1)[0]))
	leaf.Date = l.time(l.fields("date", 1)[0])
	switch {
	case l.err != nil:
		return nil, fmt.Errorf("leaf: %w", l.err)
	case !bytes.Equal(leaf.Text(), text):
		return nil, errors.New("leaf: not in canonical form")
	}
	return leaf, nil
}

// rootCID reads a directory's CID: nothing but CIDv1, dag-pb, SHA-256.
func (l *lines) rootCID(s string) cid.Cid {
	if l.err != nil {
		return cid.Undef
	}
	c, err := cid.Decode(s)
	if err != nil || !isDirectoryCID(c) {
		l.fail("not the CID of a directory")
		return cid.Undef
	}
	return c
}

func isDirectoryCID(c cid.Cid) bool {
	p := c.Prefix()
	return p.Version == 1 && p.Codec == cid.DagProtobuf && p.MhType == multihash.SHA2_256 && p.MhLength == sha256.Size
}

func (l *lines) name(s string) (n record.Name) {
	if l.err != nil {
		return n
	}
	b, err := lower32.DecodeString(s)
	if err != nil || len(b) != len(n) {
		l.fail("not a record name")
		return n
	}
	return record.Name(b)
}
