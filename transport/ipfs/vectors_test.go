package ipfs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	pb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"google.golang.org/protobuf/proto"

	"tamizdat/bundle/channel"
	"tamizdat/internal/testvectors"
)

var updateVectors = flag.Bool("update", false, "make ipns.json in bundle/testdata/vectors anew")

// ipnsVectors is ipns.json: records of the channel that history.json is about.
type ipnsVectors struct {
	Key     string       `json:"key"`
	Name    string       `json:"name"`
	Records []ipnsRecord `json:"records"`
	Refused []ipnsBad    `json:"refused"`
}

type ipnsRecord struct {
	Head     string `json:"head"`
	Root     string `json:"root"`
	Sequence uint64 `json:"sequence"`
	Validity string `json:"validity"`
	Hex      string `json:"hex"`
}

type ipnsBad struct {
	Check string `json:"check"`
	Hex   string `json:"hex"`
}

// vectorKey is one of the private keys of which the vectors' README says how they are made.
func vectorKey(label string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("tamizdat test vectors: " + label))
	return ed25519.NewKeyFromSeed(seed[:])
}

func TestRecordVectors(t *testing.T) {
	made, err := json.MarshalIndent(makeRecords(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var v ipnsVectors
	if err := json.Unmarshal(testvectors.Same(t, "ipns.json", append(made, '\n'), *updateVectors), &v); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.Records {
		compact, root, err := HeadFromRecord(v.Name, unhex(t, r.Hex))
		if err != nil || !bytes.Equal(compact, testvectors.File(t, r.Head)) || root.String() != r.Root {
			t.Errorf("%s: %v, %v", r.Head, root, err)
		}
		if seq, err := Sequence(unhex(t, r.Hex)); err != nil || seq != r.Sequence {
			t.Errorf("%s: number %d, %v", r.Head, seq, err)
		}
	}
	for _, r := range v.Refused {
		if _, _, err := HeadFromRecord(v.Name, unhex(t, r.Hex)); !errors.Is(err, ErrRecord) {
			t.Errorf("%q: %v", r.Check, err)
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

// makeRecords signs the records, the good ones as Record does.
func makeRecords(t *testing.T) (v ipnsVectors) {
	t.Helper()
	key, other := vectorKey("history ipns key"), vectorKey("other")
	public := key.Public().(ed25519.PublicKey)
	v.Key = hex.EncodeToString(public)
	var err error
	if v.Name, err = Name(public); err != nil {
		t.Fatal(err)
	}
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	head := func(name string) ([]byte, cid.Cid) {
		compact := testvectors.File(t, name)
		c, ok := channel.ClaimOf(compact)
		if !ok {
			t.Fatalf("%s is no compact head", name)
		}
		return compact, c.Root
	}
	eol := time.Date(2026, 9, 23, 12, 0, 0, 0, time.UTC) // it is past: an expired one is taken
	for i, name := range []string{"history-head-a2.bin", "history-head-a4.bin", "history-head-c3.bin"} {
		compact, root := head(name)
		seq := uint64(1790000000 + i)
		raw, err := signRecord(key, root, compact, seq, eol)
		if err != nil {
			t.Fatal(err)
		}
		v.Records = append(v.Records, ipnsRecord{Head: name, Root: root.String(), Sequence: seq, Validity: eol.Format(time.RFC3339), Hex: hex.EncodeToString(raw)})
	}

	compact, root := head("history-head-a4.bin")
	_, elsewhere := head("history-head-a2.bin")
	at := "/ipfs/" + root.String()
	record := func(value string, meta map[string]any, opts ...ipns.Option) *pb.IpnsRecord {
		p, err := path.NewPath(value)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ipns.NewRecord(sk, p, 5, eol, time.Minute, append(opts, ipns.WithMetadata(meta))...)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := ipns.MarshalRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		var out pb.IpnsRecord
		if err := proto.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	good := map[string]any{headKey: compact}
	// One of version 2 alone is as good.
	onlyTwo := record(at, good, ipns.WithV1Compatibility(false))
	v.Records = append(v.Records, ipnsRecord{Head: "history-head-a4.bin", Root: root.String(), Sequence: 5, Validity: eol.Format(time.RFC3339), Hex: hexOf(t, onlyTwo)})

	bad := func(check string, r *pb.IpnsRecord) {
		v.Refused = append(v.Refused, ipnsBad{check, hexOf(t, r)})
	}
	changed := func(check string, f func(*pb.IpnsRecord)) {
		r := record(at, good)
		f(r)
		bad(check, r)
	}
	again := func(signer ed25519.PrivateKey, prefix string) func(*pb.IpnsRecord) {
		return func(r *pb.IpnsRecord) {
			r.SignatureV2 = ed25519.Sign(signer, append([]byte(prefix), r.GetData()...))
		}
	}
	const prefix = "ipns-signature:"
	changed("the channel's IPNS key signed it", again(other, prefix))
	changed("what is signed begins with ipns-signature:", again(key, ""))
	changed("there is a signature of version 2", func(r *pb.IpnsRecord) { r.SignatureV2 = nil })
	changed("there is signed data", func(r *pb.IpnsRecord) { r.Data = nil })
	changed("signed data is as it was signed", func(r *pb.IpnsRecord) {
		r.Data[bytes.Index(r.Data, compact)+20] ^= 1
	})
	changed("a key beside it is the channel's IPNS key", func(r *pb.IpnsRecord) {
		pk, err := crypto.UnmarshalEd25519PublicKey(other.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if r.PubKey, err = crypto.MarshalPublicKey(pk); err != nil {
			t.Fatal(err)
		}
	})
	changed("fields of version 1 say the same: value", func(r *pb.IpnsRecord) { r.Value = []byte("/ipfs/" + elsewhere.String()) })
	changed("fields of version 1 say the same: validity", func(r *pb.IpnsRecord) {
		r.Validity = []byte(eol.Add(time.Hour).Format(time.RFC3339Nano))
	})
	changed("fields of version 1 say the same: sequence", func(r *pb.IpnsRecord) { r.Sequence = proto.Uint64(6) })
	changed("fields of version 1 say the same: TTL", func(r *pb.IpnsRecord) { r.Ttl = proto.Uint64(1) })
	bad("there is a head", record(at, map[string]any{"_other": compact}))
	bad("the head is bytes", record(at, map[string]any{headKey: string(bytes.Repeat([]byte("a"), len(compact)))}))
	bad("a head has at least one byte", record(at, map[string]any{headKey: []byte{}}))
	bad("a head has at most 1,040 bytes", record(at, map[string]any{headKey: make([]byte, maxCompact+1)}))
	bad("the value begins with /ipfs/", record("/ipns/"+v.Name, good))
	bad("the value is a CID alone", record(at+"/front.age", good))
	bad("value and head name one edition", record("/ipfs/"+elsewhere.String(), good))
	whole := hexOf(t, record(at, good))
	v.Refused = append(v.Refused,
		ipnsBad{"the record is whole", whole[:len(whole)-2]},
		ipnsBad{"a record has at most 10,240 bytes", whole + strings.Repeat("00", MaxRecord)},
		ipnsBad{"the record is a protobuf message", whole + "ff"})
	return v
}

func hexOf(t *testing.T, r *pb.IpnsRecord) string {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw)
}
