package publisher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tamizdat/internal/durable"
	"tamizdat/transport/ipfs"
	"tamizdat/transport/pkarr"
)

// recordFile is the last IPNS record signed: its number must never be undercut.
const recordFile = "ipns.record"

// recordValidity is how long IPNS nodes believe a record. It is no measure of
// fresh news: that is the time in the head, which readers see. So it is not the
// usual 48 hours but long enough that a publisher who can't push for weeks
// stays findable: relays put the same record into the DHT every few hours,
// whose nodes forget it after 48, and each push signs a new one.
const recordValidity = 60 * 24 * time.Hour

// Record signs the IPNS record of the newest head anew. Its number is the time
// in seconds, so that a folder restored from a backup goes on above what it
// signed before; after a clock that was ahead it is one more than the last,
// since IPNS nodes would ignore a smaller one. It is durable on return.
func (p *Publisher) Record(now time.Time) ([]byte, error) {
	if p.Size() == 0 {
		return nil, errNothingPacked
	}
	head, err := p.headOf(p.Size() - 1)
	if err != nil {
		return nil, err
	}
	last, err := p.lastRecord()
	if err != nil {
		return nil, err
	}
	seq := max(uint64(max(0, now.Unix())), last+1)
	raw, err := ipfs.Record(p.keys.key(p.keys.IPNS), head, seq, time.Until(now.Add(recordValidity)))
	if err != nil {
		return nil, err
	}
	return raw, durable.Write(filepath.Join(p.dir, recordFile), 0o600, raw)
}

// packet signs the newest head for BitTorrent's DHT, under the number of the IPNS record
// that was signed with it: so that grows as that does, and nothing else has to be kept.
func (p *Publisher) packet(record []byte) ([]byte, error) {
	head, err := p.headOf(p.Size() - 1)
	if err != nil {
		return nil, err
	}
	seq, err := ipfs.Sequence(record)
	if err != nil {
		return nil, err
	}
	item, err := pkarr.Sign(p.keys.key(p.keys.IPNS), head, time.Unix(int64(seq), 0))
	if err != nil {
		return nil, err
	}
	return item.Bytes(), nil
}

// lastRecord is the number of the last record signed, 0 if there is none.
func (p *Publisher) lastRecord() (uint64, error) {
	raw, err := os.ReadFile(filepath.Join(p.dir, recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	seq, err := ipfs.Sequence(raw)
	if err != nil {
		return 0, fmt.Errorf("%s is damaged; restore it from a backup, or remove it", recordFile)
	}
	return seq, nil
}
