package bundle

import "time"

// Article is one piece of news as a source delivers it to Pack and as Open
// returns it. Texts are UTF-8 in Unicode normalisation form C.
type Article struct {
	// ID is 16 lower-case hex characters, stable over corrections of the same
	// story: derived from the source URL, or from path and title without one
	// (see mirror/publisher/source).
	ID string
	// Title is plain text on one line, 1 to 500 bytes.
	Title string
	// Lead is plain text, the first sentence or two; at most 1,000 bytes, may be empty.
	Lead string
	// Body is HTML of the safe subset (see internal/safehtml), at most 1 MiB. Images
	// stand in it as <img src="image:N" alt="…"> with N an index into Images.
	Body string
	// Lang is a BCP 47 tag; "und" if unknown.
	Lang string
	// Dir is "ltr" or "rtl".
	Dir string
	// Date is when the article was published, to the second, UTC.
	Date time.Time
	// Corrected is when it last took the place of an earlier text of its own, to
	// the second, UTC; zero if it stands as it was first published.
	Corrected time.Time `json:",omitzero"`
	// Source is the http or https URL it was published at; empty if unknown.
	Source string
	// Images are the article's pictures, in order.
	Images []Image
}

// Image is one picture of an article, already of the size and kind that
// readers get.
type Image struct {
	// Type is "image/webp" or "image/jpeg".
	Type string
	// Alt is the plain-text description, at most 1,000 bytes.
	Alt string
	// Width and Height are in pixels.
	Width, Height int
	// Data is the encoded picture, at most 2 MiB.
	Data []byte
}
