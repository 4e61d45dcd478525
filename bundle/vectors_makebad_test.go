package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// refused adds an invalid vector; ext is the file's.
func (m *maker) refused(name, ext, as, check, errText string, b []byte) *invalid {
	m.bad = append(m.bad, invalid{
		File: m.write("invalid/"+name+ext, b), As: as, Check: check, Error: errText,
	})
	return &m.bad[len(m.bad)-1]
}

// signNote signs a text as c2sp.org/signed-note has it, written apart from the
// package's own code.
func signNote(text, name string, keys ...ed25519.PrivateKey) []byte {
	out := text + "\n"
	for _, k := range keys {
		h := sha256.Sum256(append([]byte(name+"\n\x01"), public(k)...))
		raw := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(h[:4]))
		raw = append(raw, ed25519.Sign(k, []byte(text))...)
		out += "— " + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	}
	return []byte(out)
}

// proofText writes a head by hand.
func (m *maker) proofText(leaf string, index, size uint64, path []channel.Hash, tree channel.Hash, key ed25519.PrivateKey) []byte {
	origin := channel.Origin(m.id, 0)
	text := fmt.Sprintf("%s\n%d\n%s\ntime 1790086490\n", origin, size, base64.StdEncoding.EncodeToString(tree[:]))
	return proofOf(leaf, index, path, signNote(text, origin, key))
}

