package demo

import (
	"fmt"
	"slices"
	"strings"

	"tamizdat/internal/censor"
	"tamizdat/transport"
)

// unplayed are the scenarios that there is nothing of to play between a reader
// and the demo's world: the prober speaks to the relay and never to the reader,
// and a seizure happens to the disk. Tests play both.
var unplayed = []string{"prober", "seizure"}

// notes say what is special about a scenario in the demo's world.
var notes = map[string]string{
	"quic-sni":            "Here it lists " + relayName + ", the first relay; the second is given as an address.",
	"quic-sni-reassembly": "Here it lists " + relayName + ", the first relay; the second is given as an address.",
	"tls-sni-rst":         "Here it lists " + relayName + ", the first relay; the second is given as an address.",
	"ech-drop":            "Here it lists " + relayName + ", the first relay.",
	"ip-block":            "Here there are two relays.",
	"doh-block":           "Nobody here depends on such a server, so nothing is lost.",
	"ipfs-block":          "Here the invite names peers of its own, so nothing is lost.",
	"allowlist":           "Here there is no CDN, so DNS alone is left.",
	"evil-relay":          "Here the second of two relays flips bits, cuts answers short, never ends them, or sends a byte a second; for old and other histories it has a switch of its own.",
	"evil-peer":           "Here one of two IPFS peers spoils blocks, halves them, or keeps them to itself; the other is the first relay, over QUIC.",
	"evil-resolver":       "Here there is one resolver, so all of DNS lies.",
	"clock-ahead":         "Only the reader's program here has that clock.",
	"clock-behind":        "Only the reader's program here has that clock.",
}

// Playable are the scenarios that the demo plays, in the order of their table.
func Playable() []censor.Scenario {
	all := slices.DeleteFunc(censor.Scenarios(), func(s censor.Scenario) bool { return slices.Contains(unplayed, s.Name) })
	for i := range all {
		all[i] = here(all[i])
	}
	return all
}

// here is a scenario as the demo's world has it.
func here(s censor.Scenario) censor.Scenario {
	if s.Name == "evil-peer" { // the relay's node is honest
		s.Open = append(slices.Clone(s.Open), censor.ViaIPFSQUIC)
	}
	return s
}

// Note says what is special about a scenario in the demo, "" for nothing.
func Note(name string) string { return notes[name] }

// Find finds a scenario that the demo plays, or a pair of them as "a+b". The
// error names the nearest one if one is near.
func Find(name string) (censor.Scenario, error) {
	parts := strings.Split(name, "+")
	if len(parts) > 2 {
		return censor.Scenario{}, fmt.Errorf("%d scenarios at once are too many; two can be joined by +", len(parts))
	}
	var found []censor.Scenario
	for _, p := range parts {
		if slices.Contains(unplayed, p) {
			return censor.Scenario{}, fmt.Errorf("%s does nothing to a reader's line, so there is nothing to play here", p)
		}
		s, ok := censor.Lookup(p)
		if !ok {
			return censor.Scenario{}, fmt.Errorf("no scenario %q%s", p[:min(len(p), longestName)], hint(p))
		}
		found = append(found, here(s))
	}
	if len(found) == 1 {
		return found[0], nil
	}
	a, b := found[0], found[1]
	switch {
	case a.Name == b.Name:
		return censor.Scenario{}, fmt.Errorf("%s twice is %s once", a.Name, a.Name)
	case a.Clock != 0 && b.Clock != 0:
		return censor.Scenario{}, fmt.Errorf("%s and %s can't both be", a.Name, b.Name)
	}
	return censor.Pair(a, b), nil
}

// longestName bounds what is looked at, and repeated, of a name that is none.
const longestName = 40

// hint names the playable scenario whose name takes the fewest changed letters,
// unless most of them would have to be.
func hint(name string) string {
	name = strings.ToLower(name[:min(len(name), longestName)])
	best, least := "", len(name)/2+1
	for _, s := range Playable() {
		d := distance(name, s.Name)
		if strings.Contains(s.Name, name) && name != "" {
			d = 1 // a part of the name, as people remember it
		}
		if d < least {
			best, least = s.Name, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// waysHere are the ways that the demo's world has, and which of its kinds of path
// each is.
var waysHere = map[censor.Way]string{
	censor.ViaQUIC: transport.KindQUIC, censor.ViaTCP: transport.KindTCP,
	censor.ViaIPFSQUIC: transport.KindIPFS, censor.ViaIPFSTCP: transport.KindIPFS,
	censor.ViaDNSUDP: transport.KindDNS, censor.ViaDNSTCP: transport.KindDNS,
}

// leaves are the kinds of path over the line that a scenario leaves open in the
// demo's world.
func leaves(s censor.Scenario) (kinds []string) {
	for _, k := range Kinds {
		if slices.ContainsFunc(s.Open, func(w censor.Way) bool { return waysHere[w] == k }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
