package bundle

import "github.com/ipfs/go-cid"

// Want names one block that somebody needs. Layer, Offset and Size say where it
// lies, so that neighbours can be asked for as one range and a path without
// CIDs (DNS) finds it.
type Want struct {
	CID cid.Cid
	// Layer is LayerDirectory or one of the other Layer constants.
	Layer string
	// Node marks a block that holds links (a UnixFS file root or folder)
	// instead of bytes of the layer.
	Node bool
	// Offset is where the block's bytes start in the layer's file; 0 for a Node.
	Offset int64
	// Size is the length of the block in bytes; 0 if unknown.
	Size int
	// File is the root of the layer's file that the block is part of, for who asks
	// for a range of it; undefined if that is not known.
	File cid.Cid
}

// The names of an edition's parts. A layer's file is called NAME.age, except
// log, root and grants, which are not encrypted here.
const (
	LayerDirectory = "" // the edition's root folder itself
	LayerFront     = "front"
	LayerText      = "text"
	LayerMedia     = "media"
	LayerDict      = "dict"
	LayerLog       = "log"
	LayerRoot      = "root"
	LayerGrants    = "grants"
)
