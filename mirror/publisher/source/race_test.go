//go:build race

package source

// raceDetector makes everything some ten times slower; corpora are sampled then.
const raceDetector = true
