//go:build !linux

package ipfs

import "testing"

func inodeOf(uintptr) uint64 { return 0 }

// internetSockets knows no portable way to list a process's sockets.
func internetSockets(*testing.T) map[uint64]string { return nil }
