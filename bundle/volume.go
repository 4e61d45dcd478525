package bundle

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle/channel"
)

// Volume reads an edition's layers from blocks that somebody holds. Whatever
// needs a block that isn't there fails with a *MissingError that names it, so
// that a caller fetches and asks again; three rounds at most lead from nothing
// to any article (directory, node, chunks).
type Volume struct {
	Channel channel.ID
	Edition uint64
	// Root is the edition's directory, from a verified leaf or front page.
	Root cid.Cid
	Key  channel.EpochKey
	// Prologues are layers' headers and nonces, if a front page gave them.
	Prologues map[string][]byte
	// Dict is what a front page says of the edition's dictionary. Nil: its texts
	// have none, and are refused if they name one.
	Dict *Dict
	// Get returns the block that c names, or an error wrapping ErrMissing. It
	// must return nothing whose hash was not checked.
	Get func(c cid.Cid) ([]byte, error)
	// Holds, if not nil, tells of each block whether Get would return it, and reads
	// none: for who asks only what is missing.
	Holds func(cs []cid.Cid) ([]bool, error)

	opened atomic.Pointer[Dictionary] // what Dict says, once it is here
	last   atomic.Pointer[chunk]      // what was decrypted last
}

// ErrMissing is what Volume.Get returns for a block that isn't held.
var ErrMissing = errors.New("block not held")

// MissingError lists blocks that are needed and not held.
type MissingError struct{ Wants []Want }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d blocks of the edition are not here yet", len(e.Wants))
}

// Unwrap makes errors.Is(err, ErrMissing) true.
func (e *MissingError) Unwrap() error { return ErrMissing }

// gather takes up what err says is missing, and returns any other error.
func (e *MissingError) gather(err error) error {
	var m *MissingError
	if !errors.As(err, &m) {
		return err
	}
	e.Wants = append(e.Wants, m.Wants...)
	return nil
}

// orNil is the error, nil if nothing is missing.
func (e *MissingError) orNil() error {
	if len(e.Wants) == 0 {
		return nil
	}
	return e
}

// Directory returns the edition's folder.
func (v *Volume) Directory() (*Directory, error) {
	b, err := v.get(Want{CID: v.Root, Layer: LayerDirectory, Node: true})
	if err != nil {
		return nil, err
	}
	return ParseDirectory(v.Root, b)
}

// Front opens the edition's front page.
func (v *Volume) Front() (*Front, error) {
	leaves, _, err := v.Layer(LayerFront)
	if err != nil {
		return nil, err
	}
	file, err := v.join(leaves, maxFrontFile)
	if err != nil {
		return nil, err
	}
	return OpenFront(v.Key, v.Channel, v.Edition, file)
}

// maxFrontFile bounds what Front reads: a front page is small.
const maxFrontFile = 4 << 20

// File returns the file of that name below root/ or grants/; ok is false if there is
// no such file.
func (v *Volume) File(folder, name string) (data []byte, ok bool, err error) {
	d, err := v.Directory()
	if err != nil {
		return nil, false, err
	}
	c := d.Grants
	if folder == LayerRoot {
		c = d.RootNotes
	}
	if !c.Defined() {
		return nil, false, nil
	}
	b, err := v.get(Want{CID: c, Layer: folder, Node: true})
	if err != nil {
		return nil, false, err
	}
	links, err := ParseFolder(c, b)
	if err != nil {
		return nil, false, err
	}
	for _, l := range links {
		if l.Name == name {
			data, err = v.get(Want{CID: l.CID, Layer: folder})
			return data, err == nil, err
		}
	}
	return nil, false, nil
}

// Copy writes a layer's file as it is, encrypted; ok is false if the edition has no
// such layer. Nothing is written if a block is not held (*MissingError), or if it begins
// otherwise than the front page says.
func (v *Volume) Copy(w io.Writer, layer string) (ok bool, err error) {
	missing, err := v.Missing(layer)
	if err != nil {
		return false, err
	}
	if len(missing) > 0 {
		return true, &MissingError{missing}
	}
	leaves, ok, err := v.Layer(layer)
	for i, l := range leaves {
		b, err := v.get(l)
		if err == nil && i == 0 {
			err = v.begins(layer, b)
		}
		if err != nil {
			return ok, err
		}
		if _, err := w.Write(b); err != nil {
			return ok, err
		}
	}
	return ok, err
}

// get returns one block or a *MissingError for it.
func (v *Volume) get(w Want) ([]byte, error) {
	b, err := v.Get(w.CID)
	if errors.Is(err, ErrMissing) {
		return nil, &MissingError{[]Want{w}}
	}
	return b, err
}

// join reads blocks one after the other, at most limit bytes. All that are missing
// are named at once.
func (v *Volume) join(leaves []Want, limit int) ([]byte, error) {
	var file []byte
	missing := &MissingError{}
	for _, w := range leaves {
		b, err := v.get(w)
		if err := missing.gather(err); err != nil {
			return nil, err
		}
		if len(file)+len(b) > limit {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLayer, limit)
		}
		file = append(file, b...)
	}
	return file, missing.orNil()
}
