package library

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"tamizdat/transport"
)

func memory(t *testing.T) *Library {
	t.Helper()
	l, err := Memory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestMemory(t *testing.T) {
	l, other := memory(t), memory(t)
	check(t, l.SetState(t.Context(), chA, []byte("state")))
	b := block(3000, "ciphertext")
	check(t, l.PutBlocks(t.Context(), chA, 1, checked(t, b)))

	// A call that is cancelled must not cost the connection, and with it all there is.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.SetState(gone, chA, []byte("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled call: %v", err)
	}

	if got, err := l.State(t.Context(), chA); err != nil || string(got) != "state" {
		t.Errorf("state %q, %v", got, err)
	}
	if got, err := l.Block(t.Context(), b.CID); err != nil || !bytes.Equal(got, b.Data) {
		t.Errorf("block of %d bytes, %v", len(got), err)
	}
	_, err := other.State(t.Context(), chA)
	wantErr(t, err, transport.ErrNotFound)
	wantErr(t, l.ChangePassphrase([]byte("x")), errInMemory)
	check(t, l.Close())
	if _, err := l.State(t.Context(), chA); err == nil {
		t.Error("a closed library answers")
	}
}

// Simulations open libraries inside a bubble; every goroutine of theirs must be
// of that bubble and end there.
func TestMemoryInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check(t, memory(t).SetNote(t.Context(), "k", []byte("v")))
	})
}
