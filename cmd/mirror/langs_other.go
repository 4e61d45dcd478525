//go:build !windows

package main

// nativeLangs is for systems that don't say it by POSIX's variables, so that here
// there is nothing more to ask: a program that macOS's window manager or Android
// starts without them needs --lang.
func nativeLangs() []string { return nil }
