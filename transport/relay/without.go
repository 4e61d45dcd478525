package relay

import "slices"

// Without names what a Client does without, for the censor lab to see what each of
// these is worth. Nobody else sets any (internal/archtest).
type Without struct {
	// Plain: a relay whose name can be hidden is never asked by its open name.
	Plain bool
	// Small: QUIC begins with packets as large as quic-go's own, not minPacket.
	Small bool
}

// of leaves the rungs that are tried without them.
func (w Without) of(rungs []rung) []rung {
	if w.Plain && slices.ContainsFunc(rungs, func(r rung) bool { return r.ech }) {
		rungs = slices.DeleteFunc(rungs, func(r rung) bool { return !r.ech })
	}
	return rungs
}
