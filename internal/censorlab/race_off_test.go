//go:build !race

package censorlab

const raced = false
