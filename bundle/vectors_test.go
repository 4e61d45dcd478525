package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// The vectors are plain files, for other implementations as much as for this
// one. testdata/vectors/README.md says what stands where. With -update they are
// made anew: from fixed keys, but encryption is randomised, so the CARs, the
// grant and whatever holds their hashes change. With -add only what must be
// refused, or has something added, is made, and of that what is not there.
var (
	update = flag.Bool("update", false, "make the files in testdata/vectors anew")
	add    = flag.Bool("add", false, "make the invalid files in testdata/vectors that are not there")
)

const vectorDir = "testdata/vectors"

// vectors is vectors.json: what each valid file must parse to.
type vectors struct {
	Channel  string       `json:"channel"`
	RootNote rootVector   `json:"root_note"`
	Grant    grantVector  `json:"grant"`
	Invite   inviteVector `json:"invite"`
	// Invites are more of the same batch, also as mail and chat spoil them.
	Invites  []inviteVector  `json:"invites"`
	Denied   deniedVector    `json:"denied"`
	Editions []editionVector `json:"editions"`
	// Texts are single frames of a text layer of edition 0.
	Texts   []textVector  `json:"texts"`
	Derived derivedVector `json:"derived"`
}

type rootVector struct {
	File      string   `json:"file"`
	Version   uint64   `json:"version"`
	Threshold int      `json:"threshold"`
	RootKeys  []string `json:"root_keys"`
	LogKey    string   `json:"log_key"`
	IPNSKey   string   `json:"ipns_key"`
}

type grantVector struct {
	File   string `json:"file"`
	Text   string `json:"text"`
	Name   string `json:"name"`
	Serial uint64 `json:"serial"`
	// Epochs are the keys in hex, by position: the number is the index.
	Epochs []string `json:"epochs"`
	// Places are as lines of a grant.
	Places []string `json:"places"`
}

type inviteVector struct {
	File   string   `json:"file"`
	Seed   string   `json:"seed"`
	IPNS   string   `json:"ipns_key"`
	Places []string `json:"places"`
}

// deniedVector is the list of revoked batches for one relay; tags are base64.
type deniedVector struct {
	File  string   `json:"file"`
	Pin   string   `json:"pin"`
	Epoch uint64   `json:"epoch"`
	Tags  []string `json:"tags"`
}

type editionVector struct {
	CAR         string    `json:"car"`
	HeadText    string    `json:"head_text"`
	HeadCompact string    `json:"head_compact"`
	FrontJSON   string    `json:"front_json"`
	Edition     uint64    `json:"edition"`
	Epoch       uint64    `json:"epoch"`
	Size        uint64    `json:"size"`
	Tree        string    `json:"tree"`
	LeafHash    string    `json:"leaf_hash"`
	LeafText    string    `json:"leaf_text"`
	Root        string    `json:"root"`
	Date        time.Time `json:"date"`
	Time        time.Time `json:"time"`
	// Records are the DNS names that the leaf states.
	FrontLarge string `json:"front_large"`
	FrontSmall string `json:"front_small"`
	// Blocks is how many blocks the CAR holds behind its head.
	Blocks int `json:"blocks"`
	// Passphrases open NAME.age with stock age.
	Passphrases map[string]string `json:"passphrases"`
	// Files are the layers' sizes in bytes.
	Files map[string]int64 `json:"files"`
	// Dict is the file of the dictionary that the texts need, as zstd -D takes it.
	Dict     string          `json:"dict,omitempty"`
	Articles []articleVector `json:"articles"`
	// Standing are the articles that a reader has who has seen this front page and those
	// of all editions before, in whatever order, and the edition in which each lies.
	Standing map[string]uint64 `json:"standing"`
}

type articleVector struct {
	bundle.Article
	// Edition that holds the article's text.
	Edition uint64
	// Pictures are the SHA-256 of the images' bytes, in hex.
	Pictures []string
}

// textVector is one article as its headline leads to it.
type textVector struct {
	File string `json:"file"`
	// Dict is the dict.age that its frame needs, made for edition 0; empty for none.
	Dict     string          `json:"dict,omitempty"`
	Headline json.RawMessage `json:"headline"`
	// Lead and Body are as the text has them.
	Lead string `json:"lead"`
	Body string `json:"body"`
}

