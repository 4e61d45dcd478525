package dns

// Without names what a Client does without, for the censor lab to see what each of
// these is worth. Nobody else sets any (internal/archtest): what comes is checked by
// the engine as well, but it may never come.
type Without struct {
	// Listening: the first answer to a question is the last that is heard.
	Listening bool
	// Checks: whatever comes is taken.
	Checks bool
	// Again: each question is asked once.
	Again bool
	// Small: there are Large records only.
	Small bool
	// Case: an answer in other letters than the question is none.
	Case bool
	// Labels: nothing stands in front of a name to get past a resolver's cache.
	Labels bool
	// Shorter: what stands in front of a name is never left out, however many are lost.
	Shorter bool
}

// of is a query as it is asked without them.
func (w Without) of(q query) query {
	if w.Checks {
		q.check = func([]byte) verdict { return take }
	}
	if w.Again {
		q.tries = 1
	}
	return q
}
