package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/transport"
	"tamizdat/transport/dns"
)

// What a relay keeps in DNS of one channel: this much, this far back from its
// newest edition. Older editions are found by the front page's window list as
// long as they are here.
const (
	recordWindow = 7 * 24 * time.Hour
	recordBytes  = 64 << 20
)

// Records serves the carried channels' editions as DNS records: headlines,
// text, log and grants, never pictures. It implements dns.Store. Leaves are
// stretches of the stored CARs, so only their index is in memory.
type Records struct {
	store   *Store
	carried *carried
	log     *slog.Logger

	mu       sync.RWMutex
	channels map[channel.ID]*recordList
	holders  map[string][]channel.ID // of each label; see hold
	version  *version
}

// recordList is what of one channel is in DNS. Of a thousand editions each query
// asks one: which, the maps say, at about 40 bytes a record.
type recordList struct {
	files   []*recordFile // newest first
	records map[record.Name]*recordFile
	named   map[string]*recordFile // the newest that has something under a label
	chosen  map[string]bool        // of these labels, what is a grant's name in every edition
}

func newRecordList(files []*recordFile) *recordList {
	l := &recordList{files: files, records: map[record.Name]*recordFile{}, named: map[string]*recordFile{}, chosen: map[string]bool{}}
	for _, f := range slices.Backward(files) {
		if f.index == nil {
			continue
		}
		for name := range f.index.Names() {
			l.records[name] = f
		}
		for label, chosen := range f.index.Labels() {
			l.chosen[label] = chosen && (l.chosen[label] || l.named[label] == nil)
			l.named[label] = f
		}
	}
	return l
}

// recordFile is one edition in DNS; without an index it has no records.
type recordFile struct {
	e     *edition
	file  blob
	index *dns.Index
	bytes int64 // of recordBytes
	users int   // the list that it is in, and snapshots; Records.mu is held for it
}

var _ dns.Versioned = (*Records)(nil)

// Records prepares the relay's editions for a name server of those zones. Only
// after Start; Close the result before the relay.
func (r *Relay) Records(zones ...dns.Zone) (*Records, error) {
	if r.store == nil {
		return nil, errors.New("relay: not started")
	}
	v, err := loadVersion(filepath.Join(r.cfg.Dir, serialFile), zones)
	if err != nil {
		return nil, err
	}
	rs := &Records{store: r.store, carried: r.carried, log: r.cfg.Log, channels: map[channel.ID]*recordList{}, holders: map[string][]channel.ID{}, version: v}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, c := range r.carried.channels() {
		rs.refresh(c.id)
	}
	rs.renew()
	return rs, nil
}

// Close lets go of the editions' files; of those in a snapshot, with that.
func (rs *Records) Close() error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, l := range rs.channels {
		for _, f := range l.files {
			f.release()
		}
	}
	clear(rs.channels)
	clear(rs.holders)
	return nil
}

// Record implements dns.Store.
func (rs *Records) Record(_ context.Context, name record.Name) ([]byte, error) {
	return rs.find(func(l *recordList) ([]byte, bool) {
		f, ok := l.records[name]
		if !ok {
			return nil, false
		}
		// A leaf is bytes of a file: what rotted there is not handed out, and may be
		// in another edition as well.
		if rec, err := f.index.Record(f.file, name); err == nil && record.NameOf(rec) == name {
			return rec, true
		}
		for _, f := range l.files {
			if f.index == nil {
				continue
			}
			if rec, err := f.index.Record(f.file, name); err == nil && record.NameOf(rec) == name {
				return rec, true
			}
		}
		return nil, false
	})
}

// Named implements dns.Store.
func (rs *Records) Named(_ context.Context, label string) ([]byte, error) {
	carried := rs.carried.channels()
	for _, c := range carried { // before any is asked: another may have the label as well
		rs.catchUp(c.id)
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if ch, ok := rs.holder(label, carried); ok {
		if rec, ok := rs.channels[ch].named[label].index.Named(label); ok {
			return rec, nil
		}
	}
	return nil, transport.ErrNotFound
}

// find asks every channel.
func (rs *Records) find(ask func(*recordList) ([]byte, bool)) ([]byte, error) {
	for _, c := range rs.carried.channels() {
		if !rs.catchUp(c.id) {
			continue
		}
		rs.mu.RLock()
		if l := rs.channels[c.id]; l != nil {
			if rec, ok := ask(l); ok {
				rs.mu.RUnlock()
				return rec, nil
			}
		}
		rs.mu.RUnlock()
	}
	return nil, transport.ErrNotFound
}

// catchUp brings one channel's list in line with the store if it isn't; false if the store
// has nothing of the channel.
func (rs *Records) catchUp(ch channel.ID) bool {
	newest, _ := rs.store.newest(ch)
	if newest != nil && rs.stale(ch, newest) {
		rs.update(ch)
	}
	return newest != nil
}

func (rs *Records) stale(ch channel.ID, newest *edition) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	l := rs.channels[ch]
	return l == nil || len(l.files) == 0 || l.files[0].e != newest
}

