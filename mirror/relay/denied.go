package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"tamizdat/bundle/channel"
)

// A publisher who has revoked a batch says so to each of its relays, by the tag
// that the batch has there: the relay is a website to its readers from then on,
// to those who wait for news, too. The list is signed by the channel's log key and
// made for this relay alone. Relays don't hand it on to each other: whoever could
// would know of relays that he should not know of. One that can't be reached goes on
// answering a revoked batch, with editions that it can't open.

// deniedFile is the channel's newest list, beside its editions.
const deniedFile = "denied.note"

// deniedTo reports whether a list takes the place of old: it is of a later epoch,
// or made for a key of the relay's that is new, or signed by a log key that has
// replaced old's.
func deniedTo(d, old *channel.Denied) bool {
	return old == nil || d.Pin != old.Pin || d.Generation > old.Generation || d.Generation == old.Generation && d.Epoch > old.Epoch
}

// putDenied stores a channel's list for the relay with that pin if it is newer
// than the one held. It is durable and heeded on return. Errors that are the list's
// fault wrap channel.ErrDenied.
func (s *Store) putDenied(ch channel.ID, pin channel.Pin, raw []byte) error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", channel.ErrDenied, what) }
	s.denying.Lock()
	defer s.denying.Unlock()
	newest, _ := s.newest(ch)
	if newest == nil {
		return bad("no edition of the channel is held yet")
	}
	d, err := newest.roots.Denied(raw)
	switch old, _ := s.denied(ch); {
	case err != nil:
		return err
	case !d.Current:
		return bad("signed by a log key that was replaced")
	case d.Pin != pin:
		return bad("made for another relay")
	case deniedTo(d, old):
	case d.Epoch < old.Epoch:
		return bad(fmt.Sprintf("that of epoch %d is held already; was the publisher's folder restored from a backup?", old.Epoch))
	case !slices.Equal(d.Tags, old.Tags):
		return bad(fmt.Sprintf("another one of epoch %d is held", old.Epoch))
	default:
		return nil
	}
	if err := s.kept.save(context.Background(), s.kept.at(ch, deniedFile), raw); err != nil {
		return err
	}
	s.setDenied(ch, d)
	s.log.Info("list of revoked batches stored", "epoch", d.Epoch, "batches", len(d.Tags))
	return nil
}

// setDenied heeds a list that is stored, and wakes whoever waits.
func (s *Store) setDenied(ch channel.ID, d *channel.Denied) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelf(ch)
	sh.denied = d
	close(sh.shut)
	sh.shut = make(chan struct{})
}

// denied returns the channel's list, nil if none is held, and a channel that is
// closed when another one comes, nil if the channel is not known yet.
func (s *Store) denied(ch channel.ID) (*channel.Denied, <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sh, ok := s.shelves[ch]; ok {
		return sh.denied, sh.shut
	}
	return nil, nil
}

// denies reports whether the channel's batch of that tag was revoked.
func (s *Store) denies(ch channel.ID, tag [8]byte) bool {
	d, _ := s.denied(ch)
	return d.Has(tag)
}

// loadDenied loads a channel's list after its editions. It holds on when the keys
// are renewed. One that is damaged lets nobody's news be lost: whoever was revoked
// is let in until the next push, and the log says so.
func (s *Store) loadDenied(ctx context.Context, ch channel.ID, sh *shelf) error {
	raw, err := s.kept.load(ctx, s.kept.at(ch, deniedFile), channel.MaxDenied)
	if errors.Is(err, fs.ErrNotExist) || len(sh.editions) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if sh.denied, err = sh.editions[len(sh.editions)-1].roots.Denied(raw); err != nil {
		s.log.Error("stored list of revoked batches is not used: they are let in", "err", err)
	}
	return nil
}

// refreshDenied takes over a channel's list if another relay of the fleet has
// stored a newer one.
func (s *Store) refreshDenied(ctx context.Context, ch channel.ID, o object) error {
	newest, _ := s.newest(ch)
	if o.file == "" || newest == nil || s.lists[ch] == o.tag {
		return nil
	}
	raw, err := s.kept.load(ctx, s.kept.at(ch, deniedFile), channel.MaxDenied)
	if err != nil {
		return fmt.Errorf("list of revoked batches: %w", err)
	}
	s.denying.Lock()
	defer s.denying.Unlock()
	d, err := newest.roots.Denied(raw)
	if err != nil {
		s.log.Error("list of revoked batches in the bucket is not used", "err", err)
	} else if old, _ := s.denied(ch); deniedTo(d, old) {
		s.setDenied(ch, d)
	}
	s.lists[ch] = o.tag
	return nil
}

// takeDenied is the intake of lists: PUT /denied/CHANNEL.
func (h *Handler) takeDenied(w http.ResponseWriter, r *http.Request, ch channel.ID) (code, held int, reason string) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", "PUT")
		return http.StatusMethodNotAllowed, 0, "method not allowed"
	}
	raw, err := io.ReadAll(io.LimitReader(newPatient(w, r.Body), channel.MaxDenied+1))
	if err != nil {
		return http.StatusBadRequest, 0, "the list was cut off"
	}
	if len(raw) > channel.MaxDenied {
		return http.StatusRequestEntityTooLarge, 0, "larger than a list of revoked batches may be"
	}
	h.store.catchUp(r.Context())
	switch err := h.store.putDenied(ch, h.pin, raw); {
	case errors.Is(err, channel.ErrDenied):
		h.log.Warn("list of revoked batches refused", "err", err)
		return http.StatusUnprocessableEntity, 0, strings.TrimPrefix(err.Error(), channel.ErrDenied.Error()+": ")
	case err != nil:
		h.log.Error("list of revoked batches not stored", "err", err)
		return http.StatusInternalServerError, 0, "the relay's disk fails"
	}
	return http.StatusNoContent, len(raw), ""
}
