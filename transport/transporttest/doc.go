// Package transporttest judges transports. It is for tests only.
//
//   - [NewChannel] is a publisher with fixed keys that makes real signed and
//     encrypted editions, so that the tests of all transports read the same news.
//   - [Memory] is a transport over maps: the fake that every test of an engine
//     starts from.
//   - [WrongBytes], [Silent], [Endless] and the like turn a good path into one
//     that a censor runs.
//   - [Network] is a decorator of transport.Network with a censor's switches.
//   - [Run] is the conformance suite: what transport.Heads, transport.Opener and
//     transport.Blocks promise, and how a path ends when the net under it
//     misbehaves. Every transport runs it.
package transporttest
