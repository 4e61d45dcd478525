package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
)

// Limits of a front page and of an article, checked at packing and again at
// opening.
const (
	maxFrontJSON = 4 << 20
	maxEntries   = 2000
	MaxGone      = maxEntries // of Front.Gone and of Input.Gone
	maxPast      = 200
	maxTitle     = 500
	maxLead      = 1000
	maxAlt       = 1000
	maxBody      = 1 << 20
	maxURL       = 2000
	maxImages    = 100
	maxSide      = 65_535 // of a picture, in pixels: the same on machines of 32 bits
	maxImage     = 2 << 20
	maxLangs     = 64
	// maxSpan bounds one frame: what decompress would take, and some for frames
	// that do not compress.
	maxSpan = maxLine + 64<<10
	// maxLine bounds one line of the text layer: a body as JSON and its fields.
	maxLine = 4 << 20
	// FrontLeaves is how many of the log's last leaf hashes a front page holds.
	FrontLeaves = 16
)

// ErrFront is wrapped by every refusal of a front page.
var ErrFront = errors.New("front page refused")

// Front is the front page as it stands with one edition: headlines and where
// the rest lies.
type Front struct {
	V       int        `json:"v"`
	Channel channel.ID `json:"channel"`
	// Name is the channel's name, Langs its languages (BCP 47).
	Name  string   `json:"name"`
	Langs []string `json:"langs"`
	// Edition is the one that holds this front page, Epoch its key's number.
	Edition uint64    `json:"edition"`
	Epoch   uint64    `json:"epoch"`
	Date    time.Time `json:"date"`
	// Articles are the headlines, newest first.
	Articles []Entry `json:"articles"`
	// Past are the older editions of the window, oldest first: those that
	// Articles lie in, and those whose headlines found no room here.
	Past []Past `json:"past,omitempty"`
	// Leaves are the log's leaf hashes max(0, Edition-16) … Edition-1, 32 bytes each.
	Leaves Base64 `json:"leaves,omitempty"`
	// Text and Media describe this edition's layers, nil if it has none.
	Text  *Layer `json:"text,omitempty"`
	Media *Layer `json:"media,omitempty"`
	// Log names the log layer's records, nil in edition 0.
	Log *Names `json:"log,omitempty"`
	// Dict is the dictionary of this edition's texts, nil if they have none.
	Dict *Dict `json:"dict,omitempty"`
	// Gone are IDs of articles taken back, at most MaxGone: readers delete them, and
	// take none of them from an edition that is no newer than this one. Each edition
	// says it again, since a reader may have missed any.
	Gone []string `json:"gone,omitempty"`
	// Replaces maps an article's ID to that of the one it takes the place of, which
	// goes as if it were in Gone.
	Replaces map[string]string `json:"replaces,omitempty"`
}

// Layer describes one layer of the edition of a front page.
type Layer struct {
	// Prologue is the age file's header and nonce (PrologueSize bytes): any
	// chunk can be opened without the first block.
	Prologue Base64 `json:"prologue"`
	// Names of the layer's DNS records; nil for media, which DNS never carries.
	Names *Names `json:"dns,omitempty"`
}

// Dict says where an edition's dictionary comes from. Every frame of its text layer
// then names that dictionary.
type Dict struct {
	// Edition is the one that dict.age was made for: this one, or an older one of the
	// same epoch whose file is used again, byte for byte.
	Edition uint64 `json:"ed"`
	// Size of the file in bytes: over DNS a reader wants to know what texts cost.
	Size int64 `json:"n"`
	// Names of the file's DNS records.
	Names *Names `json:"dns,omitempty"`
}

// check holds it to its limits; edition is the one whose texts need it.
func (d *Dict) check(edition uint64) error {
	if d != nil && (d.Edition > edition || d.Size <= 0 || d.Size > maxDictFile) {
		return fmt.Errorf("%w: dictionary of a later edition or too large", ErrFront)
	}
	return nil
}

