package pkarr

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tamizdat/bundle/channel"
)

const (
	// maxValue is the largest value of an item in bytes, with its length in front as it
	// is bencoded (BEP 44).
	maxValue = 1000
	// itemHead is what stands in front of the value in an item's bytes.
	itemHead = ed25519.SignatureSize + 8
	// MaxItem is the largest item in bytes.
	MaxItem = itemHead + maxValue
	// headTTL is how long others may keep the record, in seconds.
	headTTL = 60
)

var (
	// ErrItem is wrapped by every refusal of an item.
	ErrItem = errors.New("signed packet refused")
	// ErrTooLarge: the head does not fit the item. One of 2^22 editions still does.
	ErrTooLarge = fmt.Errorf("%w: the head is too large for it", ErrItem)
)

// zbase32 is how pkarr writes keys.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// Item is a signed packet with a head in it, its signature checked. It is immutable.
type Item struct {
	// Compact is the head, unchecked.
	Compact []byte
	// Seq tells the newer of two: a time in microseconds.
	Seq int64

	key   ed25519.PublicKey
	value []byte
	sig   [ed25519.SignatureSize]byte
}

// Sign makes the item of a head. seq must grow with every item of the key. Errors wrap
// ErrTooLarge.
func Sign(key ed25519.PrivateKey, head *channel.Head, seq time.Time) (*Item, error) {
	i := &Item{Compact: head.Compact(), Seq: seq.UnixMicro(), key: key.Public().(ed25519.PublicKey)}
	var err error
	if i.value, err = packet(i.key, i.Compact); err != nil {
		return nil, err
	}
	copy(i.sig[:], ed25519.Sign(key, toSign(i.Seq, i.value)))
	return i, nil
}

// Bytes is the item as it travels.
func (i *Item) Bytes() []byte {
	b := append(make([]byte, 0, itemHead+len(i.value)), i.sig[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(i.Seq))
	return append(b, i.value...)
}

// Parse checks an item against the key that must have signed it. The head in it is not
// checked. Errors wrap ErrItem.
func Parse(key ed25519.PublicKey, b []byte) (*Item, error) {
	if len(b) < itemHead || len(b) > MaxItem {
		return nil, fmt.Errorf("%w: %d bytes", ErrItem, len(b))
	}
	i := &Item{Seq: int64(binary.BigEndian.Uint64(b[ed25519.SignatureSize:])), value: b[itemHead:]}
	copy(i.sig[:], b)
	return i.checked(key)
}

// checked checks signature and form of an item that has neither key nor head yet.
func (i *Item) checked(key ed25519.PublicKey) (*Item, error) {
	if len(key) != ed25519.PublicKeySize || i.Seq < 0 {
		return nil, fmt.Errorf("%w: no key, or a negative number", ErrItem)
	}
	if len(bencoded(i.value)) > maxValue || !ed25519.Verify(key, toSign(i.Seq, i.value), i.sig[:]) {
		return nil, fmt.Errorf("%w: another's signature", ErrItem)
	}
	i.key = key
	var err error
	i.Compact, err = headIn(key, i.value)
	return i, err
}

// bencoded is a value as it is measured and signed.
func bencoded(value []byte) []byte { return encode(nil, string(value)) }

// toSign is what the signature of an item without salt is for (BEP 44).
func toSign(seq int64, value []byte) []byte {
	return append(fmt.Appendf(nil, "3:seqi%de1:v", seq), bencoded(value)...)
}

// nameOf is where the head stands.
func nameOf(key ed25519.PublicKey) string { return "_head." + zbase32.EncodeToString(key) + "." }

// packet is the DNS packet of a head.
func packet(key ed25519.PublicKey, compact []byte) ([]byte, error) {
	var txt []string
	for rest := string(compact); rest != ""; {
		n := min(len(rest), 255)
		txt, rest = append(txt, rest[:n]), rest[n:]
	}
	name, err := dnsmessage.NewName(nameOf(key))
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	err = errors.Join(b.StartAnswers(), b.TXTResource(dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: headTTL}, dnsmessage.TXTResource{TXT: txt}))
	if err != nil {
		return nil, err
	}
	msg, err := b.Finish()
	if err == nil && len(bencoded(msg)) > maxValue {
		err = fmt.Errorf("%w: %d bytes", ErrTooLarge, len(compact))
	}
	return msg, err
}

// headIn is the head in a packet, which must be as packet makes it.
func headIn(key ed25519.PublicKey, value []byte) ([]byte, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(value); err != nil || p.SkipAllQuestions() != nil {
		return nil, fmt.Errorf("%w: no dns packet", ErrItem)
	}
	h, err := p.AnswerHeader()
	if err != nil || h.Type != dnsmessage.TypeTXT {
		return nil, fmt.Errorf("%w: no text in it", ErrItem)
	}
	txt, err := p.TXTResource()
	if err != nil {
		return nil, fmt.Errorf("%w: no text in it", ErrItem)
	}
	compact := []byte(strings.Join(txt.TXT, ""))
	if same, err := packet(key, compact); err != nil || len(compact) == 0 || string(same) != string(value) {
		return nil, fmt.Errorf("%w: not the packet of a head", ErrItem)
	}
	return compact, nil
}
