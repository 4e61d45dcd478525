package record

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

const (
	// MaxParts is how many parts something may be cut into.
	MaxParts = 4
	// partPayload is what a full part carries: a Small record less its kind,
	// place and check.
	partPayload = 300 - 6
)

// Parts cuts data (a compact head, 1 … 1,040 bytes) into 1 to 4 part records.
func Parts(data []byte) ([][]byte, error) {
	if len(data) == 0 || len(data) > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes can't be cut into parts", ErrBad, len(data))
	}
	n := (len(data) + partPayload - 1) / partPayload
	sum := sha256.Sum256(data)
	out := make([][]byte, n)
	for i := range out {
		r := Record{
			Class: Small, Kind: Part, Check: [4]byte(sum[:4]), Place: byte(16*(n-1) + i),
			Payload: data[i*partPayload : min(len(data), (i+1)*partPayload)],
		}
		out[i] = r.Append(nil)
	}
	return out, nil
}

// PartIndex returns which part of how many a Part record is.
func (r *Record) PartIndex() (i, n int) { return int(r.Place & 15), int(r.Place>>4) + 1 }

func (r *Record) parsePart(body []byte) error {
	if r.Class != Small || len(body) < 6 {
		return fmt.Errorf("%w: part", ErrBad)
	}
	r.Place, r.Check, r.Payload = body[0], [4]byte(body[1:5]), body[5:]
	i, n := r.PartIndex()
	if n > MaxParts || i >= n || (i < n-1 && len(r.Payload) != partPayload) {
		return fmt.Errorf("%w: part", ErrBad)
	}
	return nil
}

// Join puts parts together, given in order and complete. The result is what
// was cut, by four bytes of hash: enough against mixing two heads up, nothing
// against a forger.
func Join(parts []Record) ([]byte, error) {
	var b bytes.Buffer
	for k := range parts {
		p := &parts[k]
		i, n := p.PartIndex()
		if p.Kind != Part || i != k || n != len(parts) || p.Check != parts[0].Check {
			return nil, fmt.Errorf("%w: parts don't belong together", ErrBad)
		}
		b.Write(p.Payload)
	}
	sum := sha256.Sum256(b.Bytes())
	if len(parts) == 0 || b.Len() > MaxRecord || [4]byte(sum[:4]) != parts[0].Check {
		return nil, fmt.Errorf("%w: parts don't belong together", ErrBad)
	}
	return b.Bytes(), nil
}
