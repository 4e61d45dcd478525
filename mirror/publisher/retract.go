package publisher

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tamizdat/bundle"
)

// What has been taken back stands in the editions and nowhere else: each front page
// names all of it, so that a reader who missed any edition hears of it, and an
// article comes back by being packed again. So a folder that was restored, or that
// took its editions over from a target, knows it too.

var (
	// ErrNoArticle: no article that stands is called so.
	ErrNoArticle = errors.New("no article of that name has been packed")
	// ErrNotGone: Restore was called for what was not taken back.
	ErrNotGone = errors.New("that article was not taken back")
)

// TakenBack are the IDs of the articles that were taken back and have not come back, the
// oldest first.
func (p *Publisher) TakenBack() []string {
	_, gone := p.standing()
	return gone
}

// standing are the fingerprints of the articles that were packed and stand, by ID;
// gone are those that were taken back, the oldest first.
func (p *Publisher) standing() (last map[string][]byte, gone []string) {
	return standing(p.editions)
}

func standing(editions []edition) (last map[string][]byte, gone []string) {
	last = map[string][]byte{}
	dead := map[string]bool{}
	revive := func(lives func(id string) bool) {
		gone = slices.DeleteFunc(gone, func(id string) bool {
			if lives(id) {
				delete(dead, id)
			}
			return !dead[id]
		})
	}
	blind := false // of an edition nobody knows what it brought back
	for _, e := range editions {
		switch {
		case e.Front == nil:
			blind = true
		case blind && len(e.Front.Gone) < bundle.MaxGone: // it names all that is gone
			revive(func(id string) bool { return !slices.Contains(e.Front.Gone, id) })
			blind = false
		}
		for _, id := range e.gone() {
			if !dead[id] {
				dead[id], gone = true, append(gone, id)
			}
			delete(last, id)
		}
		for id, sum := range e.Packed {
			if last[id] = sum; dead[id] {
				revive(func(o string) bool { return o == id })
			}
		}
	}
	return last, gone
}

// gone are the articles that the edition says were taken back, none if it is hollow:
// later ones repeat them.
func (e *edition) gone() []string {
	if e.Front == nil {
		return nil
	}
	return e.Front.Gone
}

// goneWith is what the next edition takes back: what was so far and more, without
// what it brings. Of too many the newest.
func (p *Publisher) goneWith(more []string, articles []bundle.Article) []string {
	_, gone := p.standing()
	gone = append(gone, more...)
	for _, a := range articles {
		gone = slices.DeleteFunc(gone, func(id string) bool { return id == a.ID })
	}
	return gone[max(0, len(gone)-bundle.MaxGone):]
}

// withheld are the IDs of those of the articles that Fresh leaves out because they
// were taken back.
func (p *Publisher) withheld(articles []bundle.Article) (ids []string) {
	_, gone := p.standing()
	for _, a := range articles {
		if slices.Contains(gone, a.ID) && !p.restored[a.ID] && !slices.Contains(ids, a.ID) {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// Articles are the headlines of all that was packed and stands, newest first.
func (p *Publisher) Articles() []bundle.Entry {
	last, _ := p.standing()
	all := map[string]bundle.Entry{}
	for _, e := range p.editions {
		if e.Front == nil { // hollow
			continue
		}
		for _, a := range e.Front.Articles {
			if _, ok := last[a.ID]; ok {
				all[a.ID] = a
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b bundle.Entry) int {
		if c := b.Date.Compare(a.Date); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// passed tells the headlines that edition n brought apart: gone are those that were
// taken back or corrected since, left all others.
func (p *Publisher) passed(n uint64) (gone, left []bundle.Entry) {
	stands := map[string]uint64{}
	for _, a := range p.Articles() {
		stands[a.ID] = a.Edition
	}
	if p.editions[n].Front == nil { // hollow
		return nil, nil
	}
	for _, a := range p.editions[n].Front.Articles {
		if a.Edition != n {
			continue
		}
		if edition, ok := stands[a.ID]; ok && edition == n {
			left = append(left, a)
		} else {
			gone = append(gone, a)
		}
	}
	return gone, left
}

// minID is how many characters of an ID say which article is meant.
const minID = 4

// Article finds an article that stands, by its ID, the beginning of it (four
// characters at least), or its source address. The error wraps ErrNoArticle if there
// is none.
func (p *Publisher) Article(name string) (bundle.Entry, error) {
	var found []bundle.Entry
	id := strings.ToLower(name)
	for _, a := range p.Articles() {
		if len(id) >= minID && strings.HasPrefix(a.ID, id) || name != "" && a.Source == name {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return bundle.Entry{}, ErrNoArticle
	case 1:
		return found[0], nil
	}
	return bundle.Entry{}, errors.New("several articles begin so; name more characters of the ID")
}

// Retract takes articles back that stand, by ID, with an edition of its own that it
// packs at once: readers delete them at their next sync, and Pack leaves them out
// until Restore. Copies that were made outside the program, and what relays still
// hold of the older editions, it does not reach.
func (p *Publisher) Retract(ids []string, now time.Time) (*Packing, error) {
	last, _ := p.standing()
	var gone []string
	for _, id := range ids {
		if _, ok := last[id]; !ok {
			return nil, fmt.Errorf("%s: %w", id, ErrNoArticle)
		}
		if !slices.Contains(gone, id) {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil, ErrNoArticle
	}
	out := &Packing{Sizes: map[string]int64{}}
	if err := p.packInto(out, nil, gone, now); err != nil {
		return nil, err
	}
	return out, nil
}

// Restore lets the next Pack of this Publisher bring an article back that was taken
// back. name is its ID or the beginning of it; what was meant is returned. The error
// wraps ErrNotGone if it is none.
func (p *Publisher) Restore(name string) (id string, err error) {
	_, gone := p.standing()
	gone = slices.DeleteFunc(gone, func(id string) bool { return len(name) < minID || !strings.HasPrefix(id, strings.ToLower(name)) })
	switch len(gone) {
	case 0:
		return "", ErrNotGone
	case 1:
	default:
		return "", errors.New("several articles begin so; name more characters of the ID")
	}
	if p.restored == nil {
		p.restored = map[string]bool{}
	}
	p.restored[gone[0]] = true
	return gone[0], nil
}