func proofOf(leaf string, index uint64, path []channel.Hash, checkpoint []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nextra %s\nindex %d\n", base64.StdEncoding.EncodeToString([]byte(leaf)), index)
	for _, h := range path {
		fmt.Fprintf(&b, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
	}
	b.WriteByte('\n')
	b.Write(checkpoint)
	return b.Bytes()
}

// proofWith is edition 1's head with other extension lines, signed as they are.
func (m *maker) proofWith(leaf string, tree channel.Hash, extension string) []byte {
	origin := channel.Origin(m.id, 0)
	text := fmt.Sprintf("%s\n2\n%s\n%s", origin, base64.StdEncoding.EncodeToString(tree[:]), extension)
	return proofOf(leaf, 1, m.heads[1].Path, signNote(text, origin, m.log))
}

// otherGeneration is a head that is right but for its generation.
func (m *maker) otherGeneration(leaf string, h *channel.Head) []byte {
	origin := channel.Origin(m.id, 1)
	text := fmt.Sprintf("%s\n2\n%s\ntime 1790086490\n", origin, base64.StdEncoding.EncodeToString(h.Tree[:]))
	return proofOf(leaf, 1, h.Path, signNote(text, origin, m.log))
}

// numbered is a head over a leaf that says something else.
func (m *maker) numbered(h *channel.Head, set func(*channel.Leaf)) []byte {
	leaf := h.Leaf
	set(&leaf)
	signed, err := channel.SignHead(leaf, h.Path, 0, h.Time, m.log)
	if err != nil {
		m.err = err
		return nil
	}
	return signed.Text()
}

func (m *maker) invalidHeads() error {
	h := m.heads[1]
	text, compact := h.Text(), h.Compact()
	leaf := string(h.Leaf.Text())
	if !bytes.Equal(m.proofText(leaf, 1, 2, h.Path, h.Tree, m.log), text) {
		return fmt.Errorf("a head written by hand differs from the package's")
	}
	replace := func(old, with string) []byte {
		out := bytes.Replace(text, []byte(old), []byte(with), 1)
		if bytes.Equal(out, text) {
			m.err = fmt.Errorf("vector: %q is not in the head", old)
		}
		return out
	}
	canonical := "not in canonical form"
	m.refused("head-index-leading-zero", ".txt", "head", "numbers have no leading zeros", canonical, replace("\nindex 1\n", "\nindex 01\n"))
	m.refused("head-size-leading-zero", ".txt", "head", "numbers have no leading zeros", canonical, replace("\n2\n", "\n02\n"))
	m.refused("head-size-007", ".txt", "head", "numbers have no leading zeros", canonical, replace("\n2\n", "\n007\n"))
	m.refused("head-time-leading-zero", ".txt", "head", "numbers have no leading zeros", "", m.proofWith(leaf, h.Tree, "time 01790086490\n"))
	m.refused("head-time-too-late", ".txt", "head", "times are at most 2^40", "out of range", m.proofWith(leaf, h.Tree, "time 1099511627777\n"))
	m.refused("head-without-time", ".txt", "head", "a checkpoint has one extension line, its time", "", m.proofWith(leaf, h.Tree, ""))
	m.refused("head-blank-extension-line", ".txt", "head", "extension lines are not empty", "", m.proofWith(leaf, h.Tree, "time 1790086490\n\n"))
	m.refused("head-two-extension-lines", ".txt", "head", "a checkpoint has one extension line, its time", canonical, m.proofWith(leaf, h.Tree, "time 1790086490\nmore\n"))
	m.refused("head-hash-not-padded", ".txt", "head", "base64 is padded", "", replace("=\n\n", "\n\n"))
	m.refused("head-root-changed", ".txt", "head", "the leaf and its path give the tree hash", "not in the tree",
		m.proofText(strings.Replace(leaf, h.Root.String(), m.heads[0].Root.String(), 1), 1, 2, h.Path, h.Tree, m.log))
	m.refused("head-signature-last", ".txt", "head", "the log's signature is the first line", "bad signature", replace("\n— ", "\n— witness.example AAAAAAA=\n— "))
	m.refused("head-of-generation-1", ".txt", "head", "the generation is one that a root note names", "newer root note", m.otherGeneration(leaf, h))
	m.refused("head-crlf", ".txt", "head", "lines end in LF alone", canonical, replace("\nindex 1\n", "\nindex 1\r\n"))
	m.refused("head-blank-line", ".txt", "head", "nothing stands behind the signature lines", "", append(bytes.Clone(text), '\n'))
	m.refused("head-text-behind", ".txt", "head", "nothing stands behind the signature lines", "", append(bytes.Clone(text), "x\n"...))
	m.refused("head-cut", ".txt", "head", "the last line ends in LF", canonical, text[:len(text)-1])
	m.refused("head-oversized", ".txt", "head", "at most 4,096 bytes", "larger than 4096", append(bytes.Clone(text), bytes.Repeat([]byte("— x AAAAAAA=\n"), 400)...))
	m.refused("head-empty", ".txt", "head", "a head is a tlog-proof or begins with byte 1", "", nil)
	m.refused("head-signed-by-another-key", ".txt", "head", "the log key of the highest root note signed it", "bad signature", m.proofText(leaf, 1, 2, h.Path, h.Tree, m.root))
	m.refused("head-not-the-last-leaf", ".txt", "head", "edition = index = size-1", "not the last", m.proofText(leaf, 1, 3, h.Path, h.Tree, m.log))
	m.refused("head-wrong-path", ".txt", "head", "the leaf and its path give the tree hash", "not in the tree", m.proofText(leaf, 1, 2, []channel.Hash{{1}}, h.Tree, m.log))
	m.refused("head-path-too-long", ".txt", "head", "as many hashes as the edition number has one bits", "audit path", m.proofText(leaf, 1, 2, append(h.Path, channel.Hash{1}), h.Tree, m.log))
	m.refused("head-index-of-another", ".txt", "head", "edition = index", "audit path", m.proofText(leaf, 0, 2, h.Path, h.Tree, m.log))
	m.refused("head-leaf-with-more", ".txt", "head", "a leaf has exactly nine lines", canonical, m.proofText(leaf+"more 1\n", 1, 2, h.Path, h.Tree, m.log))
	m.refused("head-raw-root", ".txt", "head", "the root is a dag-pb CID", "not the CID of a directory",
		m.proofText(strings.Replace(leaf, h.Root.String(), bundle.RawCID([]byte("x")).String(), 1), 1, 2, h.Path, h.Tree, m.log))
	m.refused("head-epoch-out-of-range", ".txt", "head", "numbers of a leaf are below 2^32", "out of range",
		m.numbered(h, func(l *channel.Leaf) { l.Epoch = 1 << 32 }))
	m.refused("head-date-too-late", ".txt", "head", "times are at most 2^40", "out of range",
		m.numbered(h, func(l *channel.Leaf) { l.Date = time.Unix(1<<40+1, 0) }))
	later := h.Leaf
	later.RootVersion = 2
	signed, err := channel.SignHead(later, h.Path, 0, h.Time, m.log)
	if err != nil {
		return err
	}
	m.refused("head-needs-root-note-2", ".txt", "head", "the root notes up to the leaf's version are known", "newer root note", signed.Text())
	later.RootVersion = 0
	if signed, err = channel.SignHead(later, h.Path, 0, h.Time, m.log); err != nil {
		return err
	}
	m.refused("head-root-note-0", ".txt", "head", "root notes count from 1", "root note 0", signed.Text())
	later = h.Leaf
	later.Channel = channel.ID(secret32("another channel"))
	if signed, err = channel.SignHead(later, h.Path, 0, h.Time, m.log); err != nil {
		return err
	}
	m.refused("head-of-another-channel", ".txt", "head", "the channel is the reader's", "another channel", signed.Text())
	m.refused("compact-varint-not-minimal", ".bin", "head", "varints are minimal", canonical, append([]byte{1, 0x81, 0x00}, compact[2:]...))
	m.refused("compact-cut", ".bin", "head", "its length follows from the edition number", "cut short", compact[:len(compact)-1])
	m.refused("compact-byte-more", ".bin", "head", "its length follows from the edition number", "cut short", append(bytes.Clone(compact), 0))
	m.refused("compact-oversized", ".bin", "head", "at most 1,040 bytes", "larger than 1040", append([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 1100)...))
	m.refused("compact-of-version-2", ".bin", "head", "the first byte is 1", "", append([]byte{2}, compact[1:]...))
	flipped := bytes.Clone(compact)
	flipped[len(flipped)-1] ^= 1
	m.refused("compact-signature-flipped", ".bin", "head", "the log key signed the derived checkpoint", "bad signature", flipped)
	flipped = bytes.Clone(compact)
	flipped[40] ^= 1
	m.refused("compact-root-flipped", ".bin", "head", "the log key signed the derived checkpoint", "bad signature", flipped)
	return nil
}

// cofactored is a note of one Ed25519 signature with another in its place, which the
// equation of RFC 8032 takes with the cofactor alone: its R is off by the point of order
// 2, (0, -1).
func cofactored(note []byte, text string, key ed25519.PrivateKey) []byte {
	little := func(b []byte) *big.Int {
		b = bytes.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	scalar := func(k ed25519.PrivateKey) *big.Int {
		h := sha512.Sum512(k.Seed())
		h[0], h[31] = h[0]&248, h[31]&127|64
		return little(h[:32])
	}
	// A key pair is r and R, too. (x, y) + (0, -1) = (-x, -y).
	nonce := signer("nonce")
	r := bytes.Clone(public(nonce))
	sign := r[31] & 128
	r[31] &= 127
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	p.Sub(p, little(r)).FillBytes(r)
	slices.Reverse(r)
	r[31] |= sign ^ 128
	hash := sha512.Sum512(slices.Concat(r, public(key), []byte(text)))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).Mul(little(hash[:]), scalar(key))
	s.Add(s, scalar(nonce)).Mod(s, order)
	sig := append(r, s.FillBytes(make([]byte, 32))...)
	slices.Reverse(sig[32:])
	head, line, _ := bytes.Cut(note, []byte("\n\n— tamizdat/v1/root "))
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "%s\n\n— tamizdat/v1/root %s\n", head, base64.StdEncoding.EncodeToString(append(raw[:4], sig...)))
}

