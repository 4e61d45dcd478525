package bundle

import (
	"cmp"
	"fmt"
	"slices"

	"tamizdat/bundle/channel"
)

// frontPage joins new headlines with those of the window.
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
	out := map[string]bool{}
	for _, e := range f.Articles {
		out[e.ID] = true
	}
	for _, id := range in.Gone {
		if slices.ContainsFunc(p.entries, func(e Entry) bool { return e.ID == id }) {
			return fmt.Errorf("article %s: both packed and taken back", id)
		}
		out[id] = true
	}
	for _, old := range in.Replaces {
		out[old] = true
	}
	p.pastEditions(f)
	if in.Previous != nil {
		for _, e := range in.Previous.Articles {
			inWindow := slices.ContainsFunc(f.Past, func(p Past) bool { return p.Edition == e.Edition })
			if !out[e.ID] && inWindow && len(f.Articles) < cmp.Or(in.Keep, DefaultKeep) {
				f.Articles = append(f.Articles, e)
			}
		}
	}
	slices.SortStableFunc(f.Articles, func(a, b Entry) int { return b.Date.Compare(a.Date) })
	if f.Articles == nil {
		f.Articles = []Entry{}
	}
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
	since := p.in.Date.Add(-cmp.Or(p.in.Window, defaultWindow))
	for _, e := range known[max(0, len(known)-maxPast):] {
		if !e.Date.Before(since) {
			f.Past = append(f.Past, e)
		}
	}
}
