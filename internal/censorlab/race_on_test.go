//go:build race

package censorlab

// raced: the race detector makes everything ten times as slow.
const raced = true
