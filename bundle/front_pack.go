package bundle

import (
	"cmp"
	"fmt"
	"slices"

	"tamizdat/bundle/channel"
)

// frontPage makes the front page: what is new, and what of the one before still stands.
func (p *packer) frontPage() error {
	in := p.in
	f := &Front{
		V: 1, Channel: in.Channel, Name: in.Name, Langs: in.Langs, Edition: in.Edition, Epoch: in.Epoch,
		Date: in.Date, Gone: in.Gone, Replaces: in.Replaces, Articles: p.entries,
		Leaves: channel.JoinHashes(in.Leaves[max(0, len(in.Leaves)-FrontLeaves):]),
	}
	if f.Langs == nil {
		f.Langs = []string{}
	}
	p.pastEditions(f)
	if err := p.headlines(f); err != nil {
		return err
	}
	p.describeLayers(f)
	if err := f.check(); err != nil {
		return err
	}
	b, err := marshal(f)
	if err != nil {
		return err
	}
	p.front = f
	return p.sealLayer(LayerFront, compress(b))
}

// headlines joins the new ones with those of the window that were neither replaced nor
// taken back, newest first, as many as there is room for.
func (p *packer) headlines(f *Front) error {
	out := map[string]bool{}
	for _, e := range p.entries {
		out[e.ID] = true
	}
	for _, id := range p.in.Gone {
		if slices.ContainsFunc(p.entries, func(e Entry) bool { return e.ID == id }) {
			return fmt.Errorf("article %s: both packed and taken back", id)
		}
		out[id] = true
	}
	for _, old := range p.in.Replaces {
		out[old] = true
	}
	if p.in.Previous != nil {
		for _, e := range p.in.Previous.Articles {
			inWindow := slices.ContainsFunc(f.Past, func(p Past) bool { return p.Edition == e.Edition })
			if !out[e.ID] && inWindow && len(f.Articles) < cmp.Or(p.in.Keep, DefaultKeep) {
				f.Articles = append(f.Articles, e)
			}
		}
	}
	slices.SortStableFunc(f.Articles, func(a, b Entry) int { return b.Date.Compare(a.Date) })
	if f.Articles == nil {
		f.Articles = []Entry{}
	}
	return nil
}

// describeLayers says what opens the edition's layers, and where DNS has them.
func (p *packer) describeLayers(f *Front) {
	for _, l := range []struct {
		layer string
		to    **Layer
	}{{LayerText, &f.Text}, {LayerMedia, &f.Media}} {
		if file := p.layers[l.layer]; file != nil {
			*l.to = &Layer{Prologue: slices.Clone(file.prologue())}
		}
	}
	if f.Text != nil {
		f.Text.Names = namesOf(p.layers[LayerText].records())
	}
	if l := p.layers[LayerDict]; l != nil {
		f.Dict = &Dict{Edition: p.made, Size: l.size, Names: namesOf(l.records())}
	}
	if l := p.layers[LayerLog]; l != nil {
		f.Log = namesOf(l.records())
	}
}

// pastEditions names the older editions of the window, so that a reader who
// missed them finds their front pages and articles.
func (p *packer) pastEditions(f *Front) {
	prev := p.in.Previous
	if prev == nil {
		return
	}
	known := slices.Clone(prev.Past)
	if l := p.in.PreviousLeaf; l != nil {
		last := Past{Edition: l.Edition, Epoch: l.Epoch, Root: l.Root.String(), Date: l.Date, Front: namesOf(l.Front)}
		if prev.Text != nil {
			last.Text = prev.Text.Names
		}
		last.Dict = prev.Dict
		for i := range prev.Articles {
			if prev.Articles[i].Edition == last.Edition {
				last.Articles++
			}
		}
		known = append(known, last)
	}
	since := p.in.Date.Add(-cmp.Or(p.in.Window, DefaultWindow))
	for _, e := range known[max(0, len(known)-maxPast):] {
		if !e.Date.Before(since) {
			f.Past = append(f.Past, e)
		}
	}
}
