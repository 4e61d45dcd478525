package channel

import (
	"bytes"
	"strings"
	"testing"

	"filippo.io/age"

	"tamizdat/internal/testvectors"
)

// grantVectors are the age vectors whose header is one that a grant may have, and
// what stock age makes of them behind it; all others are refused at the gate: those
// for other recipients or for several, and malformed stanzas.
var grantVectors = map[string]string{
	"hybrid":                      "success",
	"hybrid_bad_tag":              "no match",
	"hybrid_currupted_enc_mlkem":  "no match",
	"hybrid_currupted_enc_x25519": "no match",
	"hybrid_no_match":             "no match",
	"hybrid_identity":             "header failure",
	"hybrid_low_order":            "header failure",
	"hybrid_not_canonical_enc":    "header failure",
}

func TestAgeVectorsForGrants(t *testing.T) {
	p := newPublisher(t, "a")
	passed := 0
	for _, v := range testvectors.AgeVectors(t) {
		// None is of a grant's size.
		if _, err := p.roots(t).OpenGrant(v.File, Seed{}); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("%s: %v", v.Name, err)
		}
		want, ok := grantVectors[v.Name]
		header, err := grantHeaderOf(v.File)
		if (err == nil) != ok {
			t.Errorf("%s: the gate says %v", v.Name, err)
		}
		if err != nil || !ok {
			continue
		}
		passed++
		if want != v.Expect {
			t.Errorf("%s: expects %q, the table has %q", v.Name, v.Expect, want)
		}
		_, err = age.DecryptHeader(header, v.Identities...)
		if (err == nil) != (v.Expect == "success") {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Expect)
		}
		if err == nil {
			if dec, err := age.Decrypt(bytes.NewReader(v.File), v.Identities...); err != nil || dec == nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		}
	}
	if passed != len(grantVectors) {
		t.Errorf("%d of %d in the table", passed, len(grantVectors))
	}
}
