package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
)

// historyVectors is history.json: a channel whose log key is stolen, told in four ways.
// The reader of a head, of evidence and of one after another has to conclude what
// stands there. Nothing in it, or in the files that it names, is random.
type historyVectors struct {
	Channel   string            `json:"channel"`
	RootNotes []string          `json:"root_notes"`
	Heads     []historyHead     `json:"heads"`
	Evidence  []historyEvidence `json:"evidence"`
	Readers   []historyReader   `json:"readers"`
	Refused   []invalid         `json:"refused"`
}

// historyHead is one head in both forms, and what a reader concludes who has so many
// root notes: good, old, or newer root note needed.
type historyHead struct {
	Text     string `json:"text"`
	Compact  string `json:"compact"`
	Notes    int    `json:"notes"`
	Conclude string `json:"conclude"`
	statement
}

// statement is what a head says of its log.
type statement struct {
	Generation uint64 `json:"generation"`
	Size       uint64 `json:"size"`
	Tree       string `json:"tree"`
	Time       int64  `json:"time"`
}

func stated(h *channel.Head) statement {
	return statement{h.Generation, h.Size, base64.StdEncoding.EncodeToString(h.Tree[:]), h.Time.Unix()}
}

// historyEvidence is a file as `mirror proof` writes it. Ours is nil if the root notes
// stand in its place. mirror/reader reads these, and docs/verify.
type historyEvidence struct {
	File     string          `json:"file"`
	Conclude string          `json:"conclude"`
	Proven   []contradiction `json:"proven"`
}

type contradiction struct {
	Ours   *statement `json:"ours"`
	Theirs statement  `json:"theirs"`
}

// historyReader is what one reader sees, one thing after another.
type historyReader struct {
	About string        `json:"about"`
	Steps []historyStep `json:"steps"`
	// Size is that of the history known in the end; Held and Tree are size and tree hash
	// of the head held, 0 and empty if there is none.
	Size uint64 `json:"size"`
	Held uint64 `json:"held"`
	Tree string `json:"tree"`
	// Evidence is how many pieces of it are held, and Forked whether one of them is of
	// the generation in force.
	Evidence int  `json:"evidence"`
	Forked   bool `json:"forked"`
	// Withdrawn is the first edition that counts for nothing any more.
	Withdrawn *uint64 `json:"withdrawn"`
}

// historyStep is a root note or a head; of the latter Verdict is what section 8 says, or
// old. A provisional one is folded with Leaves, to the verdict Folds; if that is begun
// anew, Log are the leaf hashes of all its log, by which it is taken.
type historyStep struct {
	Note    string   `json:"note,omitempty"`
	Head    string   `json:"head,omitempty"`
	Verdict string   `json:"verdict,omitempty"`
	Leaves  []string `json:"leaves,omitempty"`
	Folds   string   `json:"folds,omitempty"`
	Log     []string `json:"log,omitempty"`
}

// evidenceFile is what `mirror proof` writes, spelt apart from it.
type evidenceFile struct {
	V         int            `json:"v"`
	Channel   string         `json:"channel"`
	RootNotes []string       `json:"root_notes"`
	Forks     []evidencePair `json:"forks"`
}

type evidencePair struct {
	Ours   string   `json:"ours,omitempty"`
	Theirs string   `json:"theirs,omitempty"`
	Root   []byte   `json:"root,omitempty"`
	Proof  [][]byte `json:"proof,omitempty"`
}

// branch is one way in which the channel's history is told: its leaves, and the heads
// over each of them.
type branch struct {
	leaves []channel.Hash
	heads  []*channel.Head
}

// past is what the tree was when it had so many leaves, and the proof of that.
func (b *branch) past(size uint64) (root []byte, proof [][]byte) {
	tree := channel.TreeHash(slices.Values(b.leaves[:size]))
	hashes, err := channel.NewLog(b.leaves).Consistency(size)
	if err != nil {
		panic(err)
	}
	for _, h := range hashes {
		proof = append(proof, h[:])
	}
	return tree[:], proof
}

