package censorlab

import (
	"fmt"
	"strings"
)

// Apart is a scenario's line of the scorecard where nobody waits for news: somebody
// looks for what should not show.
type Apart struct {
	Scenario string `json:"scenario"`
	// Looked is in how many ways, Found how many of them show it.
	Looked int `json:"looked"`
	Found  int `json:"found"`
	// Without are the same with a counter-measure switched off each: what is found
	// then. Zero would mean that nobody has really looked.
	Without []Without `json:"without"`
}

// Without is what is found without a counter-measure.
type Without struct {
	What  string `json:"what"`
	Found int    `json:"found"`
}

// Wrong says what is wrong with the row, "" if nothing is.
func (a Apart) Wrong() string {
	if a.Found > 0 {
		return fmt.Sprintf("%d of %d ways show it", a.Found, a.Looked)
	}
	if len(a.Without) == 0 {
		return "no control"
	}
	for _, w := range a.Without {
		if w.Found == 0 {
			return w.What + " is not found"
		}
	}
	return ""
}

// apart writes rows as Markdown.
func apart(b *strings.Builder, rows []Apart) {
	b.WriteString("Differences from the same website served plainly by the same libraries, not from a server of another make behind a relay.\n\n")
	b.WriteString("| scenario | asked | differences | differences without a counter-measure | |\n|---|--:|--:|---|---|\n")
	for _, a := range rows {
		var without []string
		for _, w := range a.Without {
			without = append(without, fmt.Sprintf("%s: %d", w.What, w.Found))
		}
		verdict := "ok"
		if wrong := a.Wrong(); wrong != "" {
			verdict = "**fails**: " + wrong
		}
		fmt.Fprintf(b, "| `%s` | %d | %d | %s | %s |\n", a.Scenario, a.Looked, a.Found, strings.Join(without, "; "), verdict)
	}
}
