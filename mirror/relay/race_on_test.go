//go:build race

package relay

// raceDetector: it makes everything ten times as slow.
const raceDetector = true