func (m *maker) invalidNotes() error {
	text := string(m.note.Text())
	const name = "tamizdat/v1/root"
	if !bytes.Equal(signNote(text, name, m.root), m.signed) {
		return fmt.Errorf("a root note written by hand differs from the package's")
	}
	sub := func(old, with string) []byte { return signNote(strings.Replace(text, old, with, 1), name, m.root) }
	ipns := base64.StdEncoding.EncodeToString(public(m.ipns))
	m.refused("root-threshold-0", ".note", "root-note", "the threshold is 1 to the number of root keys", "threshold", sub("threshold 1", "threshold 0"))
	m.refused("root-threshold-2-of-1", ".note", "root-note", "the threshold is 1 to the number of root keys", "threshold", sub("threshold 1", "threshold 2"))
	m.refused("root-one-key-in-two-roles", ".note", "root-note", "one role a key", "one key in two places", sub(ipns, base64.StdEncoding.EncodeToString(public(m.log))))
	m.refused("root-number-not-canonical", ".note", "root-note", "numbers have no leading zeros", "canonical", sub("version 1", "version 01"))
	m.refused("root-another-channel", ".note", "root-note", "the text of note 1 hashes to the channel ID", "founds another channel", sub(ipns, base64.StdEncoding.EncodeToString(public(signer("other")))))
	m.refused("root-signed-by-a-stranger", ".note", "root-note", "the note's own threshold signed it", "own threshold", signNote(text, name, signer("other")))
	m.refused("root-unsigned", ".note", "root-note", "a note has signature lines", "", []byte(text+"\n"))
	m.refused("root-oversized", ".note", "root-note", "at most 8,192 bytes", "larger than 8192", append(bytes.Clone(m.signed), bytes.Repeat([]byte("— x AAAAAAA=\n"), 800)...))
	m.refused("root-33-signatures", ".note", "root-note", "at most 32 signature lines", "bad signature lines", append(bytes.Clone(m.signed), bytes.Repeat([]byte("— x AAAAAAA=\n"), 32)...))
	m.refused("root-unknown-line", ".note", "root-note", "the lines are exactly these, in this order", "", sub("moved -\n", "moved -\nmore 1\n"))
	witness := func(name string) string {
		return "witness " + name + " ed25519 " + base64.StdEncoding.EncodeToString(public(signer("witness"))) + "\n"
	}
	m.refused("root-one-key-two-witnesses", ".note", "root-note", "one key under two names is one witness", "one key in two places", sub("quorum 0\n", "quorum 2\n"+witness("one.example")+witness("two.example")))
	m.refused("root-quorum-1-of-0", ".note", "root-note", "the quorum is at most the number of witnesses", "quorum", sub("quorum 0", "quorum 1"))
	m.refused("root-witness-with-plus", ".note", "root-note", "key names have no plus sign", "witness name", sub("quorum 0\n", "quorum 0\n"+witness("one+example")))
	m.refused("root-17-keys", ".note", "root-note", "at most 16 root keys", "", sub("root ed25519", strings.Repeat("root ed25519 "+base64.StdEncoding.EncodeToString(public(signer("other")))+"\n", 16)+"root ed25519"))
	m.refused("root-base-without-hash", ".note", "root-note", "a base has a hash", "don't go together", sub(" 0 0 -\n", " 0 7 -\n"))
	m.refused("root-control-character", ".note", "root-note", "a note has no control characters", "control characters", sub("moved -", "moved\t-"))
	m.refused("root-name-with-plus", ".note", "root-note", "key names have no plus sign", "malformed signature line", append(bytes.Clone(m.signed), "— a+b AAAAAAA=\n"...))
	m.refused("root-key-algorithm", ".note", "root-note", "keys are ed25519", "unknown key algorithm", sub("root ed25519", "root ed448"))
	m.refused("root-signature-with-cofactor", ".note", "root-note", "signatures are checked without the cofactor", "own threshold", cofactored(m.signed, text, m.root))
	next := m.note
	next.Version, next.Channel, next.Previous = 2, m.id, sha256.Sum256([]byte(text))
	next.RootKeys = []ed25519.PublicKey{public(signer("root key 2"))}
	second := string(next.Text())
	after := []string{"root-1.note"}
	m.refused("root-2-signed-by-the-new-key-alone", ".note", "root-note", "the previous threshold signed it too", "previous threshold", signNote(second, name, signer("root key 2"))).After = after
	m.refused("root-2-signed-by-the-old-key-alone", ".note", "root-note", "the note's own threshold signed it", "own threshold", signNote(second, name, m.root)).After = after
	m.refused("root-2-first", ".note", "root-note", "the chain begins with version 1", "founds another channel", signNote(second, name, m.root, signer("root key 2")))
	m.refused("root-1-again", ".note", "root-note", "the version is the next", "does not follow", m.signed).After = after
	third := next
	third.Version = 3
	m.refused("root-2-skipped", ".note", "root-note", "the version is the next", "does not follow", signNote(string(third.Text()), name, m.root, signer("root key 2"))).After = after
	two := next
	two.Threshold, two.RootKeys = 2, []ed25519.PublicKey{public(signer("root key 2")), public(signer("root key 3"))}
	m.refused("root-2-one-key-signs-twice", ".note", "root-note", "a threshold is of distinct keys", "own threshold", signNote(string(two.Text()), name, m.root, signer("root key 2"), signer("root key 2"))).After = after
	other := next
	other.Log.Key = public(signer("log key 2"))
	m.refused("root-2-log-key-without-generation", ".note", "root-note", "another log key is another generation", "without a new generation", signNote(string(other.Text()), name, m.root, signer("root key 2"))).After = after
	other.Log.Generation = 2
	m.refused("root-2-generation-skipped", ".note", "root-note", "the generation is the last one's or the next", "jumps", signNote(string(other.Text()), name, m.root, signer("root key 2"))).After = after
	other = next
	other.Channel = channel.ID(secret32("another channel"))
	m.refused("root-2-of-another-channel", ".note", "root-note", "the channel is the reader's", "another channel", signNote(string(other.Text()), name, m.root, signer("root key 2"))).After = after
	next.Previous = secret32("another text")
	m.refused("root-2-follows-another", ".note", "root-note", "previous is the hash of the previous text", "follows another note", signNote(string(next.Text()), name, m.root, signer("root key 2"))).After = after
	return nil
}

