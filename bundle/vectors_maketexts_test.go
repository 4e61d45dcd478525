package bundle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// textLayer is an edition 0 of a text layer and of the dictionary in that file, if any.
func textLayer(t testing.TB, id channel.ID, key channel.EpochKey, file []byte, dict string) *bundle.Volume {
	t.Helper()
	if dict == "" {
		return oneLayer(id, key, bundle.LayerText, file)
	}
	return oneLayerAnd(id, key, bundle.LayerText, file, readVector(t, dict))
}

// noticeAt is a headline, and its line of a text layer.
func noticeAt(i int) (bundle.Entry, []byte) {
	a := notices(i, 1, 1_790_000_000)[0]
	e := bundle.Entry{ID: a.ID, Title: a.Title, Lang: a.Lang, Dir: a.Dir, Date: a.Date, Source: a.Source}
	line, err := json.Marshal(map[string]any{
		"v": 1, "salt": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 16)), "id": a.ID, "title": a.Title, "lead": a.Lead, "body": a.Body,
		"lang": a.Lang, "dir": a.Dir, "date": a.Date.Format(time.RFC3339), "source": a.Source,
	})
	if err != nil {
		panic(err)
	}
	return e, append(line, '\n')
}

// dictFrame compresses with a dictionary.
func (m *maker) dictFrame(b []byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderDict(m.dict.Bytes()))
	if err != nil {
		m.err = err
		return nil
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// rawFrame is a frame by hand, of one block that is not compressed (RFC 8878): it names
// a dictionary, if any, says how large its content is, unless that is negative, and asks
// for a window of 2^window bytes.
func rawFrame(content []byte, dict uint32, size int64, window byte) []byte {
	descriptor := byte(0)
	var fields []byte
	if dict > 0 {
		descriptor |= 2
		fields = binary.LittleEndian.AppendUint16(fields, uint16(dict))
	}
	if size >= 0 {
		descriptor |= 2 << 6
		fields = binary.LittleEndian.AppendUint32(fields, uint32(size))
	}
	out := append([]byte{0x28, 0xb5, 0x2f, 0xfd, descriptor, (window - 10) << 3}, fields...)
	header := uint32(len(content))<<3 | 1 // last, raw
	out = append(out, byte(header), byte(header>>8), byte(header>>16))
	return append(out, content...)
}

// spanned seals frames as a text layer of edition 0.
func (m *maker) spanned(frames ...[]byte) []byte {
	plain := bytes.Join(frames, nil)
	return m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerText), 1, padded(plain, 100, 0))
}

// texts are single articles, each opened from its own frame: two of a layer whose
// frames need a dictionary, and the same two of one whose frames don't.
func (m *maker) texts() error {
	dict := m.write("text-dict.age", m.seal(bundle.Passphrase(m.epoch, m.id, 0, bundle.LayerDict), 1, padded(frame(m.dict.Bytes()), 100, 0)))
	for _, layer := range []struct {
		name, dict string
		compress   func([]byte) []byte
	}{{"text-with-dict.age", dict, m.dictFrame}, {"text-without-dict.age", "", frame}} {
		var frames [][]byte
		var entries []bundle.Entry
		at := int64(0)
		for _, i := range []int{200, 201} {
			e, line := noticeAt(i)
			f := layer.compress(line)
			e.Text = bundle.Span{Offset: at, Size: int64(len(f))}
			at += e.Text.Size
			frames, entries = append(frames, f), append(entries, e)
		}
		file := m.write(layer.name, m.spanned(frames...))
		for _, e := range entries {
			headline, err := json.Marshal(e)
			if err != nil {
				return err
			}
			v := oneLayer(m.id, m.epoch, bundle.LayerText, m.read(file))
			if layer.dict != "" {
				v = oneLayerAnd(m.id, m.epoch, bundle.LayerText, m.read(file), m.read(dict))
			}
			a, err := v.Article(&e)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			m.v.Texts = append(m.v.Texts, textVector{File: file, Dict: layer.dict, Headline: headline, Lead: a.Lead, Body: a.Body})
		}
	}
	return m.err
}

// invalidFrames are frames of texts that don't go with the dictionary of their edition.
func (m *maker) invalidFrames() error {
	const dict = "text-dict.age"
	h, line := noticeAt(200)
	id, size := m.dict.ID(), int64(len(line))
	try := func(name, check, errText, dict string, frames ...[]byte) {
		e := h
		for _, f := range frames {
			e.Text.Size += int64(len(f))
		}
		headline, err := json.Marshal(e)
		if err != nil {
			m.err = err
		}
		c := m.refused(name, ".age", "text", check, errText, m.spanned(frames...))
		c.Headline, c.Dict = headline, dict
	}
	good := rawFrame(line, id, size, 20)
	e := h
	e.Text.Size = int64(len(good))
	if a, err := oneLayerAnd(m.id, m.epoch, bundle.LayerText, m.spanned(good), m.read(dict)).Article(&e); err != nil || a.Title != h.Title {
		return fmt.Errorf("a frame with a dictionary written by hand: %w", err)
	}
	try("text-names-no-dictionary", "a frame names the dictionary of its edition", "another dictionary", dict, frame(line))
	try("text-names-another-dictionary", "a frame names the dictionary of its edition", "another dictionary", dict, rawFrame(line, id-1, size, 20))
	try("text-names-a-dictionary-of-none", "no frame names a dictionary if the edition has none", "nobody named", "", m.dictFrame(line))
	try("text-without-size", "a frame says how large its content is", "unknown or too large", dict, rawFrame(line, id, -1, 20))
	try("text-size-oversized", "a content of at most 4 MiB", "unknown or too large", dict, rawFrame(line, id, 4<<20+1, 20))
	try("text-size-of-another", "the content is as large as the frame says", "damaged", dict, rawFrame(line, id, size+1, 20))
	try("text-two-frames-with-dictionary", "a span is one frame", "bytes after the frame", dict, good, good)
	try("text-window-oversized", "a window no larger than the content may be: 4 MiB", "damaged", "", rawFrame(line, 0, -1, 23))
	return m.err
}

func TestVectorTexts(t *testing.T) {
	v, _, id := loadVectors(t)
	key := channel.EpochKey(hex32(v.Grant.Epochs[0]))
	with := 0
	for _, c := range v.Texts {
		var e bundle.Entry
		if err := json.Unmarshal(c.Headline, &e); err != nil {
			t.Fatal(err)
		}
		a, err := textLayer(t, id, key, readVector(t, c.File), c.Dict).Article(&e)
		if err != nil {
			t.Errorf("%s, %s: %v", c.File, e.ID, err)
			continue
		}
		want(t, "text", []string{e.ID, e.Title, c.Lead, c.Body}, []string{a.ID, a.Title, a.Lead, a.Body})
		if c.Dict != "" {
			with++
		}
	}
	if with < 2 || len(v.Texts) < 4 {
		t.Errorf("%d texts, %d with a dictionary", len(v.Texts), with)
	}
	for _, e := range v.Editions {
		var fronts []*bundle.Front
		for _, older := range v.Editions[:e.Edition+1] {
			f := &bundle.Front{}
			readJSON(t, older.FrontJSON, f)
			fronts = append(fronts, f)
		}
		want(t, "what stands", e.Standing, standing(fronts))
	}
}
