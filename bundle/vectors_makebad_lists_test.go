package bundle_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tamizdat/bundle/channel"
)

// lists makes the list of revoked batches for the relay of the grant's places, and
// more invites: with a relay's outer name, and as messengers spoil them.
func (m *maker) lists() error {
	pin, err := channel.ParsePin(m.v.Derived.Pin)
	if err != nil {
		return err
	}
	d := channel.Denied{Channel: m.id, Pin: pin, Epoch: 2}
	for _, batch := range []string{"batch seed 2", "batch seed 3", "batch seed 4"} {
		d.Tags = append(d.Tags, channel.Seed(secret32(batch)).TagFor(pin))
	}
	slices.SortFunc(d.Tags, func(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) })
	signed, err := d.Sign(0, m.log)
	if err != nil {
		return err
	}
	m.v.Denied = deniedVector{File: m.write("denied.note", signed), Pin: pin.String(), Epoch: d.Epoch}
	for _, t := range d.Tags {
		m.v.Denied.Tags = append(m.v.Denied.Tags, base64.StdEncoding.EncodeToString(t[:]))
	}

	hidden := *m.invite
	key := secret32("ECH public key")
	hidden.Places = channel.Places{Relays: slices.Clone(m.invite.Places.Relays), Zones: m.invite.Places.Zones[:1]}
	hidden.Places.Relays[1].ECH = channel.ECHList(channel.ECHConfig(key, "www.example.org"))
	if err := hidden.Validate(); err != nil {
		return err
	}
	m.addInvite("invite-ech", hidden.String(), hidden.Places)
	// A kind of place of a later version is skipped.
	raw := inviteBytes(m.invite.String())
	later := append(append(bytes.Clone(raw[:97]), 200, 3, 'n', 'e', 'w'), raw[97:len(raw)-4]...)
	m.addInvite("invite-with-a-new-kind", string(inviteText(later)), m.invite.Places)
	m.addInvite("invite-without-places", string(inviteText(bytes.Clone(raw[:97]))), channel.Places{})
	s := m.invite.String()
	m.addInvite("invite-lower", strings.ToLower(s), m.invite.Places)
	m.addInvite("invite-mail", "> > "+s[:60]+"\r\n> > "+s[60:120]+"\r\n> > "+s[120:]+"\r\n", m.invite.Places)
	m.addInvite("invite-chat", "\u2068“*`"+s[:5]+"\u200b"+s[5:200]+"\u00a0\n"+s[200:300]+"\u00ad\u2028"+s[300:]+"`*”\u2069", m.invite.Places)
	m.addInvite("invite-letter", "Hello! The way into Tamizdat: read it at home.\n\n"+s+"\n\nKeep it to yourself. See you on Monday\n-- \nSent from my phone\n", m.invite.Places)
	return m.err
}

func (m *maker) addInvite(name, text string, p channel.Places) {
	m.v.Invites = append(m.v.Invites, inviteVector{
		File: m.write(name+".txt", []byte(text)), Seed: m.v.Invite.Seed, IPNS: m.v.Invite.IPNS, Places: placeLines(p),
	})
}

// read is write's inverse.
func (m *maker) read(name string) []byte {
	b, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil && m.err == nil {
		m.err = err
	}
	return b
}

