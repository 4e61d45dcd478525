package publisher

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/file"
	"tamizdat/transport/ipfs"
	"tamizdat/transport/pkarr"
)

func withEdition(t *testing.T) *Publisher {
	t.Helper()
	p, err := Init(t.TempDir(), "Harbour", []string{"en"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if _, err := p.Record(time.Now()); err == nil {
		t.Error("a record of no edition")
	}
	pack(t, p, "The ferry is late")
	return p
}

func pack(t *testing.T, p *Publisher, title string) {
	t.Helper()
	a := bundle.Article{
		ID: strings.Repeat("0", 15) + string(rune('0'+p.Size())), Title: title, Lead: "By an hour.", Body: "<p>Fog.</p>",
		Lang: "en", Dir: "ltr", Date: time.Unix(1_750_000_000, 0).UTC(),
	}
	if _, err := p.Pack([]bundle.Article{a}, time.Unix(1_750_000_100+int64(p.Size()), 0)); err != nil {
		t.Fatal(err)
	}
}

// read checks a record as a reader would.
func read(t *testing.T, p *Publisher, raw []byte) (seq uint64, eol time.Time, head *channel.Head) {
	t.Helper()
	name, err := ipfs.Name(p.keys.key(p.keys.IPNS).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	compact, root, err := ipfs.HeadFromRecord(name, raw)
	if err != nil {
		t.Fatal(err)
	}
	if head, err = p.roots.Head(compact); err != nil || !head.Root.Equals(root) {
		t.Fatalf("the head in it: %v", err)
	}
	r, err := ipns.UnmarshalRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if seq, err = r.Sequence(); err != nil {
		t.Fatal(err)
	}
	if eol, err = r.Validity(); err != nil {
		t.Fatal(err)
	}
	return seq, eol, head
}

func TestRecordNumbersOnlyGrow(t *testing.T) {
	p := withEdition(t)
	now := time.Unix(1_760_000_000, 0)
	var last uint64
	for i, at := range []time.Time{now, now, now.AddDate(3, 0, 0), now.Add(time.Hour), time.Unix(-5, 0)} {
		if i == 3 { // a process later
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			if p, err = Open(p.dir); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			pack(t, p, "The ferry is in")
		}
		raw, err := p.Record(at)
		if err != nil {
			t.Fatal(err)
		}
		seq, eol, head := read(t, p, raw)
		if seq <= last || i != 1 && i < 3 && seq != uint64(at.Unix()) {
			t.Errorf("record %d: number %d after %d", i, seq, last)
		}
		if left := eol.Sub(at); left < recordValidity-time.Minute || left > recordValidity+time.Minute {
			t.Errorf("record %d is valid for %v", i, left)
		}
		if head.Edition != p.Size()-1 {
			t.Errorf("record %d names edition %d of %d", i, head.Edition, p.Size())
		}
		last = seq
	}
	if err := os.WriteFile(filepath.Join(p.dir, recordFile), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Record(now); err == nil || !strings.Contains(err.Error(), recordFile) {
		t.Errorf("after a damaged record: %v", err)
	}
}

// shelf is a target that notes what it is given, in order.
type shelf struct {
	head    []byte
	got     []string
	record  []byte
	refuses bool
}

var (
	_ transport.Publisher = (*shelf)(nil)
	_ transport.Namer     = (*shelf)(nil)
)

func (s *shelf) Publish(_ context.Context, src transport.Source, _ func(held, total int64)) error {
	s.got = append(s.got, "edition "+string(rune('0'+src.Edition)))
	return nil
}

func (s *shelf) Current(context.Context, channel.ID) ([]byte, error) {
	if s.head == nil {
		return nil, transport.ErrNotFound
	}
	return s.head, nil
}

func (s *shelf) PublishRecord(_ context.Context, _ channel.ID, record []byte) error {
	if s.refuses {
		return transport.ErrRefused
	}
	s.got = append(s.got, "record")
	s.record = record
	return nil
}

// plain is a target that takes no records.
type plain struct{ transport.Publisher }

func TestPushSendsTheRecordLast(t *testing.T) {
	p := withEdition(t)
	pack(t, p, "The ferry is in")
	newest, err := p.headOf(1)
	if err != nil {
		t.Fatal(err)
	}
	fresh, full, refusing, without := &shelf{}, &shelf{head: newest.Compact()}, &shelf{refuses: true}, &shelf{}
	results := p.Push(t.Context(), []Target{{Name: "fresh", Publisher: fresh}, {Name: "full", Publisher: full}, {Name: "refusing", Publisher: refusing}, {Name: "without", Publisher: plain{without}}}, nil)
	for i, r := range results {
		if refused := errors.Is(r.Err, transport.ErrRefused); refused != (i == 2) || !refused && r.Err != nil {
			t.Errorf("%s: %v", r.Target, r.Err)
		}
	}
	editions := []string{"edition 0", "edition 1"}
	for name, c := range map[string]struct{ got, want []string }{
		"fresh":   {fresh.got, append(slices.Clone(editions), "record")},
		"full":    {full.got, []string{"record"}}, // pushing again is how it is renewed
		"without": {without.got, editions},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s was given %q, want %q", name, c.got, c.want)
		}
	}
	if !bytes.Equal(fresh.record, full.record) {
		t.Error("two records of one push")
	}
	before, _, head := read(t, p, fresh.record)
	if head.Edition != 1 {
		t.Errorf("it names edition %d", head.Edition)
	}
	p.Push(t.Context(), []Target{{Name: "full", Publisher: full}}, nil)
	if after, _, _ := read(t, p, full.record); after <= before {
		t.Errorf("pushed again: number %d after %d", after, before)
	}
}

// board is a target that takes IPNS records and packets.
type board struct {
	transport.Publisher
	records, packets [][]byte
}

func (b *board) PublishRecord(_ context.Context, _ channel.ID, raw []byte) error {
	b.records = append(b.records, raw)
	return nil
}

func (b *board) PostPacket(_ context.Context, _ channel.ID, raw []byte) error {
	b.packets = append(b.packets, raw)
	return nil
}

// Packets for the DHT are signed only if that is asked for, with numbers that grow.
func TestPacket(t *testing.T) {
	p := withEdition(t)
	b := &board{Publisher: file.Folder{Dir: t.TempDir()}}
	push := func() {
		t.Helper()
		if r := p.Push(t.Context(), []Target{{Name: "board", Publisher: b}}, nil); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	push()
	if len(b.records) != 1 || len(b.packets) != 0 {
		t.Fatalf("%d records, %d packets", len(b.records), len(b.packets))
	}
	p.cfg.BitTorrent = true
	push()
	push()
	if len(b.records) != 3 || len(b.packets) != 2 {
		t.Fatalf("%d records, %d packets", len(b.records), len(b.packets))
	}
	last := int64(0)
	for i, raw := range b.packets {
		item, err := pkarr.Parse(p.roots.IPNSKey(), raw)
		if err != nil {
			t.Fatal(err)
		}
		seq, _, _ := read(t, p, b.records[i+1])
		if head, err := p.roots.Head(item.Compact); err != nil || head.Size != p.Size() || item.Seq != int64(seq)*1e6 || item.Seq <= last {
			t.Errorf("number %d after %d, record %d, %v", item.Seq, last, seq, err)
		}
		last = item.Seq
	}
}
