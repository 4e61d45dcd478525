//go:build lab && !race

package censorlab

const raced = false