// historian makes the vectors.
type historian struct {
	t          *testing.T
	v          historyVectors
	files      map[string][]byte
	id         channel.ID
	notes      [][]byte
	log, log2  ed25519.PrivateKey
	last       channel.RootNote
	a, b, c, d branch
}

const historyTime = 1_790_000_000

func (m *historian) put(name string, b []byte) string { m.files[name] = b; return name }

// note signs the next root note.
func (m *historian) note(set func(*channel.RootNote)) {
	m.t.Helper()
	n := m.last
	n.Version++
	if n.Version > 1 {
		n.Channel, n.Previous = m.id, m.last.Hash()
	}
	set(&n)
	signed, err := n.Sign(signer("root key"))
	if err != nil {
		m.t.Fatal(err)
	}
	if n.Version == 1 {
		m.id = channel.IDOf(n.Text())
		m.v.Channel = m.id.String()
	}
	m.last, m.notes = n, append(m.notes, signed)
	m.v.RootNotes = append(m.v.RootNotes, m.put(fmt.Sprintf("history-root-%d.note", n.Version), signed))
}

// head signs edition n of a branch, made by who writes so.
func (m *historian) head(n uint64, writer byte, edge []channel.Hash, generation uint64, at int64) *channel.Head {
	m.t.Helper()
	mh, err := multihash.Sum([]byte{byte(n), writer}, multihash.SHA2_256, -1)
	if err != nil {
		m.t.Fatal(err)
	}
	key := m.log
	if generation > 0 {
		key = m.log2
	}
	leaf := channel.Leaf{
		Channel: m.id, Edition: n, RootVersion: generation + 1, Root: cid.NewCidV1(cid.DagProtobuf, mh), Front: record.Names{Large: record.Name{1}, Small: record.Name{2}},
		Content: channel.Hash{writer}, Date: time.Unix(historyTime+int64(n), 0).UTC(),
	}
	h, err := channel.SignHead(leaf, edge, generation, time.Unix(historyTime+at, 0), key)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

// grow makes a branch longer, by so many editions of one writer.
func (m *historian) grow(b branch, writer byte, more int, generation uint64) branch {
	m.t.Helper()
	out := branch{slices.Clone(b.leaves), slices.Clone(b.heads)}
	for range more {
		n := uint64(len(out.leaves))
		h := m.head(n, writer, channel.NewLog(out.leaves).Edge(), generation, 100+int64(n))
		out.leaves, out.heads = append(out.leaves, h.Leaf.Hash()), append(out.heads, h)
	}
	return out
}

// first is a branch's beginning.
func (b *branch) first(n int) branch { return branch{b.leaves[:n], b.heads[:n]} }

// histories are the four ways: a is the true one under the first key, and has five
// editions; b is what the thief makes of its first three; c how it goes on from these
// under the next key; d is another one from the second edition on.
func (m *historian) histories() {
	m.log, m.log2 = signer("log key"), signer("log key 2")
	m.note(func(n *channel.RootNote) {
		n.Threshold, n.RootKeys = 1, []ed25519.PublicKey{public(signer("root key"))}
		n.Log, n.IPNS = channel.LogKey{Key: public(m.log)}, public(signer("history ipns key"))
	})
	m.a = m.grow(branch{}, 'a', 5, 0)
	m.b = m.grow(m.a.first(3), 'b', 3, 0)
	m.d = m.grow(m.a.first(1), 'd', 3, 0)
	m.note(func(n *channel.RootNote) {
		n.Log = channel.LogKey{Generation: 1, Key: public(m.log2), Base: 3, BaseHash: m.a.heads[2].Tree}
	})
	m.c = m.grow(m.a.first(3), 'c', 2, 1)
	m.note(func(n *channel.RootNote) { n.Log.NotAfter = time.Unix(historyTime+200, 0).UTC() })
}

// file is a head in text form, by a name such as a4: the head over edition 4 of branch a.
func (m *historian) file(name string, h *channel.Head) string {
	return m.put("history-head-"+name+".txt", h.Text())
}

func (m *historian) heads() {
	add := func(name string, notes int, conclude string, h *channel.Head) {
		m.v.Heads = append(m.v.Heads, historyHead{m.file(name, h), m.put("history-head-"+name+".bin", h.Compact()), notes, conclude, stated(h)})
	}
	add("a4", 1, "good", m.a.heads[4])
	add("a4", 2, "old", m.a.heads[4])
	add("a2", 2, "old", m.a.heads[2])
	// A new log begins with the last good tree, signed by the next key, or behind it.
	add("c2", 2, "good", m.again(2))
	add("c3", 2, "good", m.c.heads[3])
	add("c3", 1, "newer root note needed", m.c.heads[3])
	add("c4", 2, "good", m.c.heads[4])
	add("c4", 3, "good", m.c.heads[4])
}

// again is edition n of the true history up to the theft, signed by the next key.
func (m *historian) again(n uint64) *channel.Head {
	h, err := channel.SignHead(m.a.heads[n].Leaf, m.a.heads[n].Path, 1, time.Unix(historyTime+150, 0), m.log2)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

// indented is JSON as people read it.
func indented(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (m *historian) evidence(notes int, pairs ...evidencePair) evidenceFile {
	f := evidenceFile{V: 1, Channel: m.v.Channel, Forks: pairs}
	for _, n := range m.notes[:notes] {
		f.RootNotes = append(f.RootNotes, string(n))
	}
	return f
}

// pair is the evidence of two heads, of which the larger one's branch is long.
func pair(ours, theirs *channel.Head, long *branch) evidencePair {
	p := evidencePair{Ours: string(ours.Text()), Theirs: string(theirs.Text())}
	if ours.Size != theirs.Size {
		whole := branch{leaves: long.leaves[:max(ours.Size, theirs.Size)]}
		p.Root, p.Proof = whole.past(min(ours.Size, theirs.Size))
	}
	return p
}

func (m *historian) proofs() {
	add := func(name, conclude string, f evidenceFile, proven ...contradiction) {
		m.v.Evidence = append(m.v.Evidence, historyEvidence{m.put("history-evidence-"+name+".json", indented(m.t, f)), conclude, proven})
	}
	both := func(ours, theirs *channel.Head) contradiction {
		s := stated(ours)
		return contradiction{&s, stated(theirs)}
	}
	a4, b3, b4, b5, c3, d1 := m.a.heads[4], m.b.heads[3], m.b.heads[4], m.b.heads[5], m.c.heads[3], m.d.heads[1]
	add("fork", "two trees of one size", m.evidence(1, pair(a4, b4, nil)), both(a4, b4))
	add("rollback", "a smaller tree that the larger one never was", m.evidence(1, pair(a4, b3, &m.a)), both(a4, b3))
	add("non-extension", "a larger tree that does not continue the smaller one", m.evidence(1, pair(a4, b5, &m.b)), both(a4, b5))
	add("three", "three forks in one file", m.evidence(1, pair(a4, b4, nil), pair(a4, b3, &m.a), pair(a4, b5, &m.b)), both(a4, b4), both(a4, b3), both(a4, b5))
	add("left-out", "a head that the root notes leave out", m.evidence(2, evidencePair{Theirs: string(a4.Text())}), contradiction{nil, stated(a4)})
	add("ended", "a fork of a generation that has ended, both left out", m.evidence(2, pair(a4, b4, nil)), both(a4, b4))
	add("two-generations", "a head that the next generation has not left out, and does not continue", m.evidence(2, pair(c3, d1, &m.c)), both(c3, d1))
}

// nonCanonical is base64 of 32 bytes, in quotes, with an unused bit set.
func nonCanonical(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return s[:43] + string(alphabet[strings.IndexByte(alphabet, s[43])|1]) + s[44:]
}

// withoutProof are files that prove nothing.
func (m *historian) withoutProof() {
	raw := func(name, check, errText string, b []byte) {
		m.v.Refused = append(m.v.Refused, invalid{File: m.put("history-bad-evidence-"+name+".json", b), As: "evidence", Check: check, Error: errText})
	}
	add := func(name, check, errText string, f evidenceFile) { raw(name, check, errText, indented(m.t, f)) }
	a3, a4, b4, b5, c3 := m.a.heads[3], m.a.heads[4], m.b.heads[4], m.b.heads[5], m.c.heads[3]
	good := pair(a4, b5, &m.b)
	with := func(set func(*evidencePair)) evidenceFile {
		p := good
		p.Proof = slices.Clone(good.Proof)
		set(&p)
		return m.evidence(1, p)
	}
	one := "may be of one history"
	add("one-head-twice", "the heads state different trees", one, m.evidence(1, pair(a4, a4, nil)))
	later := m.head(4, 'a', a4.Path, 0, 900)
	add("a-heartbeat", "the heads state different trees, and not only times", one, m.evidence(1, pair(a4, later, nil)))
	add("the-true-past", "R is not the tree hash of the smaller one", one, m.evidence(1, pair(a4, a3, &m.a)))
	add("without-proof", "of different sizes there is R, and a proof", one, with(func(p *evidencePair) { p.Root, p.Proof = nil, nil }))
	add("another-past", "the proof leads from R to the larger tree", one, with(func(p *evidencePair) { p.Root = bytes.Repeat([]byte{7}, 32) }))
	add("past-of-half-a-hash", "R has 32 bytes", one, with(func(p *evidencePair) { p.Root = p.Root[:16] }))
	spelt := func(name, check, old, with string) {
		js := string(indented(m.t, m.evidence(1, good)))
		changed := strings.Replace(js, old, with, 1)
		if changed == js {
			m.t.Fatalf("%q is not in the evidence", old)
		}
		raw(name, check, "not a file", []byte(changed))
	}
	quoted := func(b []byte) string { return `"` + base64.StdEncoding.EncodeToString(b) + `"` }
	was, last := quoted(good.Root), quoted(good.Proof[0])
	spelt("root-with-a-line-end", "base64 has its one spelling", was, was[:8]+`\n`+was[8:])
	spelt("root-of-numbers", "R is base64", was, strings.ReplaceAll(fmt.Sprintf("%d", good.Root), " ", ","))
	spelt("proof-with-a-line-end", "base64 has its one spelling", last, last[:45]+`\r\n"`)
	spelt("proof-unused-bits-set", "unused bits are zero", last, nonCanonical(last))
	add("proof-cut", "the proof leads from R to the larger tree", one, with(func(p *evidencePair) { p.Proof = p.Proof[1:] }))
	add("proof-longer", "the proof has nothing more", one, with(func(p *evidencePair) { p.Proof = append(p.Proof, p.Root) }))
	add("proof-of-half-hashes", "hashes have 32 bytes", one, with(func(p *evidencePair) { p.Proof[0] = p.Proof[0][:16] }))
	truth := m.evidence(1, pair(a4, a3, &m.a))
	truth.Forks[0].Root = bytes.Repeat([]byte{7}, 32)
	add("the-true-past-denied", "the proof leads from R to the larger tree", one, truth)
	add("second-of-two", "a file that proves a part of what it says proves nothing", "number 2", m.evidence(1, good, pair(a4, a4, nil)))
	text := string(b5.Text())
	add("signature-flipped", "the log key signed both", "bad signature", with(func(p *evidencePair) { p.Theirs = flipSignature(text) }))
	stranger, err := channel.SignHead(b5.Leaf, b5.Path, 0, b5.Time, signer("other"))
	if err != nil {
		m.t.Fatal(err)
	}
	add("signed-by-a-stranger", "the log key signed both", "bad signature", with(func(p *evidencePair) { p.Theirs = string(stranger.Text()) }))
	add("theirs-missing", "there is theirs", "head refused", with(func(p *evidencePair) { p.Theirs = "" }))
	elsewhere := b5.Leaf
	elsewhere.Channel = channel.ID(secret32("another channel"))
	foreign, err := channel.SignHead(elsewhere, b5.Path, 0, b5.Time, m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	add("head-of-another-channel", "both heads are the channel's", "another channel", with(func(p *evidencePair) { p.Theirs = string(foreign.Text()) }))
	other := m.evidence(1, good)
	other.Channel = elsewhere.Channel.String()
	add("of-another-channel", "the root notes lead from the channel's ID", "founds another channel", other)
	bare := m.evidence(1, good)
	bare.RootNotes = []string{}
	add("without-root-notes", "the root notes lead from the channel's ID", "root notes", bare)
	skipped := m.evidence(2, pair(c3, m.d.heads[1], &m.c))
	skipped.RootNotes = skipped.RootNotes[:1]
	add("root-note-missing", "the root notes of both heads are there", "newer root note", skipped)
	twice := m.evidence(1, good)
	twice.RootNotes = append(twice.RootNotes, twice.RootNotes[0])
	add("root-note-twice", "root notes are in version order", "does not follow", twice)
	add("alone-and-good", "a head that stands alone is one that a generation has left out", "no root note has left out", m.evidence(1, evidencePair{Theirs: string(a4.Text())}))
	add("alone-in-the-good-tree", "a head that stands alone is one that a generation has left out", "no root note has left out", m.evidence(2, evidencePair{Theirs: string(m.a.heads[2].Text())}))
	add("left-out-and-a-later-one", "of two generations, neither is left out", one, m.evidence(2, pair(c3, b4, &m.b)))
	add("the-past-across-generations", "R is not the tree hash of the smaller one", one, m.evidence(2, pair(c3, m.a.heads[1], &m.c)))
	late := m.head(5, 'c', channel.NewLog(m.c.leaves).Edge(), 1, 300)
	add("after-its-time", "both heads are good but for each other", "after the log key's time", m.evidence(3, evidencePair{Ours: string(c3.Text()), Theirs: string(late.Text())}))
	text = string(indented(m.t, m.evidence(1, good)))
	sub := func(old, with string) []byte {
		out := strings.Replace(text, old, with, 1)
		if out == text {
			m.t.Fatalf("%q is not in the evidence", old)
		}
		return []byte(out)
	}
	none := "not a file that mirror proof wrote"
	raw("version-2", "v is 1", none, sub(`"v": 1`, `"v": 2`))
	raw("key-twice", "no key twice", none, sub(`"v": 1`, `"v": 1, "channel": "`+m.v.Channel+`"`))
	raw("theirs-twice", "no key twice", none, sub(`"theirs"`, `"theirs": "", "theirs"`))
	raw("of-nothing", "there is a fork", none, indented(m.t, m.evidence(1)))
	raw("two-objects", "the content is one JSON object", none, append([]byte(text), "{}"...))
	raw("not-json", "the content is one JSON object", none, []byte("hello\n"))
	raw("channel-upper-case", "an ID is lower case", none, sub(m.v.Channel, strings.ToUpper(m.v.Channel)))
}

// flipSignature changes one letter of a head's signature.
func flipSignature(head string) string {
	i := len(head) - 20
	with := byte('A')
	if head[i] == with {
		with = 'B'
	}
	return head[:i] + string(with) + head[i+1:]
}

// badHeads are what a log key's time and a new generation refuse.
func (m *historian) badHeads() {
	add := func(name, check, errText string, notes int, h *channel.Head) {
		for ext, b := range map[string][]byte{".bin": h.Compact(), ".txt": h.Text()} {
			m.v.Refused = append(m.v.Refused, invalid{
				File: m.put("history-bad-"+name+ext, b), As: "head", After: m.v.RootNotes[:notes], Check: check, Error: errText,
			})
		}
	}
	edge := channel.NewLog(m.c.leaves).Edge()
	add("head-after-its-time", "the head's time is not after NOTAFTER", "after the log key's time", 3, m.head(5, 'c', edge, 1, 201))
	old, err := channel.SignHead(m.c.heads[3].Leaf, m.c.heads[3].Path, 1, m.c.heads[3].Time, m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	add("head-by-the-replaced-key", "the key of its generation signed it", "bad signature", 2, old)
	add("head-of-the-thief", "at size L + 1 the path gives H", "generation of the log began", 2, m.head(3, 'd', m.d.heads[3].Path, 1, 150))
	short := m.again(1)
	add("head-shorter-than-L", "the size is L at least", "generation of the log began", 2, short)
	wrong := m.head(2, 'd', m.d.heads[2].Path, 1, 150)
	add("head-at-L-not-H", "at size L the tree hash is H", "generation of the log began", 2, wrong)
	slices.SortStableFunc(m.v.Refused, func(a, b invalid) int { return strings.Compare(a.File, b.File) })
}