// update brings one channel's list and the version in line with the store.
func (rs *Records) update(ch channel.ID) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.refresh(ch)
	rs.renew()
}

// refresh brings one channel's list in line with the store; rs.mu is held. An
// edition that can't be indexed has no records, and is not tried again.
func (rs *Records) refresh(ch channel.ID) {
	old := rs.list(ch)
	var now []*recordFile
	var oldest time.Time
	room := int64(recordBytes)
	for i, e := range rs.store.snapshot(ch) {
		if i == 0 {
			oldest = e.head.Time.Add(-recordWindow)
		}
		if e.head.Time.Before(oldest) || i > 0 && room <= 0 {
			break
		}
		var f *recordFile
		if at := slices.IndexFunc(old, func(f *recordFile) bool { return f.e == e }); at >= 0 {
			f = old[at]
			room -= f.bytes
		} else {
			var err error
			if f, err = openRecords(ch, e, room); err != nil {
				rs.log.Error("edition has no dns records", "edition", e.head.Edition, "err", err)
				f = &recordFile{e: e}
			}
			f.users = 1
			room -= f.bytes
		}
		now = append(now, f)
	}
	for _, f := range old {
		if !slices.Contains(now, f) {
			f.release()
		}
	}
	rs.hold(ch, newRecordList(now))
}

// hold makes l a channel's list; rs.mu is held. All channels are in one zone, and a
// publisher names grants as he likes. So what follows from a channel's ID is that
// channel's, and a grant's name belongs to who had it first, for as long as he has it,
// and then to the next. That is not remembered from one run to the next: after a start
// the channel that has been carried longer comes first.
func (rs *Records) hold(ch channel.ID, l *recordList) {
	var old map[string]*recordFile
	if was := rs.channels[ch]; was != nil {
		old = was.named
	}
	rs.channels[ch] = l
	for label := range old {
		if l.named[label] != nil {
			continue
		}
		rs.holders[label] = slices.DeleteFunc(rs.holders[label], func(o channel.ID) bool { return o == ch })
		if len(rs.holders[label]) == 0 {
			delete(rs.holders, label)
		}
	}
	type clash struct{ has, lacks channel.ID }
	clashes := map[clash]int{}
	for label := range l.named {
		if old[label] != nil {
			continue
		}
		switch others := rs.holders[label]; {
		case len(others) == 0:
			rs.holders[label] = []channel.ID{ch}
		case l.chosen[label]:
			clashes[clash{others[0], ch}]++
			rs.holders[label] = append(others, ch)
		default:
			clashes[clash{ch, others[0]}]++
			rs.holders[label] = append([]channel.ID{ch}, others...)
		}
	}
	for c, n := range clashes {
		rs.log.Warn("a channel has grants under names that are another's; it goes without them in dns",
			"channel", c.lacks, "other", c.has, "names", n)
	}
}

// holder is the channel, of those carried, whose thing stands under a label; rs.mu is held.
func (rs *Records) holder(label string, carried []carriedChannel) (channel.ID, bool) {
	for _, ch := range rs.holders[label] {
		if newest, _ := rs.store.newest(ch); newest == nil {
			continue
		}
		if slices.ContainsFunc(carried, func(c carriedChannel) bool { return c.id == ch }) {
			return ch, true
		}
	}
	return channel.ID{}, false
}

// list is a channel's editions; rs.mu is held.
func (rs *Records) list(ch channel.ID) []*recordFile {
	if l := rs.channels[ch]; l != nil {
		return l.files
	}
	return nil
}

// release lets one user go; the last one closes the file. Records.mu is held.
func (f *recordFile) release() {
	if f.users--; f.users == 0 && f.file != nil {
		f.file.Close()
	}
}

// openRecords indexes one edition, which must fit into room bytes.
func openRecords(ch channel.ID, e *edition, room int64) (*recordFile, error) {
	f, err := e.kept.open(e.path)
	if err != nil {
		return nil, err
	}
	r := &recordFile{e: e, file: f}
	d, err := dns.ReadEdition(io.NewSectionReader(f, 0, e.size), ch, room)
	if err == nil {
		r.bytes = d.Size()
		r.index, err = dns.NewIndex(d)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}