func (m *maker) invalidLists() error {
	good := string(m.read(m.v.Denied.File))
	text, _, _ := strings.Cut(good, "\n\n")
	text += "\n"
	origin := channel.Origin(m.id, 0)
	if !bytes.Equal(signNote(text, origin, m.log), []byte(good)) {
		return fmt.Errorf("a list written by hand differs from the package's")
	}
	tags := m.v.Denied.Tags
	tag := func(i int) string { return "tag " + tags[i] + "\n" }
	add := func(name, check, errText, old, with string) {
		changed := strings.Replace(text, old, with, 1)
		if changed == text {
			m.err = fmt.Errorf("vector: %q is not in the list", old)
		}
		m.refused(name, ".note", "denied", check, errText, signNote(changed, origin, m.log))
	}
	other := channel.ID(secret32("another channel")).String()
	add("denied-of-another-channel", "the channel is the relay's publisher's", "another channel", m.id.String(), other)
	add("denied-unsorted", "tags ascend", "not in order", tag(0)+tag(1), tag(1)+tag(0))
	add("denied-tag-twice", "tags ascend", "not in order", tag(0), tag(0)+tag(0))
	add("denied-tag-short", "a tag has 8 bytes", "malformed tag", tag(0), "tag AAAA\n")
	add("denied-tag-not-canonical", "unused bits are zero", "malformed tag", tag(0), "tag AAAAAAAAAAB=\n")
	add("denied-epoch-leading-zero", "numbers have no leading zeros", "canonical", "epoch 2", "epoch 02")
	add("denied-for-no-relay", "a pin is not zero", "for no relay", m.v.Denied.Pin, channel.Pin{}.String())
	add("denied-more-lines", "the lines are exactly these", "canonical", tag(2), tag(2)+"more 1\n")
	many := func(n int) (lines string) {
		for i := range n {
			lines += "tag " + base64.StdEncoding.EncodeToString([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, byte(i >> 8), byte(i)}) + "\n"
		}
		return lines
	}
	m.refused("denied-901-tags", ".note", "denied", "at most 900 tags", "canonical", signNote(text+many(898), origin, m.log))
	m.refused("denied-oversized", ".note", "denied", "at most 16 KiB", "bytes", signNote(text+many(1000), origin, m.log))
	m.refused("denied-signed-by-a-stranger", ".note", "denied", "the log key signed it", "bad signature", signNote(text, origin, signer("other")))
	m.refused("denied-signed-by-the-root-key", ".note", "denied", "the log key signed it", "bad signature", signNote(text, origin, m.root))
	m.refused("denied-two-signatures", ".note", "denied", "exactly one signature line", "bad signature", signNote(text, origin, m.log, m.log))
	m.refused("denied-is-a-head", ".note", "denied", "the first line says what it is", "expected line", m.checkpointAlone())

	bare := slices.Clip(inviteBytes(m.invite.String())[:97]) // without places
	place := func(kind byte, parts ...[]byte) []byte {
		p := slices.Concat(parts...)
		return append([]byte{kind, byte(len(p))}, p...)
	}
	fixed := slices.Concat([]byte{1, 187, 9}, make([]byte, 39)) // port, pin, prefix
	key := make([]byte, 32)
	relay, ech := place(1, fixed, []byte("r.one")), place(6, key, []byte("o"))
	if _, err := channel.ParseInvite(string(inviteText(slices.Concat(bare, relay, ech)))); err != nil {
		return fmt.Errorf("an invite with ECH written by hand: %w", err)
	}
	invite := func(name, check, errText string, places ...[]byte) {
		m.refused(name, ".txt", "invite", check, errText, inviteText(slices.Concat(append([][]byte{bare}, places...)...)))
	}
	invite("invite-ech-of-no-relay", "a place of kind 6 follows its relay", "mistyped", ech, relay)
	invite("invite-ech-of-a-zone", "a place of kind 6 follows its relay", "mistyped", []byte("\x02\x05n.one"), ech)
	invite("invite-ech-twice", "one place of kind 6 a relay", "mistyped", relay, ech, ech)
	invite("invite-ech-key-cut", "an X25519 key has 32 bytes", "mistyped", relay, place(6, key[:31]))
	invite("invite-ech-without-name", "an outer name has a letter", "mistyped", relay, place(6, key))
	invite("invite-ech-name-upper-case", "an outer name is a lower-case domain name", "mistyped", relay, place(6, key, []byte("O")))
	invite("invite-relay-cut", "a relay has a host", "mistyped", place(1, fixed))
	invite("invite-relay-upper-case", "hosts are lower case", "malformed relay", place(1, fixed, []byte("R.one")))
	invite("invite-relay-address-not-shortest", "addresses are in their shortest form", "malformed relay", place(1, fixed, []byte("2001:db8::0")))
	invite("invite-zone-oversized", "a zone has at most 30 characters", "malformed zone", place(2, []byte(strings.Repeat("n", 31))))
	invite("invite-peer-malformed", "a peer is a multiaddress", "mistyped", place(3, []byte{1, 2, 3}))
	invite("invite-peer-without-id", "a peer ends in /p2p/ID", "malformed peer", place(3, []byte{4, 192, 0, 2, 7, 6, 15, 161})) // /ip4/192.0.2.7/tcp/4001
	id := slices.Concat([]byte{0xa5, 3, 34, 0x12, 32}, make([]byte, 32))                                                        // /p2p/, a SHA-256
	invite("invite-peer-over-websocket", "a peer is of the forms named", "malformed peer", place(3, []byte{4, 192, 0, 2, 7, 6, 15, 161, 0xdd, 3}, id))
	invite("invite-peer-at-port-0", "ports are 1 to 65535", "malformed peer", place(3, []byte{4, 192, 0, 2, 7, 6, 0, 0}, id))
	invite("invite-relay-address-mapped", "no IPv4 address is mapped into IPv6", "malformed relay", place(1, fixed, []byte("::ffff:192.0.2.7")))
	invite("invite-zone-authority-with-a-zone", "addresses have no zone", "malformed zone", place(2, []byte("n.one@[fe80::1%eth0]:53")))
	invite("invite-gateway-upper-case", "hosts are lower case", "malformed gateway", place(4, []byte("https://G.example")))
	invite("invite-gateway-port-65536", "ports are 1 to 65535", "malformed gateway", place(4, []byte("https://g.example:65536")))
	invite("invite-gateway-ends-in-a-number", "a URL's name does not end in a number", "malformed gateway", place(4, []byte("https://g.256")))
	invite("invite-mirror-with-a-brace", "URLs have no other characters", "malformed mirror", place(5, []byte("https://g.example/{a}")))
	invite("invite-gateway-with-query", "URLs have no query", "malformed gateway", place(4, []byte("https://g.example?x")))
	invite("invite-length-byte-missing", "every place is as long as it says", "mistyped", []byte{2})
	invite("invite-oversized", "at most 368 bytes", "mistyped", place(200, make([]byte, 255)), place(200, make([]byte, 20)))
	m.refused("invite-of-no-key", ".txt", "invite", "channel, seed and key are there", "mistyped", inviteText(bytes.Clone(bare[:96])))
	m.refused("invite-pasted-oversized", ".txt", "invite", "at most 16 KiB", "not an invite", append([]byte(m.invite.String()), bytes.Repeat([]byte{' '}, 16<<10)...))
	s := string(inviteText(bare))
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", s[len(s)-1])
	m.refused("invite-base32-not-canonical", ".txt", "invite", "unused bits are zero", "mistyped", []byte(s[:len(s)-1]+string("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[last^1])))
	m.refused("invite-with-a-digit-1", ".txt", "invite", "base32 has no 0, 1, 8 and 9", "mistyped", []byte(s[:40]+"1"+s[41:]))
	return m.err
}

// checkpointAlone is a note that the log key did sign, of another kind.
func (m *maker) checkpointAlone() []byte {
	_, checkpoint, _ := bytes.Cut(m.heads[1].Text(), []byte("\n\n"))
	return checkpoint
}
