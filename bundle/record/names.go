package record

// Name is the first 16 bytes of a record's SHA-256. As a DNS label it is 26
// lower-case base32 characters.
type Name [16]byte

// Names are the names of the same bytes cut into both classes of records.
type Names struct {
	// Large is the tree of 1,040-byte binary records, Small the one of 300-byte
	// text-safe records.
	Large, Small Name
}
