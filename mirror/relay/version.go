package relay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"iter"
	"os"
	"reflect"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/bundle/record"
	"tamizdat/internal/durable"
	"tamizdat/transport/dns"
)

// serialFile remembers the SOA serial of what was in DNS last.
const serialFile = "dns.serial"

// watchEvery is how often it is looked for channels that are carried since.
const watchEvery = 5 * time.Second

// version is the content of the records at one time: its serial is the time in
// seconds of when it came, or one more than the last if the clock went back. It
// is on disk before anybody hears of it, so that it never goes back itself.
type version struct {
	path  string
	salt  []byte // of what is in a zone besides records
	saved savedVersion
	newer chan struct{} // closed when there is another one
}

// savedVersion is serialFile.
type savedVersion struct {
	Serial  uint32 `json:"serial"`
	Content []byte `json:"content"` // SHA-256
}

func loadVersion(path string, zones []dns.Zone) (*version, error) {
	v := &version{path: path, newer: make(chan struct{})}
	salt, err := json.Marshal(zones)
	if err != nil {
		return nil, err
	}
	v.salt = salt
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &v.saved); err != nil {
		return nil, fmt.Errorf("%s is damaged; remove it, and let each secondary fetch the zone anew", path)
	}
	return v, nil
}

// hash begins the hash of a content.
func (v *version) hash() hash.Hash {
	h := sha256.New()
	h.Write([]byte("tamizdat zone 2\n")) // to be counted up when records are made differently
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(v.salt))))
	h.Write(v.salt)
	return h
}

// set makes content the one that there is.
func (v *version) set(content []byte) error {
	if string(content) == string(v.saved.Content) {
		return nil
	}
	next := savedVersion{Serial: max(uint32(time.Now().Unix()), v.saved.Serial+1), Content: content}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.Write(v.path, 0o600, text); err != nil {
		return err
	}
	v.saved = next
	close(v.newer)
	v.newer = make(chan struct{})
	return nil
}

// renew brings the version in line with the lists; rs.mu is held.
func (rs *Records) renew() {
	h := rs.version.hash()
	for _, c := range rs.carried.channels() {
		h.Write(c.id[:])
		for _, f := range rs.list(c.id) {
			if f.index != nil {
				h.Write(f.e.headCID.Bytes())
			}
		}
	}
	if err := rs.version.set(h.Sum(nil)); err != nil {
		rs.log.Error("new version of the dns zone not written down; name servers don't hear of it", "err", err)
	}
}

// Version implements dns.Versioned.
func (rs *Records) Version() (serial uint32, newer <-chan struct{}) {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.version.saved.Serial, rs.version.newer
}

// Snapshot implements dns.Versioned. The editions' files stay open until it is
// released.
func (rs *Records) Snapshot() (*dns.Snapshot, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var held []heldList
	owners := map[string]channel.ID{}
	carried := rs.carried.channels()
	for label, holders := range rs.holders {
		if len(holders) > 1 {
			owners[label], _ = rs.holder(label, carried)
		}
	}
	for _, c := range carried {
		held = append(held, heldList{c.id, rs.list(c.id)})
		for _, f := range rs.list(c.id) {
			f.users++
		}
	}
	return &dns.Snapshot{
		Serial:  rs.version.saved.Serial,
		Entries: entries(held, owners),
		Release: func() {
			rs.mu.Lock()
			defer rs.mu.Unlock()
			for _, l := range held {
				for _, f := range l.files {
					f.release()
				}
			}
		},
	}, nil
}

// heldList is what of a channel is in a snapshot.
type heldList struct {
	id    channel.ID
	files []*recordFile
}

// entries yields what those editions have in DNS, each owner name once: of what
// stands under a label, the newest. owners says whose it is where several channels
// have one.
func entries(lists []heldList, owners map[string]channel.ID) iter.Seq2[dns.Entry, error] {
	return func(yield func(dns.Entry, error) bool) {
		seen := map[string]bool{}
		for _, l := range lists {
			for _, f := range l.files {
				if f.index == nil {
					continue
				}
				for e, err := range f.index.All(f.file) {
					// What rotted in a file is not handed on.
					if err == nil && (seen[e.Label] || !e.Named && record.NameOf(e.Data).Label() != e.Label) {
						continue
					}
					if owner, ok := owners[e.Label]; ok && e.Named && owner != l.id {
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
}

// Watch brings the records in line with the store when something comes, until ctx
// ends, not only when somebody asks: other name servers wait for the next version, and
// who had a label first is seen when it comes. It ends before Close.
func (rs *Records) Watch(ctx context.Context) {
	for ctx.Err() == nil {
		tick := time.NewTimer(watchEvery)
		cases := []reflect.SelectCase{
			{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
			{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(tick.C)},
		}
		for _, c := range rs.carried.channels() {
			_, wake := rs.store.newest(c.id)
			rs.catchUp(c.id)
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(wake)})
		}
		rs.mu.Lock()
		rs.renew() // if writing failed, or a channel is carried no more
		rs.mu.Unlock()
		reflect.Select(cases)
		tick.Stop()
	}
}
