// Package censorlab is a world in a bubble: the real parts of tamizdat (a
// publisher, relays, a name server, an IPFS node, a reader's engine) on a
// simulated net and a fake clock, with a censor between the reader and
// everything else.
//
//   - A [World] is the far end: who serves what at which address, how far away.
//     Nothing in it is a stand-in for our own code. The recursive resolver, the
//     CDN and the public gateway, which are other people's, are small ones of
//     the lab.
//   - A censor.Scenario says what is done to the reader. It may also say that
//     some server is dishonest; the world plays that (see evil.go).
//   - [World.Read] puts a new reader into a scenario and returns an [Outcome]:
//     what arrived, when, over which path, how many bytes.
//   - A [Model] is how people get blocked news today, modelled with its round
//     trips and bytes on the same net: not the real programs.
//   - A control, in the tests, is a small model of a reader without one of our
//     counter-measures: it shows that each censor bites (TestControls).
//   - The scorecard test runs all scenarios and all pairs of them, writes
//     docs/scorecard.md, and fails where a row has become worse.
//
// The fake clock needs testing/synctest, which needs a test: a World is built
// inside synctest.Test, and everything it starts ends with [World.Close].
//
// One round trip between reader and relays is [RTT]; the reader's resolver is
// [ResolverRTT] away, and the name servers behind it as far as the relays.
// Figures are medians over seeds, given in round trips rounded to 0.1: faults
// are drawn from the seed for each flow. The order of goroutines is not ours to
// fix, so the test plays each world on one processor; what is left to chance
// still differs a little from run to run.
package censorlab
