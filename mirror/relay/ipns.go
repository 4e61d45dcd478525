package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
	"tamizdat/transport/ipfs"
	wire "tamizdat/transport/relay"
)

// ipnsFile is the channel's newest IPNS record, beside its editions.
const ipnsFile = "ipns.record"

// ipnsRecord is a channel's IPNS record, checked. It is immutable.
type ipnsRecord struct {
	name ipns.Name
	raw  []byte
	head *channel.Head
}

// checkIPNS checks all of a record that needs no store: the signature by the
// channel's IPNS key, the head in it, and that both name one edition. Errors
// wrap ipfs.ErrRecord.
func checkIPNS(roots *channel.Roots, raw []byte) (*ipnsRecord, error) {
	text, err := ipfs.Name(roots.IPNSKey())
	if err != nil {
		return nil, badRecord("%w", err)
	}
	compact, root, err := ipfs.HeadFromRecord(text, raw)
	if err != nil {
		return nil, err
	}
	r := &ipnsRecord{raw: raw}
	if r.name, err = ipns.NameFromString(text); err != nil {
		return nil, badRecord("%w", err)
	}
	if r.head, err = roots.Head(compact); err != nil {
		return nil, badRecord("%w", err)
	}
	if !r.head.Root.Equals(root) {
		return nil, badRecord("its value and the head in it name different editions")
	}
	return r, nil
}

func badRecord(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ipfs.ErrRecord, fmt.Errorf(format, args...))
}

// replaces reports whether r takes the place of old. Of one name the rule is
// that of all IPNS nodes (sequence number, then end of validity); a record of
// another name comes after a rotation of keys, and was checked against the
// newest root note; so does one of another generation of the log.
func (r *ipnsRecord) replaces(old *ipnsRecord) bool {
	if old == nil || !r.name.Equal(old.name) || r.head.Generation > old.head.Generation {
		return true
	}
	best, err := ipns.Validator{}.Select("", [][]byte{old.raw, r.raw})
	return err == nil && best == 1
}

// putIPNS stores a channel's record if it is newer than the one held, and
// returns the length of the record held then; it is durable. Errors that are
// the record's fault wrap ipfs.ErrRecord.
func (s *Store) putIPNS(ch channel.ID, raw []byte) (held int, err error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	newest, _ := s.newest(ch)
	if newest == nil {
		return 0, badRecord("no edition of the channel is held yet")
	}
	r, err := checkIPNS(newest.roots, raw)
	if err != nil {
		return 0, err
	}
	if !s.holds(ch, r.head) {
		return 0, badRecord("edition %d is not held, or is another one here", r.head.Edition)
	}
	if old := s.ipns(ch); old != nil {
		if !r.replaces(old) {
			return len(old.raw), nil
		}
		if r.head.Generation == old.head.Generation && r.head.Size < old.head.Size {
			return 0, badRecord("it goes back from edition %d to %d", old.head.Edition, r.head.Edition)
		}
	}
	if err := s.kept.save(context.Background(), s.kept.at(ch, ipnsFile), raw); err != nil {
		return 0, err
	}
	s.setIPNS(ch, r)
	return len(raw), nil
}

// setIPNS shows a record that is stored.
func (s *Store) setIPNS(ch channel.ID, r *ipnsRecord) {
	s.mu.Lock()
	s.shelf(ch).ipns = r
	tell := s.named
	s.mu.Unlock()
	if tell != nil {
		tell(r)
	}
}

// holds reports whether the very edition that h states is stored.
func (s *Store) holds(ch channel.ID, h *channel.Head) bool {
	for _, e := range s.snapshot(ch) {
		if e.head.Edition == h.Edition {
			return e.head.Leaf.Hash() == h.Leaf.Hash()
		}
	}
	return false
}

// ipns returns the channel's record, nil if none is held.
func (s *Store) ipns(ch channel.ID) *ipnsRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sh, ok := s.shelves[ch]; ok {
		return sh.ipns
	}
	return nil
}

// onIPNS has tell hear of every record that is stored from now on; nil ends it.
func (s *Store) onIPNS(tell func(*ipnsRecord)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = tell
}

// loadIPNS loads a channel's record after its editions. One that does not go
// with them (damaged, or made under keys that were replaced) is left out: the
// next push brings another.
func (s *Store) loadIPNS(ctx context.Context, ch channel.ID, sh *shelf) error {
	raw, err := s.kept.load(ctx, s.kept.at(ch, ipnsFile), transport.MaxRecord)
	if errors.Is(err, fs.ErrNotExist) || len(sh.editions) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := checkIPNS(sh.editions[len(sh.editions)-1].roots, raw)
	if err != nil {
		s.log.Warn("stored ipns record is not used", "err", err)
		return nil
	}
	sh.ipns = r
	return nil
}

// takeIPNS is the intake of records: PUT /ipns/CHANNEL.
func (h *Handler) takeIPNS(w http.ResponseWriter, r *http.Request, ch channel.ID) (code, held int, reason string) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", "PUT")
		return http.StatusMethodNotAllowed, 0, "method not allowed"
	}
	raw, err := io.ReadAll(io.LimitReader(newPatient(w, r.Body), transport.MaxRecord+1))
	if err != nil {
		return http.StatusBadRequest, 0, "the record was cut off"
	}
	if len(raw) > transport.MaxRecord {
		return http.StatusRequestEntityTooLarge, 0, "larger than an IPNS record may be"
	}
	held, err = h.store.putIPNS(ch, raw)
	switch {
	case errors.Is(err, ipfs.ErrRecord):
		h.log.Warn("ipns record refused", "err", err)
		return http.StatusUnprocessableEntity, 0, strings.TrimPrefix(err.Error(), ipfs.ErrRecord.Error()+": ")
	case err != nil:
		h.log.Error("ipns record not stored", "err", err)
		return http.StatusInternalServerError, 0, "the relay's disk fails"
	}
	return http.StatusNoContent, held, ""
}

// ipns serves a channel's record to its readers, under whatever spelling of its
// name, as the Trustless Gateway specification has it: as a record only.
func (h *Handler) ipns(w http.ResponseWriter, r *http.Request, ch channel.ID, name string) {
	w.Header().Set("Vary", "Accept")
	want, bad := negotiate(r, formatIPNS)
	if bad != nil {
		bad.send(w)
		return
	}
	held := h.store.ipns(ch)
	text, err := url.PathUnescape(strings.TrimRight(name, "/"))
	if err != nil || len(text) > 128 || held == nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if asked, err := ipns.NameFromString(text); err != nil || !asked.Equal(held.name) {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(held.raw)
	w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:16])+`"`)
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(held.maxAge(time.Now())/time.Second)))
	if noneMatch(r.Header, w.Header().Get("Etag")) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	want.locate(w, r)
	disposition(w, r, held.name.String()+".ipns-record")
	w.Header().Set("X-Ipfs-Path", "/ipns/"+held.name.String())
	w.Header().Set("Content-Type", wire.RecordType)
	w.Header().Set("Content-Length", strconv.Itoa(len(held.raw)))
	h.send(w, r, held.raw)
}

// maxAge is how long a cache may keep the record: not past its own end.
func (r *ipnsRecord) maxAge(now time.Time) time.Duration {
	rec, err := ipns.UnmarshalRecord(r.raw)
	if err != nil {
		return 0
	}
	end, err := rec.Validity()
	if err != nil {
		return 0
	}
	return max(0, min(ipnsMaxAge, end.Sub(now)))
}

// ipnsMaxAge is how long a cache may keep a record; records say the same of
// themselves.
const ipnsMaxAge = time.Minute
