// Package censor stands between a reader and the world and does what censors
// are known to do. It is a decorator of transport.Network: the same [Scenario]
// runs on a simulated net with a fake clock and live over real sockets.
//
//   - A [Scenario] is data: rules, what the reader's line is like, what is wrong
//     at the far end, how far off the reader's clock is. All that are known are
//     in scenarios.go, one for each technique in public reports; two of them at
//     once are a [Pair].
//   - A [Rule] describes one middlebox; [Rule.Start] puts one up. It is shown
//     every flow (a TCP connection; a UDP socket and one peer) and returns an
//     [Inspector] for those that it cares about, which then sees what is
//     sent and says what becomes of it: a [Verdict].
//   - A [Map] tells the rules who is who in this world: which addresses are
//     relays that the censor has found, which names it lists, and so on.
//   - A [Censor] is the network that the reader is given.
//
// To add what people report: write an entry in scenarios.go. If no rule does
// it yet, write one: a struct with a comment that cites the report, a Start
// method, and an Inspector that embeds [Passing] and has the one method that
// bites (see drop.go for the smallest).
//
// What is left out, said plainly: a stream is seen as the program writes it, not
// as the kernel cuts it into segments; a middlebox sees no TCP options, TTLs or
// fragments, so tricks that live there can't be tried here. What the reader's
// line does to packets ([Line]) is played by the simulated net; [Line.Rule]
// plays it, more roughly, over real sockets.
package censor