type derivedVector struct {
	HeadLabel  string `json:"head_label"`
	RootLabel1 string `json:"root_label_1"`
	Origin0    string `json:"origin_0"`
	Recipient  string `json:"recipient"`
	Pin        string `json:"pin"`
	Tag        string `json:"tag"`
	MintKey    string `json:"mint_key"`
	Prefix     string `json:"prefix"`
	// RelaySecret is what MintKey is derived from, with the channel ID.
	RelaySecret string `json:"relay_secret"`
}

func readVectors(t testing.TB, names []string) (all [][]byte) {
	t.Helper()
	for _, n := range names {
		all = append(all, readVector(t, n))
	}
	return all
}

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readJSON(t testing.TB, name string, to any) {
	t.Helper()
	if err := json.Unmarshal(readVector(t, name), to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func loadVectors(t testing.TB) (*vectors, *channel.Roots, channel.ID) {
	t.Helper()
	v := &vectors{}
	readJSON(t, "vectors.json", v)
	id, err := channel.ParseID(v.Channel)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := channel.ParseRoots(id, [][]byte{readVector(t, v.RootNote.File)})
	if err != nil {
		t.Fatal(err)
	}
	return v, roots, id
}

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	switch {
	case *update:
		err = makeVectors(vectorDir)
	case *add:
		err = addVectors()
	}
	if err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func want(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-vectors.json +parsed):\n%s", what, diff)
	}
}

func hex32(s string) (out [32]byte) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(out) {
		panic("vectors: bad hex")
	}
	return [32]byte(b)
}

func TestVectorRootNote(t *testing.T) {
	v, roots, id := loadVectors(t)
	n := roots.Last()
	got := rootVector{
		File: v.RootNote.File, Version: n.Version, Threshold: n.Threshold,
		LogKey: hex.EncodeToString(n.Log.Key), IPNSKey: hex.EncodeToString(n.IPNS),
	}
	for _, k := range n.RootKeys {
		got.RootKeys = append(got.RootKeys, hex.EncodeToString(k))
	}
	want(t, "root note", v.RootNote, got)
	want(t, "channel", v.Channel, channel.IDOf(n.Text()).String())
	want(t, "head label", v.Derived.HeadLabel, id.Label())
	want(t, "root label", v.Derived.RootLabel1, id.RootLabel(1))
	want(t, "origin", v.Derived.Origin0, channel.Origin(id, 0))
}

// placeLines spells places as a grant does, in words of its own.
func placeLines(p channel.Places) (out []string) {
	or := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, r := range p.Relays {
		out = append(out, fmt.Sprintf("relay %s %d %s %s %s", r.Host, r.Port, r.Pin, r.Prefix.Path(), or(base64.StdEncoding.EncodeToString(r.ECH))))
	}
	for _, z := range p.Zones {
		out = append(out, "zone "+z.Name+" "+or(z.Authority))
	}
	for _, a := range p.Peers {
		out = append(out, "peer "+a)
	}
	for _, g := range p.Gateways {
		out = append(out, "gateway "+g)
	}
	for _, m := range p.Mirrors {
		out = append(out, "mirror "+m)
	}
	return out
}

func TestVectorInviteAndGrant(t *testing.T) {
	v, roots, id := loadVectors(t)
	inv, err := channel.ParseInvite(string(readVector(t, v.Invite.File)))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "invite", v.Invite, inviteVector{
		File: v.Invite.File, Seed: hex.EncodeToString(inv.Seed[:]), IPNS: hex.EncodeToString(inv.IPNS), Places: placeLines(inv.Places),
	})
	want(t, "invite as written", string(bytes.TrimSpace(readVector(t, v.Invite.File))), inv.String())
	want(t, "invite's channel", id, inv.Channel)
	g, err := roots.OpenGrant(readVector(t, v.Grant.File), inv.Seed)
	if err != nil {
		t.Fatal(err)
	}
	got := grantVector{File: v.Grant.File, Text: v.Grant.Text, Name: inv.Seed.GrantName(id), Serial: g.Serial, Places: placeLines(g.Places)}
	for i, e := range g.Epochs {
		if e.Number != uint64(i) {
			t.Errorf("epoch %d at place %d", e.Number, i)
		}
		got.Epochs = append(got.Epochs, hex.EncodeToString(e.Key[:]))
	}
	want(t, "grant", v.Grant, got)
	age, err := inv.Seed.Identity()
	if err != nil {
		t.Fatal(err)
	}
	want(t, "recipient", v.Derived.Recipient, age.Recipient().String())
	pin, err := channel.ParsePin(v.Derived.Pin)
	if err != nil {
		t.Fatal(err)
	}
	tag := inv.Seed.TagFor(pin)
	want(t, "tag", v.Derived.Tag, hex.EncodeToString(tag[:]))
	secret := hex32(v.Derived.RelaySecret)
	mint := channel.NewMintKey(secret[:], id)
	want(t, "mint key", v.Derived.MintKey, hex.EncodeToString(mint[:]))
	want(t, "prefix", v.Derived.Prefix, mint.Mint(tag).Path())
}