// invalidGenerations are what a new generation of the log makes wrong: L is 2 here.
func (m *maker) invalidGenerations() error {
	const name = "tamizdat/v1/root"
	text := string(m.note.Text())
	h := m.heads[1]
	sub := func(old, with string) []byte {
		return signNote(strings.Replace(text, old, with, 1), name, m.root)
	}
	base := fmt.Sprintf(" 0 2 %s\n", base64.StdEncoding.EncodeToString(h.Tree[:]))
	m.refused("root-1-of-generation-1", ".note", "root-note", "version 1 is of generation 0", "first generation", sub("log 0 ed25519", "log 1 ed25519"))
	m.refused("root-generation-0-with-base", ".note", "root-note", "generation 0 has no L and H", "continues nothing", sub(" 0 0 -\n", base))
	next := m.note
	next.Version, next.Channel, next.Previous = 2, m.id, sha256.Sum256([]byte(text))
	stolen := signer("log key 2")
	draft := func(log channel.LogKey) []byte {
		n := next
		n.Log = log
		return signNote(string(n.Text()), name, m.root)
	}
	good := channel.LogKey{Generation: 1, Key: public(stolen), Base: h.Size, BaseHash: h.Tree}
	after := []string{"root-1.note"}
	jump, same, bare := good, good, good
	jump.Generation, same.Generation, bare.BaseHash = 2, 0, [32]byte{}
	same.Base, same.BaseHash = 0, [32]byte{}
	m.refused("root-2-generation-jumps", ".note", "root-note", "the generation is the last one's or one more", "generation jumps", draft(jump)).After = after
	m.refused("root-2-log-key-of-generation-0", ".note", "root-note", "another log key is another generation", "without a new generation", draft(same)).After = after
	m.refused("root-2-base-without-hash", ".note", "root-note", "L is 0 exactly if H is -", "don't go together", draft(bare)).After = after
	far, ahead := good, good
	far.Base, ahead.Generation = 1<<32, 1<<32
	m.refused("root-2-base-out-of-range", ".note", "root-note", "L is below 2^32", "out of range", draft(far)).After = after
	m.refused("root-2-generation-out-of-range", ".note", "root-note", "G is below 2^32", "out of range", draft(ahead)).After = after
	both := []string{"root-1.note", m.write("root-2-generation.note", draft(good))}
	under := func(file, check, errText string, leaf channel.Leaf, path []channel.Hash, generation uint64, key ed25519.PrivateKey) {
		signed, err := channel.SignHead(leaf, path, generation, h.Time, key)
		if err != nil {
			m.err = err
			return
		}
		m.refused(file, ".txt", "head", check, errText, signed.Text()).After = both
		m.refused(file+"-compact", ".bin", "head", check, errText, signed.Compact()).After = both
	}
	other, third := h.Leaf, h.Leaf
	other.Content = channel.Hash{1}
	third.Edition = 2
	under("head-of-the-replaced-key", "the key of the newest generation signed it", "was replaced", h.Leaf, h.Path, 0, m.log)
	under("head-shorter-than-its-generation", "the size is L at least", "generation of the log began", m.heads[0].Leaf, nil, 1, stolen)
	under("head-at-L-with-another-tree", "at size L the tree hash is H", "generation of the log began", other, h.Path, 1, stolen)
	under("head-behind-L-with-another-past", "at size L + 1 the path gives H", "generation of the log began", third, []channel.Hash{{1}}, 1, stolen)
	under("head-of-a-generation-to-come", "the root note of its generation is known", "newer root note", third, []channel.Hash{h.Tree}, 2, stolen)
	return nil
}

