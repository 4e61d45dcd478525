package publisher

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tamizdat/internal/durable"
	"tamizdat/transport/dns"
)

// zoneBytes bounds what one edition may put into DNS.
const zoneBytes = 64 << 20

// Zone writes the DNS zone file of what is published: head, root notes and
// grants, and front page, texts and log of every edition in the window; with
// pointer only what leads to the newest front page. It returns how many owner
// names there are, wildcards included.
func (p *Publisher) Zone(w io.Writer, zone dns.Zone, pointer bool, now time.Time) (names int, err error) {
	switch {
	case p.Size() == 0:
		return 0, errNothingPacked
	case p.torn(): // without a head, the zone would take the channel off DNS
		return 0, errTorn
	}
	if zone.Serial, err = p.zoneSerial(now); err != nil {
		return 0, err
	}
	err = dns.WriteZone(w, zone, func(yield func(dns.Entry, error) bool) {
		for e, err := range p.records(pointer) {
			if names++; e.Named {
				names++
			}
			if !yield(e, err) {
				return
			}
		}
	})
	return names, err
}

// serialFile is the last serial that a zone file had: name servers take no smaller
// one for news.
const serialFile = "zone.serial"

// zoneSerial is the time in seconds, or one more than the last if the clock went
// back. It is durable on return.
func (p *Publisher) zoneSerial(now time.Time) (uint32, error) {
	name := filepath.Join(p.dir, serialFile)
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	var last uint64
	if err == nil {
		if last, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32); err != nil {
			return 0, fmt.Errorf("%s is damaged; remove it", serialFile)
		}
	}
	serial := max(uint32(now.Unix()), uint32(last)+1)
	return serial, durable.Write(name, 0o600, fmt.Appendf(nil, "%d\n", serial))
}

// records yields the entries of the window, each owner name once.
func (p *Publisher) records(pointer bool) iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		seen := map[string]bool{}
		window := p.window()
		if pointer {
			window = window[len(window)-1:]
		}
		for i := len(window) - 1; i >= 0; i-- {
			if p.editions[window[i]].hollow() {
				continue
			}
			for e, err := range p.editionRecords(window[i], i == len(window)-1, pointer) {
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

func (p *Publisher) editionRecords(n uint64, newest, pointer bool) iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		fail := func(err error) { yield(dns.Entry{}, fmt.Errorf("edition %d: %w", n, err)) }
		f, size, err := p.Source(n)
		if err != nil {
			fail(err)
			return
		}
		defer f.Close()
		ed, err := p.inDNS(f, size, pointer)
		if err != nil {
			fail(err)
			return
		}
		if !newest { // of an older edition only what is found by hash
			ed.Head, ed.RootNotes, ed.Grants, ed.IPNS = nil, nil, nil, ""
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

// inDNS is what an edition puts into DNS. With pointer that is what leads to its
// headlines: head, root notes, grants, directory and front page, some 400 records,
// most of them of grants (300 kB as a zone file). Usual limits of big providers, not
// all of which are in their own documentation, and which change:
//
//	Amazon Route 53      10,000 records, 1,000 in an imported file; a change of at most
//	                     32,000 characters, a value of 4,000; \DDD is octal
//	Azure DNS            10,000 record sets
//	Cloudflare           200 records (free, zones since September 2024), 3,500 (Pro);
//	                     zone files of 256 KiB, records of 4,096 bytes
//
// A full record takes some 3,400 characters in a zone file, where \DDD is decimal (RFC 1035).
// None of the three takes updates (RFC 2136), so their files are put there by hand.
//
// A megabyte of text takes 4,600 records, in both classes together.
func (p *Publisher) inDNS(car io.ReaderAt, size int64, pointer bool) (*dns.Edition, error) {
	ed, err := dns.ReadEdition(io.NewSectionReader(car, 0, size), p.Channel(), zoneBytes)
	if err == nil && pointer {
		ed.Text, ed.Dict, ed.Log = nil, nil, nil
	}
	return ed, err
}