func TestVectorInvites(t *testing.T) {
	v, _, id := loadVectors(t)
	if len(v.Invites) < 6 {
		t.Fatalf("%d invites", len(v.Invites))
	}
	for _, expect := range v.Invites {
		inv, err := channel.ParseInvite(string(readVector(t, expect.File)))
		if err != nil {
			t.Errorf("%s: %v", expect.File, err)
			continue
		}
		want(t, expect.File, expect, inviteVector{
			File: expect.File, Seed: hex.EncodeToString(inv.Seed[:]), IPNS: hex.EncodeToString(inv.IPNS), Places: placeLines(inv.Places),
		})
		want(t, expect.File, id, inv.Channel)
	}
}

func TestVectorDenied(t *testing.T) {
	v, roots, id := loadVectors(t)
	d, err := roots.Denied(readVector(t, v.Denied.File))
	if err != nil {
		t.Fatal(err)
	}
	got := deniedVector{File: v.Denied.File, Pin: d.Pin.String(), Epoch: d.Epoch}
	for _, tag := range d.Tags {
		got.Tags = append(got.Tags, base64.StdEncoding.EncodeToString(tag[:]))
	}
	want(t, "list", v.Denied, got)
	want(t, "its channel and key", []any{id, true}, []any{d.Channel, d.Current})
	pin, err := channel.ParsePin(v.Derived.Pin)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the grant's batch is in it", false, d.Has(channel.Seed(hex32(v.Invite.Seed)).TagFor(pin)))
}

func TestVectorHeads(t *testing.T) {
	v, roots, _ := loadVectors(t)
	for i, e := range v.Editions {
		text := readVector(t, e.HeadText)
		for _, raw := range [][]byte{text, readVector(t, e.HeadCompact)} {
			h, err := roots.Head(raw)
			if err != nil {
				t.Fatalf("edition %d: %v", i, err)
			}
			leaf := h.Leaf.Hash()
			want(t, "head", []any{e.Edition, e.Epoch, e.Size, e.Tree, e.LeafHash, e.LeafText, e.Root, e.Date, e.Time, e.FrontLarge, e.FrontSmall},
				[]any{
					h.Edition, h.Epoch, h.Size, base64.StdEncoding.EncodeToString(h.Tree[:]), base64.StdEncoding.EncodeToString(leaf[:]),
					string(h.Leaf.Text()), h.Root.String(), h.Date, h.Time, h.Front.Large.Label(), h.Front.Small.Label(),
				})
			want(t, "text form", string(text), string(h.Text()))
			want(t, "compact form", readVector(t, e.HeadCompact), h.Compact())
		}
	}
}

// readCAR reads a whole edition: what the car package checks, no more.
func readCAR(file []byte) (*car.Intro, map[cid.Cid][]byte, []cid.Cid, error) {
	r, err := car.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, nil, nil, err
	}
	in, err := r.Intro()
	if err != nil {
		return nil, nil, nil, err
	}
	blocks := map[cid.Cid][]byte{}
	var order []cid.Cid
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return in, blocks, order, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
		blocks[b.CID] = bytes.Clone(b.Data)
		order = append(order, b.CID)
	}
}

