package bundle

import (
	"slices"

	"github.com/ipfs/go-cid"
)

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

// layers in the order in which an edition's file holds them: what a reader needs
// first comes first, so that a torn file is still worth something.
var layers = []string{LayerFront, LayerRoot, LayerGrants, LayerLog, LayerDict, LayerText, LayerMedia}

// layerOrder is a layer's place among them.
func layerOrder(layer string) int { return slices.Index(layers, layer) }

// fileName is a layer's name in the edition's folder.
func fileName(layer string) string {
	switch layer {
	case LayerLog, LayerRoot, LayerGrants:
		return layer
	}
	return layer + ".age"
}

// layerOf is the layer that a name in the edition's folder stands for, "" if none.
func layerOf(name string) string {
	for _, l := range layers {
		if name == fileName(l) {
			return l
		}
	}
	return ""
}