func (m *maker) invalidAccess() error {
	other := channel.Seed(secret32("another batch"))
	g := channel.Grant{Channel: m.id, Serial: 7}
	file, err := channel.SealGrant(g, other, 0, m.log, 0)
	if err != nil {
		return err
	}
	m.refused("grant-of-another-batch", ".age", "grant", "the batch's identity opens it", "not for this invite", file)
	if file, err = channel.SealGrant(g, m.seed, 0, signer("other"), 0); err != nil {
		return err
	}
	m.refused("grant-signed-by-a-stranger", ".age", "grant", "the log key signed it", "bad signature", file)
	m.refused("grant-one-byte-short", ".age", "grant", "exactly 4,096 or 8,192 bytes", "4095 bytes", m.grant[:len(m.grant)-1])
	flipped := bytes.Clone(m.grant)
	flipped[3000] ^= 1
	m.refused("grant-flipped", ".age", "grant", "age authenticates it", "", flipped)
	x, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, x.Recipient())
	if err != nil {
		return err
	}
	_, _ = w.Write(make([]byte, 4096-200-32))
	_ = w.Close()
	plain := append(b.Bytes(), make([]byte, 4096)...)[:4096]
	m.refused("grant-x25519", ".age", "grant", "the header is one mlkem768x25519 stanza of 1,627 bytes", "post-quantum", plain)
	identity, err := m.seed.Identity()
	if err != nil {
		return err
	}
	otherIdentity, err := other.Identity()
	if err != nil {
		return err
	}
	if file, err = channel.SealGrant(g, other, 0, m.log, 0); err != nil {
		return err
	}
	note, err := openGrantText(file, otherIdentity)
	if err != nil {
		return err
	}
	if file, err = sealGrantText(note, identity.Recipient()); err != nil {
		return err
	}
	m.refused("grant-handed-on", ".age", "grant", "recipient is the hash of the batch's own", "another channel or batch", file)
	text, _, _ := strings.Cut(string(note), "\n\n")
	if file, err = sealGrantText(signNote(strings.Replace(text+"\n", "serial 7", "serial 07", 1), channel.Origin(m.id, 0), m.log), identity.Recipient()); err != nil {
		return err
	}
	m.refused("grant-not-canonical", ".age", "grant", "numbers have no leading zeros", "canonical", file)
	m.invalidGrants(identity)

	raw := inviteBytes(m.invite.String())
	s := m.invite.String()
	m.refused("invite-mistyped", ".txt", "invite", "the checksum matches", "mistyped", []byte(s[:60]+"QQQ"+s[63:]))
	m.refused("invite-cut", ".txt", "invite", "the checksum matches", "mistyped", []byte(s[:len(s)-8]))
	m.refused("invite-no-scheme", ".txt", "invite", "it begins with TAMIZDAT:", "not an invite", []byte(s[9:]))
	m.refused("invite-of-version-2", ".txt", "invite", "the version is 1", "newer version", inviteText(append([]byte{2}, raw[1:len(raw)-4]...)))
	m.refused("invite-place-cut", ".txt", "invite", "every place is as long as it says", "mistyped", inviteText(append(bytes.Clone(raw[:97]), 2, 9, 'n')))
	m.refused("invite-relay-port-0", ".txt", "invite", "ports are 1 to 65535", "malformed relay", inviteText(append(append(bytes.Clone(raw[:97]), 1, 45), append(make([]byte, 42), "a.b"...)...)))
	m.refused("invite-relay-without-pin-at-an-address", ".txt", "invite", "a relay with a pin of zeros has a domain name", "without a pin", inviteText(append(append(bytes.Clone(raw[:97]), 1, 51), append(append([]byte{1, 187}, make([]byte, 40)...), "192.0.2.7"...)...)))
	m.refused("invite-zone-upper-case", ".txt", "invite", "zones are lower case", "malformed zone", inviteText(append(bytes.Clone(raw[:97]), "\x02\x09N.EXAMPLE"...)))
	m.refused("invite-http-gateway", ".txt", "invite", "gateways are https, unless loopback", "malformed gateway", inviteText(append(bytes.Clone(raw[:97]), "\x04\x10http://g.example"...)))
	m.refused("invite-http-mirror", ".txt", "invite", "mirrors are https, unless loopback", "malformed mirror", inviteText(append(bytes.Clone(raw[:97]), "\x05\x10http://m.example"...)))
	m.refused("invite-authority-empty", ".txt", "invite", "an authority is an address and a port", "mistyped", inviteText(append(bytes.Clone(raw[:97]), "\x02\x0an.example@"...)))
	m.refused("invite-authority-port-0", ".txt", "invite", "an authority has a port from 1 on", "malformed zone authority", inviteText(append(bytes.Clone(raw[:97]), "\x02\x15n.example@192.0.2.7:0"...)))
	m.refused("invite-gateway-with-user", ".txt", "invite", "URLs have no user", "malformed gateway", inviteText(append(bytes.Clone(raw[:97]), "\x04\x13https://u@g.example"...)))
	m.refused("invite-gateway-oversized", ".txt", "invite", "a URL has at most 253 characters", "malformed gateway", inviteText(append(bytes.Clone(raw[:97]), "\x04\xfehttps://g.example/"+strings.Repeat("x", 236)...)))
	m.refused("invite-authority-by-name", ".txt", "invite", "an authority is an address and a port", "malformed zone authority", inviteText(append(bytes.Clone(raw[:97]), "\x02\x0fn.example@a.b:5"...)))
	return m.err
}

