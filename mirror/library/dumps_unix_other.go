//go:build unix && !linux

package library

func notDumpable() error { return nil }
