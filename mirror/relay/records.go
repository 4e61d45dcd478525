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
	version  *version
}

// recordList is what of one channel is in DNS. Of a thousand editions each query
// asks one: which, the maps say, at about 40 bytes a record.
type recordList struct {
	files   []*recordFile // newest first
	records map[record.Name]*recordFile
	named   map[string]*recordFile // the newest that has something under a label
}

func newRecordList(files []*recordFile) *recordList {
	l := &recordList{files: files, records: map[record.Name]*recordFile{}, named: map[string]*recordFile{}}
	for _, f := range slices.Backward(files) {
		if f.index == nil {
			continue
		}
		for name := range f.index.Names() {
			l.records[name] = f
		}
		for label := range f.index.Labels() {
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
	bytes int64 // of the layers in DNS
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
	rs := &Records{store: r.store, carried: r.carried, log: r.cfg.Log, channels: map[channel.ID]*recordList{}, version: v}
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
	return rs.find(func(l *recordList) ([]byte, bool) {
		f, ok := l.named[label]
		if !ok {
			return nil, false
		}
		return f.index.Named(label)
	})
}

// find asks every channel.
func (rs *Records) find(ask func(*recordList) ([]byte, bool)) ([]byte, error) {
	for _, c := range rs.carried.channels() {
		if newest, _ := rs.store.newest(c.id); newest == nil {
			continue
		} else if rs.stale(c.id, newest) {
			rs.update(c.id)
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
	rs.channels[ch] = newRecordList(now)
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
		for _, pieces := range [][]dns.Piece{d.Front, d.Text, d.Dict, d.Log} {
			for _, p := range pieces {
				r.bytes += int64(len(p.Data))
			}
		}
		r.index, err = dns.NewIndex(d)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}
