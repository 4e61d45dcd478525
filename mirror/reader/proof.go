package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"tamizdat/bundle"
	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	newsync "tamizdat/mirror/sync"
)

// proof is what Proof writes.
type proof struct {
	V       int        `json:"v"`
	Channel channel.ID `json:"channel"`
	// RootNotes lead from the channel's ID to the keys that signed the heads.
	RootNotes []string    `json:"root_notes"`
	Forks     []forkProof `json:"forks"`
}

// forkProof is channel.Evidence, its heads as the texts that they are.
type forkProof struct {
	Ours   string          `json:"ours,omitempty"`
	Theirs string          `json:"theirs"`
	Root   bundle.Base64   `json:"root,omitempty"`
	Proof  []bundle.Base64 `json:"proof,omitempty"`
}

// ErrNoProof: there is nothing to prove.
var ErrNoProof = errors.New("there is nothing to prove: nobody showed this device two histories of this channel")

// ErrUnproven: two histories were shown, and nothing that is here shows it to others.
var ErrUnproven = errors.New("two histories were shown, but that would convince nobody else yet, since the other one could not be fetched; sync, and write it again")

// Proof writes what shows anybody that two histories of a channel were signed
// with its keys, whole or not at all: root notes, and each pair of
// contradicting heads with what shows that neither is the other's past, in one JSON
// file. It says how many pairs are in it, and how many are left out since they convince
// only this device so far: one of them would make the file prove nothing. The root notes
// are not always all: who has the root keys can shorten the time of a log key later, and
// what was signed before convinces under the notes of then. The file names the channel's
// ID and holds nothing of the reader's invite. ErrNoProof, ErrUnproven.
func (r *Reader) Proof(ctx context.Context, ch channel.ID, name string) (pairs, left int, err error) {
	view, err := newsync.View(ctx, r.lib, ch)
	if err != nil {
		return 0, 0, err
	}
	if len(view.Evidence()) == 0 {
		return 0, 0, ErrNoProof
	}
	notes, proven := convincing(view)
	if len(proven) == 0 {
		return 0, len(view.Evidence()), ErrUnproven
	}
	p := proof{V: 1, Channel: ch}
	for _, e := range proven {
		fork := forkProof{Ours: string(e.Ours), Theirs: string(e.Theirs), Root: e.Root}
		for _, h := range e.Proof {
			fork.Proof = append(fork.Proof, h)
		}
		p.Forks = append(p.Forks, fork)
	}
	for _, n := range notes {
		p.RootNotes = append(p.RootNotes, string(n))
	}
	return len(proven), len(view.Evidence()) - len(proven), durable.WriteFile(name, 0o600, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	})
}

// convincing are the pieces of evidence that convince whoever has these root notes: the
// longest chain under which as many as possible do.
func convincing(view *channel.View) (notes [][]byte, proven []channel.Evidence) {
	all := view.Roots().Notes()
	for n := len(all); n > 0 && len(proven) < len(view.Evidence()); n-- {
		roots, err := channel.ParseRoots(view.Channel(), all[:n])
		if err != nil {
			continue
		}
		var good []channel.Evidence
		for _, e := range view.Evidence() {
			if _, _, err := roots.CheckEvidence(e); err == nil {
				good = append(good, e)
			}
		}
		if len(good) > len(proven) {
			notes, proven = all[:n], good
		}
	}
	return notes, proven
}

// maxProof bounds a proof in bytes: root notes of a long life, and eight forks.
const maxProof = 1 << 20

// ErrProof is wrapped by what CheckProof says of a file that proves nothing.
var ErrProof = errors.New("it proves nothing")

// Contradiction is one proven fork: two statements of one channel's history, signed
// with its keys, of which at most one can be true. One is nil if the root notes stand
// in its place: they have replaced the log key that signed the other, and left it out.
type Contradiction struct{ One, Other *channel.Head }

// CheckProof verifies a file that Proof wrote, with nothing else at hand, and
// returns what it proves. The error wraps ErrProof if that is nothing; a file that
// proves a part of what it says is one that proves nothing.
func CheckProof(name string) (channel.ID, []Contradiction, error) {
	f, err := os.Open(name)
	if err != nil {
		return channel.ID{}, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxProof+1))
	if err != nil {
		return channel.ID{}, nil, err
	}
	no := func(format string, args ...any) (channel.ID, []Contradiction, error) {
		return channel.ID{}, nil, fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
	}
	if len(b) > maxProof {
		return no("larger than %d bytes", maxProof)
	}
	var p proof
	if bundle.ReadJSON(b, &p) != nil || p.V != 1 || len(p.Forks) == 0 {
		return no("not a file that mirror proof wrote")
	}
	notes := make([][]byte, len(p.RootNotes))
	for i, n := range p.RootNotes {
		notes[i] = []byte(n)
	}
	roots, err := channel.ParseRoots(p.Channel, notes)
	if err != nil {
		return no("its root notes: %w", err)
	}
	var out []Contradiction
	for i, e := range p.Forks {
		evidence := channel.Evidence{Ours: []byte(e.Ours), Theirs: []byte(e.Theirs), Root: e.Root}
		for _, h := range e.Proof {
			evidence.Proof = append(evidence.Proof, h)
		}
		ours, theirs, err := roots.CheckEvidence(evidence)
		if err != nil {
			return no("number %d: %w", i+1, err)
		}
		out = append(out, Contradiction{ours, theirs})
	}
	return p.Channel, out, nil
}
