package static

import (
	"strings"
	"testing"
)

// FuzzListing: a server's listing gives names without folders, or an error.
func FuzzListing(f *testing.F) {
	const one = `<d:response><d:href>/news/ipfs/bafy</d:href><d:propstat><d:status>HTTP/1.1 200 OK</d:status><d:prop><d:getcontentlength>12</d:getcontentlength><d:resourcetype/></d:prop></d:propstat></d:response>`
	whole := `<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">` + one + strings.Replace(one, "<d:resourcetype/>", "<d:resourcetype><d:collection/></d:resourcetype>", 1) + `</d:multistatus>`
	if got, err := parseListing(strings.NewReader(whole)); err != nil || len(got) != 1 || got["bafy"] != 12 {
		f.Fatalf("the seed: %v, %v", got, err)
	}
	for _, s := range []string{whole, whole[:200], strings.Replace(whole, "/news/ipfs/bafy", "%2e%2e%2fx", 1), strings.Replace(whole, "12", "-1", 1), `<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseListing(strings.NewReader(s))
		if err != nil && got != nil {
			t.Fatal("an error and a listing")
		}
		for name, size := range got {
			if strings.Contains(name, "/") && name != "/" || name == "" {
				t.Fatalf("the name %q", name)
			}
			if size < 0 {
				t.Fatalf("%q has %d bytes", name, size)
			}
		}
	})
}
