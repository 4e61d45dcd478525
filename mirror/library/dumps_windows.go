package library

// noCoreDumps: Windows writes none unless an administrator asks for them.
func noCoreDumps() error { return nil }