func (d *Dict) names() *Names {
	if d == nil {
		return nil
	}
	return d.Names
}

// Names are record.Names as labels.
type Names struct {
	Large string `json:"l"`
	Small string `json:"s"`
}

func namesOf(n record.Names) *Names {
	return &Names{Large: n.Large.Label(), Small: n.Small.Label()}
}

// Record returns the names as they are asked for.
func (n *Names) Record() (record.Names, error) {
	large, err := record.ParseLabel(n.Large)
	if err != nil {
		return record.Names{}, err
	}
	small, err := record.ParseLabel(n.Small)
	return record.Names{Large: large, Small: small}, err
}

// valid reports whether both are labels in lower case: DNS answers come in any.
func (n *Names) valid() bool {
	r, err := n.Record()
	return err == nil && *namesOf(r) == *n
}

// Entry is one headline.
type Entry struct {
	ID     string    `json:"id"`
	Title  string    `json:"title"`
	Lead   string    `json:"lead,omitempty"`
	Lang   string    `json:"lang"`
	Dir    string    `json:"dir"`
	Date   time.Time `json:"date"`
	Source string    `json:"source,omitempty"`
	// Corrected is when its text took the place of an earlier one of the same ID, zero
	// if it never did. The publisher says so: a new reader has not seen the earlier one.
	Corrected time.Time `json:"corrected,omitzero"`
	// Edition holds the article's text and images.
	Edition uint64 `json:"ed"`
	// Text is the article's frame in that edition's text layer.
	Text Span `json:"text"`
	// Images are its pictures' frames in that edition's media layer.
	Images []ImageEntry `json:"images,omitempty"`
}

// ImageEntry is one picture of an Entry.
type ImageEntry struct {
	Type   string `json:"type"`
	Width  int    `json:"w"`
	Height int    `json:"h"`
	Span   Span   `json:"span"`
}

// Past is an older edition of the window.
type Past struct {
	Edition uint64 `json:"n"`
	Epoch   uint64 `json:"epoch"`
	Root    string `json:"root"`
	// Date is when it was packed.
	Date time.Time `json:"date"`
	// Front names the DNS records of its directory and front page.
	Front *Names `json:"front,omitempty"`
	// Text names the DNS records of its text layer, nil if it has none.
	Text *Names `json:"text,omitempty"`
	// Dict is its dictionary, nil if its texts have none.
	Dict *Dict `json:"dict,omitempty"`
	// Articles is how many headlines it added: who holds as many that lie in it
	// needs nothing of its front page. 0 means that it is not said.
	Articles int `json:"articles,omitempty"`
}

// Hashes are the log's leaf hashes that end before this edition, and the index
// of the first one.
func (f *Front) Hashes() (first uint64, hs []channel.Hash, err error) {
	hs, err = channel.SplitHashes(f.Leaves)
	if err != nil || uint64(len(hs)) > f.Edition {
		return 0, nil, fmt.Errorf("%w: malformed leaves", ErrFront)
	}
	return f.Edition - uint64(len(hs)), hs, nil
}

