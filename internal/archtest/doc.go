// Package archtest holds the house's rules that a compiler does not: which
// package may import which (arrows point down only, siblings on one floor don't
// import each other), and that sockets are opened in one place. It has no code
// of its own; go test runs it over every Go file of the module, whatever
// system the file is for.
package archtest
