package static_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"tamizdat/bundle"
	"tamizdat/transport"
	"tamizdat/transport/static"
)

// TestHeadAlone: of an edition that a mirror holds one file is written for a head that
// was signed later, in every kind of store; and the store can be read back.
func TestHeadAlone(t *testing.T) {
	for name, mk := range stores {
		t.Run(name, func(t *testing.T) {
			again := mk(t)
			c := published(t, 2)
			first, second := c.Editions()[0], c.Editions()[1]
			publish := func(want error, e transport.Source) int64 {
				t.Helper()
				sent, err := static.New(again()).PublishHead(t.Context(), e)
				if !errors.Is(err, want) {
					t.Fatalf("%v instead of %v", err, want)
				}
				return sent
			}
			publish(transport.ErrNotFound, first.Source())
			if err := static.New(again()).Publish(t.Context(), first.Source(), nil); err != nil {
				t.Fatal(err)
			}
			publish(transport.ErrNotFound, second.Source())
			if err := static.New(again()).Publish(t.Context(), second.Source(), nil); err != nil {
				t.Fatal(err)
			}
			publish(transport.ErrNotFound, first.Source())
			beat := c.Heartbeat(time.Hour)
			if sent := publish(nil, beat.Source()); sent <= 0 || sent > beat.Source().Size/2 {
				t.Errorf("%d bytes of %d were sent", sent, beat.Source().Size)
			}
			if sent := publish(nil, second.Source()); sent != 0 {
				t.Errorf("an older head took the place of a later one: %d bytes", sent)
			}

			r := static.NewStoreReader(again())
			raw, err := r.Head(t.Context(), c.ID(), 0)
			if err != nil || !bytes.Equal(raw, beat.Head.Text()) {
				t.Errorf("another head is there: %v", err)
			}
			if note, err := r.RootNote(t.Context(), c.ID(), 1); err != nil || !bytes.Equal(note, c.Roots().Notes()[0]) {
				t.Errorf("root note: %v", err)
			}
			for _, v := range []uint64{0, 2} {
				if _, err := r.RootNote(t.Context(), c.ID(), v); !errors.Is(err, transport.ErrNotFound) {
					t.Errorf("root note %d: %v", v, err)
				}
			}
			if _, err := r.Grant(t.Context(), c.ID(), c.GrantName()); err != nil {
				t.Errorf("grant: %v", err)
			}
			want := beat.Blocks()
			stranger := bundle.RawCID([]byte("not there"))
			wants := append(beat.Wants(), transport.Want{CID: stranger})
			missing := 0
			for b, err := range r.Fetch(t.Context(), transport.Request{Edition: beat.Where(), Wants: wants}) {
				if e := (*transport.WantError)(nil); errors.As(err, &e) && e.CID.Equals(stranger) && errors.Is(err, transport.ErrNotFound) {
					missing++
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b.Data, want[b.CID]) {
					t.Errorf("block %s differs or came twice", b.CID)
				}
				delete(want, b.CID)
			}
			if len(want) > 0 || missing != 1 {
				t.Errorf("%d blocks did not come, %d are said not to be there", len(want), missing)
			}
		})
	}
}
