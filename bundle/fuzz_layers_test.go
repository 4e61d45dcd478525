package bundle

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
	"tamizdat/internal/safehtml"
	"tamizdat/internal/testvectors"
)

// FuzzLayer: nothing but what was sealed with the key opens, however the bytes of a
// file lie.
func FuzzLayer(f *testing.F) {
	testvectors.Seed(f, "invalid/front-*.age")
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := OpenFront(channel.EpochKey{1}, channel.ID{2}, 0, file); err == nil {
			t.Fatal("bytes that nobody sealed with this key open")
		}
		if len(file) >= HeaderSize && plainHeader(file[:HeaderSize]) && (!strings.HasPrefix(string(file), "age-encryption.org/v1\n-> scrypt ") || file[PrologueSize-nonceSize-1] != '\n') {
			t.Fatal("another header passes the gate")
		}
	})
}

// oneBlock is an edition of one layer of one block with that content.
func oneBlock(t *testing.T, layer string, content []byte) (*Volume, Span) {
	t.Helper()
	v := &Volume{Channel: channel.ID{1}, Key: channel.EpochKey{2}}
	frame := compress(content)
	sealed, err := seal(pad(bytes.Clone(frame), layer), Passphrase(v.Key, v.Channel, 0, layer))
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) > MaxBlock {
		t.Fatalf("%d bytes take more than one block", len(content))
	}
	dir, err := buildFolder([]folderEntry{{"front.age", RawCID(nil), 1}, {layer + ".age", RawCID(sealed), 1}})
	if err != nil {
		t.Fatal(err)
	}
	held := map[cid.Cid][]byte{RawCID(sealed): sealed, dir.root: dir.blocks[0].Data}
	v.Root, v.Get = dir.root, func(c cid.Cid) ([]byte, error) {
		if b, ok := held[c]; ok {
			return b, nil
		}
		return nil, ErrMissing
	}
	return v, Span{Size: int64(len(frame))}
}

// FuzzText: an article that is taken is its headline's, within all limits, and its
// HTML is of the safe subset.
func FuzzText(f *testing.F) {
	a := article(1)
	a.Images = nil
	line, err := marshal(&textLine{V: 1, Salt: "AAAAAAAAAAAAAAAAAAAAAA==", ID: a.ID, Title: a.Title, Body: a.Body, Lang: a.Lang, Dir: a.Dir, Date: time.Unix(1, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	e := Entry{ID: a.ID}
	for _, s := range []string{string(line) + "\n", strings.Replace(string(line), a.Title, `</title><script>`, 1), `{"v":1,"id":"` + a.ID + `","title":"x","lang":"en","dir":"rtl","body":"<p onclick=x>y<img src=image:0>"}`, "{}", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) > 60_000 {
			return
		}
		v, span := oneBlock(t, LayerText, line)
		e := e
		e.Text = span
		a, err := v.Article(&e)
		if err != nil {
			return
		}
		if a.ID != e.ID || a.Title == "" || len(a.Title) > maxTitle || strings.ContainsAny(a.Title, "\n\x00") || len(a.Images) != 0 {
			t.Fatalf("taken: %q", a.Title)
		}
		if again := safehtml.Sanitize(a.Body); again != a.Body {
			t.Fatalf("not sanitised:\n%q\n%q", a.Body, again)
		}
	})
}

// FuzzPicture: whatever member of an archive is taken has at most a picture's bytes.
func FuzzPicture(f *testing.F) {
	var whole bytes.Buffer
	w := tar.NewWriter(&whole)
	if err := w.WriteHeader(&tar.Header{Name: "00112233445566aa-0.jpg", Size: 700, Mode: 0o644}); err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 700)); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:600])
	f.Add(bytes.Replace(whole.Bytes(), []byte("ustar"), []byte("xstar"), 1))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, member []byte) {
		if len(member) > 60_000 {
			return
		}
		v, span := oneBlock(t, LayerMedia, member)
		e := Entry{Images: []ImageEntry{{Type: "image/jpeg", Width: 1, Height: 1, Span: span}}}
		if img, err := v.Image(&e, 0); err == nil && len(img.Data) > maxImage {
			t.Fatalf("a picture of %d bytes", len(img.Data))
		}
	})
}
