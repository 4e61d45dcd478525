package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"tamizdat/bundle"
	"tamizdat/bundle/car"
	"tamizdat/bundle/channel"
)

// upper32 is the alphabet of invites.
var upper32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// secret32 makes a fixed secret from a label.
func secret32(label string) [32]byte { return sha256.Sum256([]byte("tamizdat test vectors: " + label)) }

func signer(label string) ed25519.PrivateKey {
	s := secret32(label)
	return ed25519.NewKeyFromSeed(s[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// maker writes the vectors.
type maker struct {
	root, log, ipns ed25519.PrivateKey
	note            channel.RootNote
	signed          []byte
	id              channel.ID
	roots           *channel.Roots
	seed            channel.Seed
	epoch           channel.EpochKey
	grant           []byte
	heads           []*channel.Head
	packed          []*bundle.Packed
	cars            [][]byte
	invite          *channel.Invite
	dict            *bundle.Dictionary
	v               vectors
	bad, room       []invalid
	dir             string
	err             error
}

// addVectors makes the files of invalid.json and room.json that are not there yet; all
// others stay as they are. What it adds is made beside other editions, and must not need
// those that are there.
func addVectors() error {
	dir, err := os.MkdirTemp("", "vectors")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeVectors(dir); err != nil {
		return err
	}
	from, to := &maker{dir: dir}, &maker{dir: vectorDir}
	for _, name := range []string{"invalid.json", "room.json"} {
		var made, there []invalid
		if err := errors.Join(json.Unmarshal(from.read(name), &made), json.Unmarshal(to.read(name), &there)); err != nil {
			return err
		}
		for i, c := range made {
			if at := slices.IndexFunc(there, func(o invalid) bool { return o.File == c.File }); at >= 0 {
				made[i] = there[at]
				there = slices.Delete(there, at, at+1)
			} else {
				to.write(c.File, from.read(c.File))
			}
		}
		if len(there) > 0 {
			return fmt.Errorf("%s is not made any more", there[0].File)
		}
		to.writeJSON(name, made)
	}
	return errors.Join(from.err, to.err)
}

func makeVectors(to string) error {
	for _, dir := range []string{"invalid", "room"} {
		if err := os.RemoveAll(filepath.Join(to, dir)); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
	}
	m := &maker{
		dir:  to,
		root: signer("root key"), log: signer("log key"), ipns: signer("ipns key"),
		seed: channel.Seed(secret32("batch seed")), epoch: channel.EpochKey(secret32("epoch key 0")),
	}
	for _, step := range []func() error{
		m.keys, m.access, m.dictionary, m.editions, m.texts, m.lists, m.invalidHeads, m.invalidNotes, m.invalidGenerations, m.invalidAccess, m.invalidLists, m.invalidLayers,
		m.invalidDicts, m.invalidTexts, m.invalidFrames, m.invalidBlocks, m.invalidCARs, m.invalidOpened, m.roomFor,
	} {
		if err := step(); err != nil {
			return err
		}
		if m.err != nil {
			return m.err
		}
	}
	m.writeJSON("vectors.json", m.v)
	m.writeJSON("invalid.json", m.bad)
	m.writeJSON("room.json", m.room)
	return m.err
}

func (m *maker) write(name string, b []byte) string {
	if err := os.WriteFile(filepath.Join(m.dir, name), b, 0o644); err != nil && m.err == nil {
		m.err = err
	}
	return name
}

func (m *maker) writeJSON(name string, v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil && m.err == nil {
		m.err = err
	}
	return m.write(name, b.Bytes())
}

// keys makes the channel's first root note.
func (m *maker) keys() (err error) {
	m.note = channel.RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{public(m.root)},
		Log: channel.LogKey{Key: public(m.log)}, IPNS: public(m.ipns),
	}
	if m.signed, err = m.note.Sign(m.root); err != nil {
		return err
	}
	m.id = channel.IDOf(m.note.Text())
	if m.roots, err = channel.ParseRoots(m.id, [][]byte{m.signed}); err != nil {
		return err
	}
	m.v.Channel = m.id.String()
	m.v.RootNote = rootVector{
		File: m.write("root-1.note", m.signed), Version: 1, Threshold: 1,
		RootKeys: []string{hex.EncodeToString(public(m.root))},
		LogKey:   hex.EncodeToString(public(m.log)), IPNSKey: hex.EncodeToString(public(m.ipns)),
	}
	return nil
}

// access makes a grant and an invite.
func (m *maker) access() error {
	secret := secret32("relay secret")
	mint := channel.NewMintKey(secret[:], m.id)
	full := secret32("relay public key")
	pin := channel.Pin(full[:16])
	tag := m.seed.TagFor(pin)
	places := channel.Places{
		Relays: []channel.Relay{
			{Host: "192.0.2.7", Port: 443, Pin: pin, Prefix: mint.Mint(tag)},
			{Host: "relay.example", Port: 8443, Pin: pin, Prefix: mint.Mint(tag), ECH: []byte("not a real ECH config list")},
			{Host: "2001:db8::7", Port: 61443, Pin: pin, Prefix: mint.Mint(tag)},
		},
		Zones:    []channel.Zone{{Name: "n.example"}, {Name: "m.example", Authority: "192.0.2.7:53"}},
		Peers:    []string{"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"},
		Gateways: []string{"https://gateway.example"},
		Mirrors:  []string{"https://pages.example/n"},
	}
	g := channel.Grant{Channel: m.id, Serial: 7, Epochs: []channel.Epoch{{Number: 0, Key: m.epoch}}, Places: places}
	var err error
	if m.grant, err = channel.SealGrant(g, m.seed, 0, m.log, 0); err != nil {
		return err
	}
	identity, err := m.seed.Identity()
	if err != nil {
		return err
	}
	text, err := openGrantText(m.grant, identity)
	if err != nil {
		return err
	}
	m.v.Grant = grantVector{
		File: m.write("grant.age", m.grant), Text: m.write("grant.note", text), Name: m.seed.GrantName(m.id), Serial: 7,
		Epochs: []string{hex.EncodeToString(m.epoch[:])}, Places: placeLines(places),
	}
	m.invite = &channel.Invite{Channel: m.id, Seed: m.seed, IPNS: public(m.ipns), Places: channel.Places{
		Relays: []channel.Relay{places.Relays[0], {Host: "relay.example", Port: 8443, Pin: pin, Prefix: mint.Mint(tag)}},
		Zones:  places.Zones, Peers: places.Peers, Gateways: places.Gateways, Mirrors: places.Mirrors,
	}}
	if err := m.invite.Validate(); err != nil {
		return err
	}
	m.v.Invite = inviteVector{
		File: m.write("invite.txt", []byte(m.invite.String()+"\n")), Seed: hex.EncodeToString(m.seed[:]),
		IPNS: hex.EncodeToString(public(m.ipns)), Places: placeLines(m.invite.Places),
	}
	m.v.Derived = derivedVector{
		HeadLabel: m.id.Label(), RootLabel1: m.id.RootLabel(1), Origin0: channel.Origin(m.id, 0),
		Recipient: identity.Recipient().String(), Pin: pin.String(), Tag: hex.EncodeToString(tag[:]),
		RelaySecret: hex.EncodeToString(secret[:]), MintKey: hex.EncodeToString(mint[:]), Prefix: mint.Mint(tag).Path(),
	}
	return nil
}

func openGrantText(file []byte, id age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	return bytes.TrimRight(plain, "\x00"), err
}

// picture is a JPEG of noise: it does not compress, so a large one needs more
// than one block.
func picture(label string, size int) ([]byte, error) {
	img := image.NewGray(image.Rect(0, 0, size, size))
	for y := range size {
		row := sha256.Sum256(fmt.Append(nil, label, y))
		for x := range size {
			img.SetGray(x, y, color.Gray{Y: row[x%32] ^ byte(x*y)})
		}
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 90})
	return b.Bytes(), err
}

func sampleArticle(id, title, lead, body, lang, dir string, at int64, pictures ...[]byte) bundle.Article {
	a := bundle.Article{
		ID: id, Title: title, Lead: lead, Body: body, Lang: lang, Dir: dir, Date: time.Unix(at, 0).UTC(),
		Source: "https://news.example/" + id,
	}
	for i, p := range pictures {
		cfg, err := jpeg.DecodeConfig(bytes.NewReader(p))
		if err != nil {
			panic(err)
		}
		a.Images = append(a.Images, bundle.Image{Type: "image/jpeg", Alt: fmt.Sprintf("picture %d", i), Width: cfg.Width, Height: cfg.Height, Data: p})
		a.Body += fmt.Sprintf(`<p><img src="image:%d" alt="picture %d"/></p>`, i, i)
	}
	return a
}

func (m *maker) editions() error {
	const day0, day1 = 1_790_000_000, 1_790_086_400
	small, err := picture("small", 40)
	if err != nil {
		return err
	}
	large, err := picture("large", 320)
	if err != nil {
		return err
	}
	ferry := sampleArticle("00112233445566aa", "Ferry line opens again", "The boats run every hour.",
		"<p>The ferry between the two halves of the town runs again.</p>", "en", "ltr", day0-600, small, large)
	bridge := sampleArticle("00112233445566bb", "Мост открыли раньше срока", "",
		"<p>Строители закончили работу на месяц раньше.</p>", "ru", "ltr", day0-1200)
	library := sampleArticle("00112233445566cc", "کتابخانه شهر باز شد", "ورود برای همه آزاد است.",
		"<p>کتابخانه تازه شهر از امروز باز است.</p>", "fa", "rtl", day1-300)
	fixed := bridge
	fixed.Title, fixed.Body = "Мост открыли на месяц раньше срока", "<p>Строители закончили работу на месяц раньше плана.</p>"
	fixed.Corrected = time.Unix(day1, 0).UTC()
	again := library // corrected, while the other articles of its edition stay
	again.Lead, again.Corrected = "ورود برای همه رایگان است.", time.Unix(day0+3*(day1-day0), 0).UTC()
	street := sampleArticle("00112233445566ee", "Bus lines have new stops", "All of them in one list.",
		"<p>The town has published a list of all new stops.</p>", "en", "ltr", day1+160_000)
	short := notices(0, 24, day1+86_000)
	back := sampleArticle(ferry.ID, ferry.Title, ferry.Lead, "<p>The ferry runs again, as we have said.</p>", "en", "ltr", day0-600, small)
	// The first of two that are taken back never was in any edition; the ferry is back in
	// the last one, of which nothing says that it is gone.
	never, told := "00112233445566dd", short[0].ID
	gone := [][]string{nil, {never}, {never}, {never, ferry.ID}, {never, told}}
	replaces := []map[string]string{3: {street.ID: told}, 4: nil}
	for n, articles := range [][]bundle.Article{{ferry, bridge}, {library, fixed}, short, {street, again}, {back}} {
		in := bundle.Input{
			Channel: m.id, Name: "Vector Channel", Langs: []string{"en", "ru", "fa"}, Edition: uint64(n), Key: m.epoch, RootVersion: 1,
			Date: time.Unix(day0+int64(n)*(day1-day0), 0), Articles: articles, Gone: gone[n], Replaces: replaces[n],
			RootNotes: [][]byte{m.signed}, Grants: map[string][]byte{m.seed.GrantName(m.id): m.grant},
		}
		if n == 2 {
			in.Dict = m.dict
		}
		history := channel.NewLog(nil)
		for i, p := range m.packed {
			history.Append(p.Leaf.Hash())
			in.Previous, in.PreviousLeaf = m.packed[i].Front, &m.packed[i].Leaf
		}
		in.Leaves = history.Leaves()
		p, err := bundle.Pack(in)
		if err != nil {
			return err
		}
		h, err := channel.SignHead(p.Leaf, history.Edge(), 0, in.Date.Add(90*time.Second), m.log)
		if err != nil {
			return err
		}
		m.packed, m.heads = append(m.packed, p), append(m.heads, h)
		if n == 2 && p.Front.Dict == nil {
			return fmt.Errorf("edition 2 has no dictionary")
		}
		if err := m.edition(n, p, h, articles); err != nil {
			return err
		}
	}
	return nil
}

// standing is the rule of section 2.5: which articles stand after these front pages, in
// whatever order they came, and in which edition each lies.
func standing(fronts []*bundle.Front) map[string]uint64 {
	out := map[string]uint64{}
	for _, f := range fronts {
		for _, e := range f.Articles {
			out[e.ID] = max(out[e.ID], e.Edition)
		}
	}
	for _, f := range fronts {
		gone := slices.Clone(f.Gone)
		for id, old := range f.Replaces {
			if id != old {
				gone = append(gone, old)
			}
		}
		for _, id := range gone {
			if ed, ok := out[id]; ok && ed <= f.Edition {
				delete(out, id)
			}
		}
	}
	return out
}

func (m *maker) edition(n int, p *bundle.Packed, h *channel.Head, articles []bundle.Article) error {
	var file bytes.Buffer
	w, err := car.NewEdition(&file, car.Intro{RootNotes: [][]byte{m.signed}, Head: h.Text(), Root: h.Root})
	if err != nil {
		return err
	}
	for _, b := range p.Blocks {
		if err := w.Put(b.CID, b.Data); err != nil {
			return err
		}
	}
	m.cars = append(m.cars, file.Bytes())
	leaf := h.Leaf.Hash()
	name := func(format string) string { return fmt.Sprintf(format, n) }
	e := editionVector{
		CAR: m.write(name("edition-%d.car"), file.Bytes()), HeadText: m.write(name("head-%d.txt"), h.Text()),
		HeadCompact: m.write(name("head-%d.bin"), h.Compact()), FrontJSON: m.writeJSON(name("front-%d.json"), p.Front),
		Edition: h.Edition, Epoch: h.Epoch, Size: h.Size, Tree: base64.StdEncoding.EncodeToString(h.Tree[:]),
		LeafHash: base64.StdEncoding.EncodeToString(leaf[:]), LeafText: string(h.Leaf.Text()), Root: h.Root.String(),
		Date: h.Date, Time: h.Time, FrontLarge: h.Front.Large.Label(), FrontSmall: h.Front.Small.Label(),
		Blocks: len(p.Blocks), Passphrases: map[string]string{}, Files: map[string]int64{},
	}
	if p.Front.Dict != nil {
		e.Dict = "dict.zstd"
	}
	for layer, size := range p.Sizes {
		if layer == bundle.LayerRoot || layer == bundle.LayerGrants {
			continue
		}
		e.Files[layer] = size
		if layer != bundle.LayerLog {
			e.Passphrases[layer] = bundle.Passphrase(m.epoch, m.id, h.Edition, layer)
		}
	}
	var fronts []*bundle.Front
	for _, p := range m.packed { // this one is the last
		fronts = append(fronts, p.Front)
	}
	e.Standing = standing(fronts)
	known := map[string]bundle.Article{}
	for _, old := range m.v.Editions {
		for _, a := range old.Articles {
			known[a.ID] = a.Article
		}
	}
	for _, a := range articles {
		known[a.ID] = a
	}
	for i := range p.Front.Articles {
		entry := &p.Front.Articles[i]
		av := articleVector{Article: known[entry.ID], Edition: entry.Edition}
		av.Images = nil
		for _, img := range known[entry.ID].Images {
			if img.Data != nil {
				sum := sha256.Sum256(img.Data)
				av.Pictures = append(av.Pictures, hex.EncodeToString(sum[:]))
				img.Data = nil
			}
			av.Images = append(av.Images, img)
		}
		if av.Pictures == nil {
			for _, old := range m.v.Editions {
				for _, a := range old.Articles {
					if a.ID == entry.ID && a.Edition == entry.Edition {
						av.Pictures = a.Pictures
					}
				}
			}
		}
		e.Articles = append(e.Articles, av)
	}
	m.v.Editions = append(m.v.Editions, e)
	return nil
}
