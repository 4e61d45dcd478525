package bundle_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"testing"
)

// TestFrozen: what is in testdata/vectors/frozen was made when version 1 was frozen, and
// is made anew by nothing. It opens as it did then, for ever; and of the other vectors
// those that are not random are what they were.
func TestFrozen(t *testing.T) {
	listed := 0
	for line := range strings.Lines(string(readVector(t, "frozen/sha256"))) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok {
			t.Fatalf("malformed line %q", line)
		}
		listed++
		if got := sha256.Sum256(readVector(t, path.Join("frozen", name))); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s is another file: this is no more version 1", name)
		}
	}
	if listed < 70 {
		t.Errorf("%d files", listed)
	}
	if got, want := frozenArticles(t), string(readVector(t, "frozen/articles.txt")); got != want {
		t.Errorf("the frozen editions say\n%s\nand not\n%s", got, want)
	}
}

// frozenArticles is what the frozen editions say: of each article that stands the
// edition that it lies in, its ID, the hashes of its text and of its pictures, and its
// title.
func frozenArticles(t *testing.T) string {
	t.Helper()
	_, volumes, front := readChannel(t, path.Join(vectorDir, "frozen"),
		"edition-0.car", "edition-1.car", "edition-2.car", "edition-3.car", "edition-4.car")
	var b strings.Builder
	for i := range front.Articles {
		e := &front.Articles[i]
		a, err := volumes[e.Edition].Article(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s %x", e.Edition, a.ID, sha256.Sum256([]byte(a.Body)))
		for j := range e.Images {
			img, err := volumes[e.Edition].Image(e, j)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(img.Data))
		}
		fmt.Fprintf(&b, " %s\n", a.Title)
	}
	return b.String()
}
