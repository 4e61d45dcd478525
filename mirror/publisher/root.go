package publisher

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// Root keys can live on machines that no network reaches. What goes to and fro, on a
// stick, are small files: a key's public line once, then a draft of the next root
// note (channel.Draft), which each machine signs. The publisher's folder makes the
// draft and takes it back when enough have signed.

// RootKey is one root key.
type RootKey struct {
	Public ed25519.PublicKey
	// Here: its secret half is in this folder.
	Here bool
}

// RootKeys are those of the newest root note, and how many of them must sign.
func (p *Publisher) RootKeys() (keys []RootKey, threshold int) {
	here := p.rootKeyHere()
	for _, k := range p.roots.Last().RootKeys {
		keys = append(keys, RootKey{k, here != nil && k.Equal(here.Public())})
	}
	return keys, p.roots.Last().Threshold
}

// Roots is the channel's chain of root notes.
func (p *Publisher) Roots() *channel.Roots { return p.roots }

func (p *Publisher) rootKeyHere() ed25519.PrivateKey {
	if len(p.keys.Root) == 0 {
		return nil
	}
	return p.keys.key(p.keys.Root)
}

// Rotation says what the next root note changes; what is zero stays as it is.
type Rotation struct {
	// Keys are the root keys from then on, of which Threshold must sign.
	Keys      []ed25519.PublicKey
	Threshold int
	// NewLog puts a new log key in place, and begins a new generation of the log: it
	// goes on from the first Good editions. What the old key has signed beyond them,
	// and whoever stole it, counts for nothing then.
	NewLog bool
	Good   uint64
}

// Rotate drafts the next root note. This folder's root key, if there is one, signs
// it at once.
func (p *Publisher) Rotate(r Rotation) (*channel.Draft, error) {
	var log channel.LogKey
	if r.NewLog {
		var err error
		if log, err = p.nextLog(r.Good); err != nil {
			return nil, err
		}
	}
	d, err := p.roots.Next(func(n *channel.RootNote) {
		if len(r.Keys) > 0 {
			n.RootKeys, n.Threshold = r.Keys, r.Threshold
		}
		if r.NewLog {
			n.Log = log
		}
	})
	if err != nil {
		return nil, err
	}
	if here := p.rootKeyHere(); here != nil {
		err = d.Sign(here)
	}
	return d, err
}

// ErrUnsigned: a draft lacks signatures.
var ErrUnsigned = errors.New("not signed by enough keys yet")

// Lacking says what a draft that follows the newest root note still needs: so many
// more of the keys that hold now, and of those that it brings.
func (p *Publisher) Lacking(d *channel.Draft) (old, next int) {
	last := p.roots.Last()
	return max(0, last.Threshold-d.SignedBy(last.RootKeys...)), max(0, d.Note.Threshold-d.SignedBy(d.Note.RootKeys...))
}

// UseRoot takes a draft that is signed enough for the channel's newest root note,
// durably. What is packed from now on carries it, and readers follow. A root key in
// this folder that the note does not name is destroyed: it has no use any more.
func (p *Publisher) UseRoot(d *channel.Draft) error {
	note := d.Marshal()
	if d.Note.Version == p.roots.Version() && bytes.Equal(d.Note.Text(), p.roots.Last().Text()) {
		return p.dropRootKey() // a crash may have come between; to the rest Open has seen
	}
	if old, next := p.Lacking(d); d.Note.Version == p.roots.Version()+1 && old+next > 0 {
		return fmt.Errorf("%w: %d more of the present root keys and %d more of the new ones have to sign it", ErrUnsigned, old, next)
	}
	roots, err := p.roots.Extend(note)
	if err != nil {
		return err
	}
	if !p.hasLogKey(d.Note.Log.Key) {
		return errors.New("the log key that this draft names is not in this folder: it was drafted elsewhere, or another one was drafted since")
	}
	if err := durable.Write(filepath.Join(p.dir, "root", strconv.FormatUint(d.Note.Version, 10)), 0o644, note); err != nil {
		return err
	}
	p.roots, p.notes = roots, roots.Notes()
	if err := p.dropRootKey(); err != nil {
		return err
	}
	if err := p.useLogKey(); err != nil {
		return err
	}
	if err := p.leaveOut(); err != nil {
		return err
	}
	p.dropLeftOut()
	return nil
}

func (p *Publisher) dropRootKey() error {
	here := p.rootKeyHere()
	if here == nil || slices.ContainsFunc(p.roots.Last().RootKeys, func(k ed25519.PublicKey) bool { return k.Equal(here.Public()) }) {
		return nil
	}
	p.keys.Root = nil
	return p.saveKeys()
}

// A root key's file: the line that the publisher needs, and the seed.
const (
	rootKeyLine    = "root ed25519 "
	rootSecretLine = "secret "
)

// RootKeyLine is the public line of a root key, "root ed25519 BASE64".
func RootKeyLine(k ed25519.PublicKey) string {
	return rootKeyLine + base64.StdEncoding.EncodeToString(k)
}

// ParseRootKeyLine is the inverse of RootKeyLine; the words before the key may be
// missing.
func ParseRootKeyLine(s string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(strings.TrimSpace(s), rootKeyLine))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("not a root key; it is what mirror-publish root new prints, like %q", RootKeyLine(make([]byte, 32)))
	}
	return raw, nil
}

// NewRootKey makes a root key in a new file that nobody else may read, and returns
// its public half. It needs no publisher's folder.
func NewRootKey(file string) (ed25519.PublicKey, error) {
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("%s is there already; a root key is never written over", file)
	}
	seed := random()
	pub := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	text := fmt.Sprintf("%s\n%s%s\n", RootKeyLine(pub), rootSecretLine, base64.StdEncoding.EncodeToString(seed))
	return pub, durable.Write(file, 0o600, []byte(text))
}

// LoadRootKey reads a file that NewRootKey made. The error quotes nothing of it.
func LoadRootKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	bad := fmt.Errorf("%s is no root key of mirror-publish root new, or damaged", file)
	first, rest, _ := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	pub, err := ParseRootKeyLine(first)
	if err != nil || len(text) > 1<<10 {
		return nil, bad
	}
	secret, ok := strings.CutPrefix(strings.TrimSpace(rest), rootSecretLine)
	seed, err := base64.StdEncoding.Strict().DecodeString(secret)
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return nil, bad
	}
	key := ed25519.NewKeyFromSeed(seed)
	if !pub.Equal(key.Public()) {
		return nil, bad
	}
	return key, nil
}

// LoadDraft reads a draft of a root note.
func LoadDraft(file string) (*channel.Draft, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, channel.MaxRootNote+1))
	if err != nil {
		return nil, err
	}
	return channel.ParseDraft(b)
}

// SaveDraft writes a draft, over what is there.
func SaveDraft(file string, d *channel.Draft) error { return durable.Write(file, 0o644, d.Marshal()) }