func volumeOf(id channel.ID, h *channel.Head, key channel.EpochKey, blocks map[cid.Cid][]byte) *bundle.Volume {
	return &bundle.Volume{
		Channel: id, Edition: h.Edition, Root: h.Root, Key: key,
		Get: func(c cid.Cid) ([]byte, error) {
			if b, ok := blocks[c]; ok {
				return b, nil
			}
			return nil, bundle.ErrMissing
		},
	}
}

func TestVectorEditions(t *testing.T) {
	v, roots, id := loadVectors(t)
	key := channel.EpochKey(hex32(v.Grant.Epochs[0]))
	all := map[cid.Cid][]byte{}
	var volumes []*bundle.Volume
	for _, e := range v.Editions {
		in, blocks, order, err := readCAR(readVector(t, e.CAR))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "root notes", [][]byte{readVector(t, v.RootNote.File)}, in.RootNotes)
		want(t, "head", string(readVector(t, e.HeadText)), string(in.Head))
		h, err := roots.Head(in.Head)
		if err != nil {
			t.Fatal(err)
		}
		if !in.Root.Equals(h.Root) || !order[0].Equals(h.Root) {
			t.Errorf("edition %d: header, head and first block differ about the root", e.Edition)
		}
		want(t, "blocks", e.Blocks, len(order))
		vol := volumeOf(id, h, key, blocks)
		visited := 0
		if err := vol.Walk(func(bundle.Want, []byte) error { visited++; return nil }); err != nil {
			t.Errorf("edition %d is not whole: %v", e.Edition, err)
		}
		want(t, "blocks of the DAG", e.Blocks, visited)
		for layer, p := range e.Passphrases {
			want(t, "passphrase", p, bundle.Passphrase(key, id, e.Edition, layer))
		}
		for c, b := range blocks {
			all[c] = b
		}
		vol.Get = volumeOf(id, h, key, all).Get
		volumes = append(volumes, vol)
		checkFront(t, v, e, vol, volumes)
		notes, ok, err := vol.File(bundle.LayerRoot, "1")
		if err != nil || !ok || !bytes.Equal(notes, readVector(t, v.RootNote.File)) {
			t.Errorf("edition %d: root/1: %v", e.Edition, err)
		}
		if _, ok, err := vol.File(bundle.LayerGrants, v.Grant.Name); err != nil || !ok {
			t.Errorf("edition %d: grants/%s: %v", e.Edition, v.Grant.Name, err)
		}
	}
	// The last one's log holds what joins it to edition 0.
	last := volumes[len(volumes)-1]
	hs, err := last.Hashes(0)
	if err != nil || len(hs) != len(volumes)-1 || base64.StdEncoding.EncodeToString(hs[0][:]) != v.Editions[0].LeafHash {
		t.Errorf("log layer: %v, %v", hs, err)
	}
}

func checkFront(t *testing.T, v *vectors, e editionVector, vol *bundle.Volume, volumes []*bundle.Volume) {
	t.Helper()
	f, err := vol.Front()
	if err != nil {
		t.Fatal(err)
	}
	var expect bundle.Front
	readJSON(t, e.FrontJSON, &expect)
	want(t, "front page", &expect, f)
	vol.Dict = f.Dict
	if want := e.Dict != ""; want != (f.Dict != nil) {
		t.Errorf("edition %d: a dictionary: %v instead of %v", e.Edition, !want, want)
	}
	sizes := map[string]int64{}
	for layer := range e.Files {
		leaves, ok, err := vol.Layer(layer)
		if err != nil || !ok {
			t.Fatalf("layer %s: %v", layer, err)
		}
		for _, w := range leaves {
			b, err := vol.Get(w.CID)
			if err != nil {
				t.Fatal(err)
			}
			sizes[layer] += int64(len(b))
		}
	}
	want(t, "layer sizes", e.Files, sizes)
	var got []articleVector
	for i := range f.Articles {
		entry := &f.Articles[i]
		in := volumes[entry.Edition]
		a, err := in.Article(entry)
		if err != nil {
			t.Fatal(err)
		}
		av := articleVector{Article: *a, Edition: entry.Edition}
		for j := range entry.Images {
			img, err := in.Image(entry, j)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(img.Data)
			av.Pictures = append(av.Pictures, hex.EncodeToString(sum[:]))
		}
		got = append(got, av)
	}
	want(t, "articles", e.Articles, got)
	want(t, "channel", v.Channel, f.Channel.String())
}