// invalidGrants are the batch's grant, with something changed.
func (m *maker) invalidGrants(identity *age.HybridIdentity) {
	good, err := openGrantText(m.grant, identity)
	if err != nil {
		m.err = err
	}
	text, _, _ := strings.Cut(string(good), "\n\n")
	text += "\n"
	origin := channel.Origin(m.id, 0)
	raw := func(name, check, errText string, note []byte) {
		file, err := sealGrantText(note, identity.Recipient())
		if err != nil {
			m.err = err
		}
		m.refused(name, ".age", "grant", check, errText, file)
	}
	if file, err := sealGrantText(signNote(text, origin, m.log), identity.Recipient()); err != nil {
		m.err = err
	} else if _, err := m.roots.OpenGrant(file, m.seed); err != nil {
		m.err = fmt.Errorf("a grant written by hand: %w", err)
	}
	add := func(name, check, errText, old, with string) {
		changed := strings.Replace(text, old, with, 1)
		if changed == text {
			m.err = fmt.Errorf("vector: %q is not in the grant", old)
		}
		raw(name, check, errText, signNote(changed, origin, m.log))
	}
	raw("grant-two-signatures", "exactly one signature line", "bad signature", signNote(text, origin, m.log, m.log))
	raw("grant-another-signature-line", "exactly one signature line", "bad signature", append(signNote(text, origin, m.log), "— x AAAAAAA=\n"...))
	raw("grant-bytes-behind-the-note", "zeros to the end", "control characters", append(signNote(text, origin, m.log), 0, 0, 'x'))
	zone := "zone n.example -\n"
	many := ""
	for i := range 64 {
		many += fmt.Sprintf("zone n%d.example -\n", i)
	}
	add("grant-65-zones", "at most 64 places of a kind", "", "zone m.example 192.0.2.7:53\n", many)
	epochs := ""
	for i := range 65 {
		epochs += fmt.Sprintf("epoch %d %s\n", i, base64.StdEncoding.EncodeToString(m.epoch[:]))
	}
	first, _, _ := strings.Cut(text[strings.Index(text, "epoch "):], "\n")
	add("grant-65-epochs", "at most 64 epochs", "", first+"\n", epochs)
	add("grant-epoch-twice", "epochs ascend", "not in order", first+"\n", first+"\n"+first+"\n")
	ech := base64.StdEncoding.EncodeToString([]byte("not a real ECH config list"))
	add("grant-ech-oversized", "an ECH list has at most 1,024 bytes", "malformed relay", ech, base64.StdEncoding.EncodeToString(make([]byte, 1025)))
	add("grant-authority-port-0", "an authority has a port from 1 on", "zone authority", zone, "zone n.example 192.0.2.7:0\n")
	add("grant-authority-leading-zero", "numbers have no leading zeros", "zone authority", zone, "zone n.example 192.0.2.7:053\n")
	add("grant-authority-not-shortest", "addresses are in their shortest form", "zone authority", zone, "zone n.example [2001:db8::0]:53\n")
	add("grant-gateway-with-user", "URLs have no user", "malformed gateway", "https://gateway.example", "https://me@gateway.example")
	add("grant-gateway-with-fragment", "URLs have no fragment", "malformed gateway", "https://gateway.example", "https://gateway.example/#x")
	add("grant-gateway-oversized", "a URL has at most 253 characters", "malformed gateway", "https://gateway.example", "https://gateway.example/"+strings.Repeat("x", 230))
	add("grant-mirror-with-password", "URLs have no user", "malformed mirror", "https://pages.example/n", "https://:secret@pages.example/n")
	add("grant-mirror-oversized", "a URL has at most 253 characters", "malformed mirror", "https://pages.example/n", "https://pages.example/n"+strings.Repeat("x", 231))
}

// sealGrantText pads a note, and encrypts it.
func sealGrantText(note []byte, to age.Recipient) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, err
	}
	room := 4096 - 1627 - 32
	if len(note) > room {
		room += 4096
	}
	if _, err := w.Write(append(note, make([]byte, room-len(note))...)); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// inviteBytes and inviteText are an invite's raw bytes, and back with a fresh checksum.
func inviteBytes(s string) []byte {
	b, err := upper32.DecodeString(strings.TrimPrefix(s, "TAMIZDAT:"))
	if err != nil {
		panic(err)
	}
	return b
}

func inviteText(body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte("TAMIZDAT:" + upper32.EncodeToString(append(body, sum[:4]...)))
}
