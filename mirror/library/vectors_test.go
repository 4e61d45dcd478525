package library

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
)

// The shared vectors of what is taken back, replaced and corrected: which articles a
// reader has in the end, whatever the order in which front pages came.
func TestVectors(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join("..", "..", "bundle", "testdata", "vectors")
	read := func(name string, to any) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var v struct {
		Channel  channel.ID
		Editions []struct {
			FrontJSON string `json:"front_json"`
			Articles  []struct {
				ID        string
				Edition   uint64
				Corrected string
			}
			Standing map[string]uint64
		}
	}
	read("vectors.json", &v)
	var fronts []*bundle.Front
	var corrected int
	for _, e := range v.Editions {
		f := &bundle.Front{}
		read(e.FrontJSON, f)
		fronts = append(fronts, f)
		for _, a := range e.Articles {
			if a.Corrected != "" {
				corrected++
			}
		}
		if len(e.Standing) == 0 {
			t.Fatalf("nothing stands after edition %d", f.Edition)
		}
	}
	if len(fronts) < 5 || corrected < 3 {
		t.Fatalf("%d front pages, %d articles corrected", len(fronts), corrected)
	}
	for n := range fronts {
		for _, order := range orders(n + 1) {
			l, err := Memory(ctx, nil)
			check(t, err)
			for _, i := range order {
				check(t, l.SetFront(ctx, v.Channel, fronts[i]))
			}
			got := map[string]uint64{}
			for h, err := range l.Headlines(ctx, Query{}) {
				check(t, err)
				got[h.ID] = h.Edition
			}
			if !maps.Equal(got, v.Editions[n].Standing) {
				t.Errorf("in the order %v: %v, want %v", order, got, v.Editions[n].Standing)
			}
			check(t, l.Close())
		}
	}
}

// orders are some in which n front pages may come: forward, backward, and each turned
// round so that another one is first.
func orders(n int) (out [][]int) {
	var forward []int
	for i := range n {
		forward = append(forward, i)
	}
	backward := slices.Clone(forward)
	slices.Reverse(backward)
	for i := range n {
		out = append(out, slices.Concat(forward[i:], forward[:i]), slices.Concat(backward[i:], backward[:i]))
	}
	return out
}
