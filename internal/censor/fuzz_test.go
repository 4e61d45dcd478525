package censor

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// FuzzRules shows arbitrary bytes to every rule there is, as datagrams and as
// pieces of a stream, both ways: nothing panics, and nothing grows beyond what
// was sent and a little.
func FuzzRules(f *testing.F) {
	m := testMap()
	record := append([]byte{recordHandshake, 3, 1, 0, 60}, echHello(listedName, true)...)
	f.Add(record)
	f.Add([]byte{})
	f.Add([]byte{0xc0, 0, 0, 0, 1, 20})
	f.Add([]byte{0xc0, 0, 0, 0, 1, 0, 0, 0, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21})
	q := new(dns.Msg)
	q.SetQuestion("a."+newsZone+".", dns.TypeTXT)
	wire, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	txt := append(reply(wire, question{end: len(wire)}, 0), 0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1, 0, 3, 2, 200, 'x')
	binary.BigEndian.PutUint16(txt[6:], 1)
	f.Add(txt)
	f.Add(append([]byte{0, byte(len(txt))}, txt...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range Scenarios() {
			for _, r := range s.Rules {
				box := r.Start(&m)
				for _, proto := range []string{UDP, TCP} {
					for _, to := range []netip.AddrPort{relayTo, resolverTo} {
						i := box.Flow(Flow{
							Proto: proto, Local: netip.AddrPortFrom(readerAddr, 50000), To: to, Fresh: true,
							Rand: rand.New(rand.NewPCG(1, 2)),
						})
						if i == nil {
							continue
						}
						i.Connect()
						keep := string(b)
						for range 3 {
							for _, v := range []Verdict{i.Out(b), i.In(b)} {
								if len(v.Data) > 4*len(b)+600 || len(v.Inject) > 4 {
									t.Fatalf("%s: %d bytes became %d", r.Name(), len(b), len(v.Data))
								}
							}
						}
						if string(b) != keep {
							t.Fatalf("%s changed what it was shown", r.Name())
						}
					}
				}
			}
		}
		looksRandom(b)
	})
}

// FuzzInitial opens arbitrary Initials and reads arbitrary frames in them.
func FuzzInitial(f *testing.F) {
	f.Add([]byte{frameCrypto, 0, 1, typeClientHello})
	f.Add([]byte{2, 1, 1, 0x3f, 1, 1, frameCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1})
	f.Add([]byte{3, 0xc0, 0, 0, 0, 0, 0, 0, 1, 1, 0x80, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		cryptoFrames(b, func(_ uint64, data []byte) {
			if len(data) > len(b) {
				t.Fatal("more data than there is")
			}
		})
		h, ok := readHello(b)
		if !ok && h != (hello{}) {
			t.Fatal("something was read of nothing")
		}
		k, err := clientKeys([]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			p, rest, ok := nextPacket(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			k.open(p)
			b = rest
		}
	})
}
