package bundle

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/dict"
	"github.com/klauspost/compress/zstd"
)

// ErrFewArticles: a dictionary can't be made of so little.
var ErrFewArticles = errors.New("too few articles to make a dictionary of")

// minSamples is how many articles a language must have for a part of the
// dictionary: what a few have in common is chance.
const minSamples = 16

// TrainDictionary makes a dictionary of about size bytes, at most MaxDictionary,
// from articles, the newest last. Each language has a part of its own, as large as
// its share of the text, so that a small one isn't crowded out by what a large one
// repeats more often; an edition has one dictionary for all, since stock zstd takes
// one. ErrFewArticles if no language has enough.
func TrainDictionary(articles []Article, size int) (*Dictionary, error) {
	size = min(size, MaxDictionary)
	var lines [][]byte
	parts, seen := map[string]*part{}, map[string]bool{}
	for i := range articles {
		b, err := sample(&articles[i])
		if err != nil {
			return nil, err
		}
		if seen[string(b)] {
			continue // the library fails where all samples are the same
		}
		seen[string(b)] = true
		lines = append(lines, b)
		lang, _, _ := strings.Cut(strings.ToLower(articles[i].Lang), "-")
		p := parts[lang]
		if p == nil {
			p = &part{}
			parts[lang] = p
		}
		p.lines, p.bytes = append(p.lines, b), p.bytes+len(b)
	}
	maps.DeleteFunc(parts, func(_ string, p *part) bool { return len(p.lines) < minSamples })
	if len(parts) == 0 {
		return nil, ErrFewArticles
	}
	total := 0
	for _, p := range parts {
		total += p.bytes
	}
	// What is copied most often stands last: the nearer, the fewer bits.
	order := slices.SortedFunc(maps.Values(parts), func(a, b *part) int { return cmp.Compare(a.bytes, b.bytes) })
	var content []byte
	for _, p := range order {
		raw, err := dict.BuildRawDict(p.lines, dict.Options{MaxDictSize: (size - tables) * p.bytes / total, HashBytes: 8})
		if err != nil {
			return nil, err
		}
		content = append(content, raw...)
	}
	content = content[max(0, len(content)-(size-tables)):]
	data, err := zstd.BuildDict(zstd.BuildDictOptions{
		ID: dictID(content), Contents: lines, History: content, Offsets: [3]int{1, 4, 8},
		CompatV155: true, // Debian 12 has zstd 1.5.4
		// The best level clears 32 MiB for each article, and makes no better tables.
		Level: zstd.SpeedBetterCompression,
	})
	if err != nil {
		return nil, err
	}
	return ParseDictionary(data)
}

// tables is what a dictionary's entropy tables take at most, about.
const tables = 512

// part is one language's articles.
type part struct {
	lines [][]byte
	bytes int
}

// sample is an article's line with a salt of zeros: random bytes are no use in a
// dictionary.
func sample(a *Article) ([]byte, error) {
	b, err := marshal(lineOf(a, make([]byte, 16)))
	return append(b, '\n'), err
}

// Gain is how many bytes the texts of some articles take without the dictionary, and
// with it.
func (d *Dictionary) Gain(articles []Article) (without, with int, err error) {
	encoder, err := d.encoder()
	if err != nil {
		return 0, 0, err
	}
	for i := range articles {
		b, err := sample(&articles[i])
		if err != nil {
			return 0, 0, err
		}
		without += len(compress(b))
		with += len(encoder.EncodeAll(b, nil))
	}
	return without, with, nil
}

// FileSize is the size of a dict.age with this dictionary in bytes.
func (d *Dictionary) FileSize() int {
	return int(sealedSize(int64(len(pad(compress(d.data), LayerDict)))))
}
