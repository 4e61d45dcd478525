package relay

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/url"
	"testing"

	"tamizdat/bundle"
)

// FuzzCARParams: a query is understood or refused with 400, and what is understood
// is written so that it is understood again.
func FuzzCARParams(f *testing.F) {
	for _, q := range []string{
		"dag-scope=entity&entity-bytes=0:65535", "entity-bytes=-16:*", "entity-bytes=5:-9223372036854775808", "dag-scope=block", "dag-scope=x",
		"car-dups=y", "car-version=2", "entity-bytes=1:0", "entity-bytes=", "",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		p, no := parseCARParams(q, nil)
		if no != nil {
			if no.code != http.StatusBadRequest {
				t.Fatalf("%q: status %d", query, no.code)
			}
			return
		}
		if p.rng == nil {
			return
		}
		again, err := parseEntityBytes(p.rng.String())
		if err != nil || again != *p.rng {
			t.Fatalf("%q: %q is read as %q, %v", query, p.rng, &again, err)
		}
	})
}

// FuzzIndex: a sidecar index that is taken points into its file.
func FuzzIndex(f *testing.F) {
	c := bundle.RawCID([]byte("head"))
	e := &edition{size: 1000, headCID: c, index: map[string]span{c.KeyString(): {off: 100, len: 900, sum: 7}}}
	good := e.marshalIndex()
	f.Add(good[:len(good)-32])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := &edition{size: 1000, headCID: c}
		sum := sha256.Sum256(body) // a fuzzer would never find it
		if err := e.parseIndex(append(bytes.Clone(body), sum[:]...)); err != nil {
			return
		}
		for _, s := range e.index {
			if s.off < 0 || s.len < 0 || s.len > bundle.MaxBlock || s.off+int64(s.len) > e.size {
				t.Fatalf("%d bytes at %d of %d", s.len, s.off, e.size)
			}
		}
	})
}
