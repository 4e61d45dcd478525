package channel

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"tamizdat/bundle/record"
)

// publisher makes signed things of one channel, from fixed keys.
type publisher struct {
	root, log, ipns ed25519.PrivateKey
	note            RootNote
	signed          []byte
	id              ID
	history         *Log
}

func key(seed string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(sum[:])
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func newPublisher(t *testing.T, name string) *publisher {
	t.Helper()
	p := &publisher{root: key(name + "root"), log: key(name + "log"), ipns: key(name + "ipns"), history: NewLog(nil)}
	p.note = RootNote{
		Version: 1, Threshold: 1, RootKeys: []ed25519.PublicKey{pub(p.root)},
		Log: LogKey{Key: pub(p.log)}, IPNS: pub(p.ipns),
	}
	var err error
	if p.signed, err = p.note.Sign(p.root); err != nil {
		t.Fatal(err)
	}
	p.id = IDOf(p.note.Text())
	return p
}

func (p *publisher) roots(t *testing.T) *Roots {
	t.Helper()
	r, err := ParseRoots(p.id, [][]byte{p.signed})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func directory(s string) cid.Cid {
	mh, _ := multihash.Sum([]byte(s), multihash.SHA2_256, -1)
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

func (p *publisher) leaf(salt string) Leaf {
	n := uint64(len(p.history.Leaves()))
	return Leaf{
		Channel: p.id, Edition: n, RootVersion: 1, Root: directory(salt),
		Front:   record.Names{Large: record.Name{1, 2}, Small: record.Name{3}},
		Content: sha256.Sum256([]byte(salt)), Date: time.Unix(1700000000+int64(n), 0).UTC(),
	}
}

// publish appends an edition and returns its head.
func (p *publisher) publish(t *testing.T, salt string) *Head {
	t.Helper()
	leaf := p.leaf(salt)
	h, err := SignHead(leaf, p.history.Edge(), 0, leaf.Date.Add(time.Minute), p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.history.Append(leaf.Hash())
	return h
}

func TestHeadForms(t *testing.T) {
	p := newPublisher(t, "a")
	roots := p.roots(t)
	for n := range 70 {
		h := p.publish(t, strings.Repeat("x", n))
		text, compact := h.Text(), h.Compact()
		if len(text) > MaxHead || len(compact) > 1040 {
			t.Fatalf("edition %d: head of %d and %d bytes", n, len(text), len(compact))
		}
		for _, raw := range [][]byte{text, compact} {
			got, err := roots.Head(raw)
			if err != nil {
				t.Fatalf("edition %d: %v", n, err)
			}
			if diff := cmp.Diff(string(text), string(got.Text())); diff != "" {
				t.Fatalf("edition %d changed on the way:\n%s", n, diff)
			}
		}
	}
}

func TestHeadRefusesEveryFlippedBit(t *testing.T) {
	p := newPublisher(t, "a")
	roots := p.roots(t)
	p.publish(t, "0")
	p.publish(t, "1")
	h := p.publish(t, "2")
	for _, raw := range [][]byte{h.Text(), h.Compact()} {
		for i := range raw {
			for bit := range 8 {
				bad := append([]byte(nil), raw...)
				bad[i] ^= 1 << bit
				if got, err := roots.Head(bad); err == nil {
					t.Fatalf("byte %d bit %d of %d flipped: head of edition %d accepted", i, bit, len(raw), got.Edition)
				}
			}
			if _, err := roots.Head(raw[:i]); err == nil {
				t.Fatalf("head cut to %d bytes accepted", i)
			}
		}
	}
}

func TestHeadOfOthersRefused(t *testing.T) {
	a, b := newPublisher(t, "a"), newPublisher(t, "b")
	if _, err := a.roots(t).Head(b.publish(t, "x").Text()); !errors.Is(err, ErrHead) {
		t.Errorf("foreign head: %v", err)
	}
	leaf := a.leaf("x")
	leaf.RootVersion = 2
	h, err := SignHead(leaf, nil, 0, leaf.Date, a.log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.roots(t).Head(h.Text()); !errors.Is(err, ErrNewerRoots) {
		t.Errorf("head under a later root note: %v", err)
	}
}

func TestRootsChain(t *testing.T) {
	p := newPublisher(t, "a")
	next := p.note
	next.Version, next.Channel, next.Previous = 2, p.id, sha256.Sum256(p.note.Text())
	newRoot := key("new root")
	next.RootKeys = []ed25519.PublicKey{pub(newRoot)}
	both, err := next.Sign(newRoot, p.root)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := next.Sign(newRoot)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.roots(t).Extend(both); err != nil {
		t.Errorf("signed by both thresholds: %v", err)
	}
	if _, err := p.roots(t).Extend(alone); !errors.Is(err, ErrRootNote) {
		t.Errorf("signed by the new key alone: %v", err)
	}
	if _, err := ParseRoots(p.id, [][]byte{both}); err == nil {
		t.Error("version 2 accepted as the first")
	}
	shared := p.note
	shared.IPNS = shared.Log.Key
	if _, err := shared.Sign(p.root); err == nil {
		t.Error("one key in two roles accepted")
	}
}

func view(t *testing.T, p *publisher) *View {
	t.Helper()
	v := NewView(&Invite{Channel: p.id, Seed: Seed{1}, IPNS: pub(p.ipns)})
	if err := v.ExtendRoots(p.signed); err != nil {
		t.Fatal(err)
	}
	return v
}

// reopen stores a view and reads it back.
func reopen(t *testing.T, v *View) *View {
	t.Helper()
	b, err := v.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v, err = ParseView(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestViewFollowsAndNeverGoesBack(t *testing.T) {
	p := newPublisher(t, "a")
	var heads []*Head
	for i := range 40 {
		heads = append(heads, p.publish(t, string(rune('a'+i))))
	}
	v := view(t, p)
	if got := v.Consider(heads[4]); got != Newer {
		t.Fatalf("first head: %v", got)
	}
	v = reopen(t, v)
	for i, want := range map[int]Verdict{4: Same, 3: Stale, 0: Stale} {
		if got := v.Consider(heads[i]); got != want {
			t.Errorf("head %d: %v instead of %v", i, got, want)
		}
	}
	if got := v.Consider(heads[5]); got != Newer {
		t.Errorf("next head: %v", got)
	}
	if got := v.Consider(heads[30]); got != Provisional {
		t.Errorf("head far ahead: %v", got)
	}
	if v.Head().Edition != 5 {
		t.Errorf("a provisional head was taken: edition %d", v.Head().Edition)
	}
	if err := v.Fold(heads[30], p.history.Leaves()[6:30]); err != nil {
		t.Errorf("fold: %v", err)
	}
	v = reopen(t, v)
	if got := v.Consider(heads[20]); got != Stale {
		t.Errorf("old head after folding: %v", got)
	}
	if v.Head().Edition != 30 || len(v.Evidence()) != 0 {
		t.Errorf("edition %d with %d pieces of evidence", v.Head().Edition, len(v.Evidence()))
	}
	again, err := SignHead(heads[30].Leaf, heads[30].Path, 0, heads[30].Time.Add(time.Hour), p.log)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Consider(again); got != Heartbeat {
		t.Errorf("signed again later: %v", got)
	}
}

func TestViewKeepsProofOfForks(t *testing.T) {
	ours, theirs := newPublisher(t, "a"), newPublisher(t, "a")
	v := view(t, ours)
	v.Consider(ours.publish(t, "same"))
	theirs.publish(t, "same")
	v.Consider(ours.publish(t, "ours"))
	other := theirs.publish(t, "theirs")
	if got := v.Consider(other); got != Fork {
		t.Fatalf("same size, other tree: %v", got)
	}
	if got := v.Consider(theirs.publish(t, "further")); got != Fork {
		t.Errorf("larger, on the other branch: %v", got)
	}
	ours.publish(t, "o2")
	theirs.publish(t, "t2")
	far := theirs.publish(t, "t3")
	if got := v.Consider(far); got != Provisional {
		t.Fatalf("far ahead on the other branch: %v", got)
	}
	if err := v.Fold(far, theirs.history.Leaves()[2:4]); !errors.Is(err, ErrFork) {
		t.Errorf("fold of the other branch: %v", err)
	}
	v = reopen(t, v)
	if len(v.Evidence()) != 3 || v.Head().Edition != 1 {
		t.Errorf("%d pieces of evidence, edition %d", len(v.Evidence()), v.Head().Edition)
	}
	v.Consider(ours.publish(t, "o3"))
	if got := v.Consider(other); got != Fork {
		t.Errorf("smaller tree of the other branch: %v", got)
	}
}

func testPlaces() Places {
	return Places{
		Relays: []Relay{
			{Host: "192.0.2.7", Port: 443, Pin: Pin{1}, Prefix: Prefix{2}},
			{Host: "relay.example", Port: 8443, Pin: Pin{3}, Prefix: Prefix{4}},
			{Host: "2001:db8::1", Port: 61443, Pin: Pin{5}, Prefix: Prefix{6}},
		},
		Zones:    []Zone{{Name: "n.example"}, {Name: "m.example", Authority: "192.0.2.7:53"}},
		Peers:    []string{"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"},
		Gateways: []string{"https://gateway.example"},
		Mirrors:  []string{"https://pages.example/n"},
	}
}

func TestInvite(t *testing.T) {
	inv := &Invite{Channel: ID{9}, Seed: Seed{8}, IPNS: pub(key("ipns")), Places: testPlaces()}
	inv.Places.Relays = inv.Places.Relays[:2]
	if err := inv.Validate(); err != nil {
		t.Fatal(err)
	}
	s := inv.String()
	if len(s) >= 600 {
		t.Errorf("%d characters", len(s))
	}
	for name, as := range map[string]string{
		"as is": s, "lower": strings.ToLower(s), "wrapped": s[:40] + "\r\n  " + s[40:90] + "\n> " + s[90:],
		"quoted": "“" + s + "”",
	} {
		got, err := ParseInvite(as)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(inv, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	swap := []byte(s)
	at := 100
	for swap[at] == swap[at+1] {
		at++
	}
	swap[at], swap[at+1] = swap[at+1], swap[at]
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"mistyped": {string(swap), ErrInviteTyped},
		"cut off":  {s[:len(s)-9], ErrInviteTyped},
		"other":    {"hello", ErrNotInvite},
		"empty":    {"", ErrNotInvite},
	} {
		if _, err := ParseInvite(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGrant(t *testing.T) {
	p := newPublisher(t, "a")
	seed, other := Seed{1}, Seed{2}
	g := Grant{Channel: p.id, Serial: 3, Epochs: []Epoch{{0, EpochKey{7}}, {1, EpochKey{8}}}, Places: testPlaces()}
	file, err := SealGrant(g, seed, 0, p.log, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(file) != GrantSmall {
		t.Errorf("%d bytes", len(file))
	}
	v := view(t, p)
	if err := v.SetGrant(file); err != nil {
		t.Fatal(err)
	}
	if k, ok := reopen(t, v).EpochKey(1); !ok || k != (EpochKey{8}) {
		t.Error("epoch key lost")
	}
	if diff := cmp.Diff(g.Places, reopen(t, v).Places()); diff != "" {
		t.Error(diff)
	}
	if _, err := p.roots(t).OpenGrant(file, other); !errors.Is(err, ErrGrant) {
		t.Errorf("opened by another batch: %v", err)
	}
	stranger := newPublisher(t, "b")
	forged, err := SealGrant(g, seed, 0, stranger.log, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.roots(t).OpenGrant(forged, seed); !errors.Is(err, ErrGrant) {
		t.Errorf("signed by a stranger: %v", err)
	}
	older := Grant{Channel: p.id, Serial: 2, Epochs: []Epoch{{1, EpochKey{66}}}}
	file, err = SealGrant(older, seed, 0, p.log, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.SetGrant(file); err != nil {
		t.Fatal(err)
	}
	if k, _ := v.EpochKey(1); k != (EpochKey{8}) {
		t.Error("an older grant replaced a newer one")
	}
	many := g
	for port := range 20 {
		many.Places.Relays = append(many.Places.Relays, Relay{Host: "relay.example", Port: uint16(1 + port)})
	}
	file, err = SealGrant(many, seed, 0, p.log, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(file) != GrantLarge {
		t.Errorf("many relays: %d bytes", len(file))
	}
	if _, err := p.roots(t).OpenGrant(file, seed); err != nil {
		t.Error(err)
	}
}

func TestPrefix(t *testing.T) {
	ch := ID{1}
	mint := NewMintKey([]byte("a relay's secret of thirty-two b"), ch)
	tag := Seed{1}.TagFor(Pin{2})
	if tag == (Seed{1}).TagFor(Pin{3}) || tag == (Seed{2}).TagFor(Pin{2}) {
		t.Error("one tag for two relays or two batches")
	}
	p := mint.Mint(tag)
	if got, ok := ParsePrefix(p.Path()); !ok || got != p || !mint.Lock().Check(got) {
		t.Error("a minted prefix does not pass")
	}
	for i := range p {
		bad := p
		bad[i] ^= 1
		if mint.Lock().Check(bad) {
			t.Errorf("byte %d changed: still passes", i)
		}
	}
	other := NewMintKey([]byte("a relay's secret of thirty-two b"), ID{2})
	if other.Lock().Check(p) {
		t.Error("prefix of another channel passes")
	}
	if q := mint.Mint(Seed{2}.TagFor(Pin{2})); q.Hint() != p.Hint() || p.Hint() != mint.Hint() || other.Hint() == mint.Hint() {
		t.Error("a hint is not its key's")
	}
}

func TestTreeHash(t *testing.T) {
	// Roots of RFC 6962 trees over the leaf hashes of "", 0x00, 0x10, worked by hand.
	if got := TreeHash(slices.Values([]Hash(nil))); got != sha256.Sum256(nil) {
		t.Errorf("empty tree: %x", got)
	}
	node := func(l, r Hash) Hash { return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...)) }
	a, b, c := Hash(sha256.Sum256([]byte{0})), Hash(sha256.Sum256([]byte{0, 0})), Hash(sha256.Sum256([]byte{0, 0x10}))
	for n, want := range map[int]Hash{1: a, 2: node(a, b), 3: node(node(a, b), c)} {
		if got := TreeHash(slices.Values([]Hash{a, b, c}[:n])); got != want {
			t.Errorf("%d leaves: %x", n, got)
		}
	}
}
