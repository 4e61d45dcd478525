package pkarr

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tamizdat/internal/testvectors"
)

var updateVectors = flag.Bool("update", false, "make packets.json in bundle/testdata/vectors anew")

// packetVectors is packets.json: signed packets of the channel that history.json is about.
type packetVectors struct {
	Key     string         `json:"key"`
	Name    string         `json:"name"`
	Packets []packetVector `json:"packets"`
	Refused []packetBad    `json:"refused"`
}

type packetVector struct {
	Head   string `json:"head"`
	Number int64  `json:"number"`
	Hex    string `json:"hex"`
}

type packetBad struct {
	Check string `json:"check"`
	Hex   string `json:"hex"`
}

func TestPacketVectors(t *testing.T) {
	made, err := json.MarshalIndent(makePackets(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var v packetVectors
	if err := json.Unmarshal(testvectors.Same(t, "packets.json", append(made, '\n'), *updateVectors), &v); err != nil {
		t.Fatal(err)
	}
	key := unhex(t, v.Key)
	if nameOf(key) != v.Name {
		t.Errorf("%s is the name", nameOf(key))
	}
	for _, p := range v.Packets {
		i, err := Parse(key, unhex(t, p.Hex))
		if err != nil || !bytes.Equal(i.Compact, testvectors.File(t, p.Head)) || i.Seq != p.Number {
			t.Errorf("%s: %v", p.Head, err)
		}
	}
	for _, p := range v.Refused {
		if _, err := Parse(key, unhex(t, p.Hex)); !errors.Is(err, ErrItem) {
			t.Errorf("%q: %v", p.Check, err)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// makePackets signs the packets. The keys are those of the vectors' README.
func makePackets(t *testing.T) (v packetVectors) {
	t.Helper()
	key, other := keyOf("tamizdat test vectors: history ipns key"), keyOf("tamizdat test vectors: other")
	v.Key, v.Name = hex.EncodeToString(public(key)), nameOf(public(key))
	const number = 1_790_000_000_000_000
	value := func(head []byte) []byte {
		b, err := packet(public(key), head)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	travels := func(by ed25519.PrivateKey, n int64, value []byte) []byte {
		return append(binary.BigEndian.AppendUint64(ed25519.Sign(by, toSign(n, value)), uint64(n)), value...)
	}
	for i, name := range []string{"history-head-a2.bin", "history-head-a4.bin", "history-head-c3.bin"} {
		n := int64(number + i)
		v.Packets = append(v.Packets, packetVector{name, n, hex.EncodeToString(travels(key, n, value(testvectors.File(t, name))))})
	}

	head := testvectors.File(t, "history-head-a4.bin")
	bad := func(check string, b []byte) { v.Refused = append(v.Refused, packetBad{check, hex.EncodeToString(b)}) }
	signed := func(check string, value []byte) { bad(check, travels(key, number, value)) }
	good := travels(key, number, value(head))
	bad("the channel's IPNS key signed it", travels(other, number, value(head)))
	bad("the number is as it was signed", append(binary.BigEndian.AppendUint64(bytes.Clone(good[:64]), number+1), good[72:]...))
	bad("the value is as it was signed", append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1))
	bad("a number is not negative", travels(key, -1, value(head)))
	bad("signature and number stand in front", good[:71])
	bad("there is a value", good[:72])
	bad("the packet is whole", good[:len(good)-1])

	// made is a packet that differs from the true one in one thing.
	type differs struct {
		header   dnsmessage.Header
		question bool
		name     string
		class    dnsmessage.Class
		ttl      uint32
		cut      int
		texts    int
	}
	made := func(f func(*differs)) []byte {
		d := differs{dnsmessage.Header{Response: true, Authoritative: true}, false, v.Name, dnsmessage.ClassINET, headTTL, 255, 1}
		f(&d)
		name := dnsmessage.MustNewName(d.name)
		b := dnsmessage.NewBuilder(nil, d.header)
		var all []error
		if d.question {
			all = append(all, b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypeTXT, Class: d.class}))
		}
		all = append(all, b.StartAnswers())
		for range d.texts {
			var txt []string
			for rest := string(head); rest != ""; {
				n := min(len(rest), d.cut)
				txt, rest = append(txt, rest[:n]), rest[n:]
			}
			all = append(all, b.TXTResource(dnsmessage.ResourceHeader{Name: name, Class: d.class, TTL: d.ttl}, dnsmessage.TXTResource{TXT: txt}))
		}
		msg, err := b.Finish()
		if err := errors.Join(append(all, err)...); err != nil {
			t.Fatal(err)
		}
		return msg
	}
	if !bytes.Equal(made(func(*differs) {}), value(head)) {
		t.Fatal("the packet that differs in nothing differs")
	}
	signed("QR and AA are set: not AA", made(func(d *differs) { d.header.Authoritative = false }))
	signed("QR and AA are set: not QR", made(func(d *differs) { d.header.Response = false }))
	signed("all else is 0: the ID", made(func(d *differs) { d.header.ID = 1 }))
	signed("all else is 0: RD", made(func(d *differs) { d.header.RecursionDesired = true }))
	signed("all else is 0: the code", made(func(d *differs) { d.header.RCode = dnsmessage.RCodeNameError }))
	signed("there is no question", made(func(d *differs) { d.question = true }))
	signed("there is one answer: none", made(func(d *differs) { d.texts = 0 }))
	signed("there is one answer: two", made(func(d *differs) { d.texts = 2 }))
	signed("the name is _head.KEY.", made(func(d *differs) { d.name = "_head." + v.Name }))
	signed("KEY is this key", made(func(d *differs) { d.name = nameOf(public(other)) }))
	signed("KEY is in lower case", made(func(d *differs) { d.name = strings.ToUpper(v.Name) }))
	signed("the class is IN", made(func(d *differs) { d.class = dnsmessage.ClassCHAOS }))
	signed("the TTL is 60", made(func(d *differs) { d.ttl = 300 }))
	signed("strings are cut at each 255 bytes", made(func(d *differs) { d.cut = 100 }))
	signed("nothing stands behind it", append(value(head), 0))
	signed("it is a DNS packet", []byte("head"))
	signed("a head has at least one byte", value(nil))
	long, err := packet(public(key), make([]byte, 930))
	if !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	signed("a value has at most 1,000 bytes, bencoded", long)
	return v
}
