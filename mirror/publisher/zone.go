package publisher

import (
	"fmt"
	"io"
	"iter"
	"time"

	"tamizdat/transport/dns"
)

// zoneBytes bounds what one edition may put into DNS.
const zoneBytes = 64 << 20

// Zone writes the DNS zone file of what is published: head, root notes and
// grants, and front page, texts and log of every edition in the window.
func (p *Publisher) Zone(w io.Writer, zone dns.Zone, now time.Time) error {
	if p.Size() == 0 {
		return errNothingPacked
	}
	zone.Serial = uint32(now.Unix())
	return dns.WriteZone(w, zone, p.records())
}

// records yields the entries of the window, each owner name once.
func (p *Publisher) records() iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		seen := map[string]bool{}
		window := p.window()
		for i := len(window) - 1; i >= 0; i-- {
			for e, err := range p.editionRecords(window[i], i == len(window)-1) {
				if err == nil && seen[e.Label] {
					continue
				}
				seen[e.Label] = true
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

func (p *Publisher) editionRecords(n uint64, newest bool) iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		fail := func(err error) { yield(dns.Entry{}, fmt.Errorf("edition %d: %w", n, err)) }
		f, size, err := p.Source(n)
		if err != nil {
			fail(err)
			return
		}
		defer f.Close()
		ed, err := dns.ReadEdition(io.NewSectionReader(f, 0, size), p.Channel(), zoneBytes)
		if err != nil {
			fail(err)
			return
		}
		if !newest { // of an older edition only what is found by hash
			ed.Head, ed.RootNotes, ed.Grants = nil, nil, nil
		}
		x, err := dns.NewIndex(ed)
		if err != nil {
			fail(err)
			return
		}
		for e, err := range x.All(f) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