// check holds a front page to its limits.
func (f *Front) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", ErrFront, what) }
	switch {
	case f.V != 1:
		return bad("unknown version")
	case !line(f.Name, 1, maxTitle):
		return bad("malformed name")
	case len(f.Articles) > maxEntries || len(f.Past) > maxPast || len(f.Gone) > maxEntries || len(f.Replaces) > maxEntries:
		return bad("too many entries")
	case len(f.Leaves) > FrontLeaves*len(channel.Hash{}):
		return bad("too many leaves")
	case len(f.Langs) > maxLangs || slices.ContainsFunc(f.Langs, func(l string) bool { return !languageTag(l) }):
		return bad("malformed languages")
	case slices.ContainsFunc(f.Gone, func(id string) bool { return !articleID(id) }):
		return bad("malformed article ID")
	}
	for id, old := range f.Replaces {
		if !articleID(id) || !articleID(old) {
			return bad("malformed article ID")
		}
	}
	names := []*Names{f.Log, f.Dict.names()}
	for _, p := range f.Past {
		names = append(names, p.Front, p.Text, p.Dict.names())
	}
	for _, n := range names {
		if n != nil && !n.valid() {
			return bad("malformed names")
		}
	}
	if err := f.Dict.check(f.Edition); err != nil {
		return err
	}
	if _, _, err := f.Hashes(); err != nil {
		return err
	}
	for _, l := range []*Layer{f.Text, f.Media} {
		if l != nil && len(l.Prologue) != PrologueSize {
			return bad("malformed layer")
		}
		if l != nil && l.Names != nil && !l.Names.valid() {
			return bad("malformed names")
		}
	}
	editions := map[uint64]bool{f.Edition: true}
	for _, p := range f.Past {
		c, err := cid.Decode(p.Root)
		if err != nil || CheckCID(c) != nil || c.Prefix().Codec != cid.DagProtobuf || c.String() != p.Root || p.Edition >= f.Edition || editions[p.Edition] ||
			p.Articles < 0 || p.Articles > maxEntries || p.Dict.check(p.Edition) != nil {
			return bad("malformed older edition")
		}
		editions[p.Edition] = true
	}
	seen := map[string]bool{}
	for i := range f.Articles {
		e := &f.Articles[i]
		if err := e.check(); err != nil {
			return err
		}
		if !editions[e.Edition] || seen[e.ID] {
			return bad("article listed twice or in an unknown edition")
		}
		seen[e.ID] = true
	}
	return nil
}

func (e *Entry) check() error {
	if err := checkMeta(e.ID, e.Title, e.Lead, e.Lang, e.Dir, e.Source); err != nil {
		return err
	}
	if len(e.Images) > maxImages {
		return fmt.Errorf("%w: too many images", ErrFront)
	}
	for _, i := range e.Images {
		if err := i.Span.check(); err != nil {
			return err
		}
		if !imageType(i.Type) || min(i.Width, i.Height) <= 0 || max(i.Width, i.Height) > maxSide {
			return fmt.Errorf("%w: malformed image", ErrFront)
		}
	}
	return e.Text.check()
}

// checkMeta holds what a headline and an article have in common to its limits.
func checkMeta(id, title, lead, lang, dir, source string) error {
	bad := func(what string) error { return fmt.Errorf("%w: malformed %s", ErrFront, what) }
	switch {
	case !articleID(id):
		return bad("article ID")
	case !line(title, 1, maxTitle):
		return bad("title")
	case !line(lead, 0, maxLead):
		return bad("lead")
	case !languageTag(lang):
		return bad("language tag")
	case dir != "ltr" && dir != "rtl":
		return bad("direction")
	case !line(source, 0, maxURL) || source != "" && !strings.HasPrefix(source, "http://") && !strings.HasPrefix(source, "https://"):
		return bad("source URL")
	}
	return nil
}

func articleID(s string) bool {
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// line reports whether s is one line of valid UTF-8 without control characters,
// of low to high bytes.
func line(s string, low, high int) bool {
	return len(s) >= low && len(s) <= high && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })
}

func languageTag(s string) bool {
	return len(s) >= 2 && len(s) <= 35 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func imageType(s string) bool { return s == "image/webp" || s == "image/jpeg" }

// OpenFront decrypts and reads the front page of an edition. file is the whole
// front.age, already checked against its CID; decryption with the epoch's key
// is what authenticates it otherwise. Errors wrap ErrLayer or ErrFront.
func OpenFront(key channel.EpochKey, ch channel.ID, edition uint64, file []byte) (*Front, error) {
	text, err := openFrame(Passphrase(key, ch, edition, LayerFront), file, maxFrontJSON)
	if err != nil {
		return nil, err
	}
	f := &Front{}
	if err := unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("%w: not JSON of this version", ErrFront)
	}
	if f.Channel != ch || f.Edition != edition {
		return nil, fmt.Errorf("%w: made for another edition", ErrFront)
	}
	return f, f.check()
}
