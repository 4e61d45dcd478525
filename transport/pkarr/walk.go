package pkarr

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
)

const (
	// nearest is how many nodes nearest to a key keep its item (BEP 5's K).
	nearest = 8
	// atOnce is how many nodes are asked at the same time.
	atOnce = 8
	// maxAsked bounds how many nodes one walk asks, maxKnown how many it keeps in mind,
	// maxTold how many one node may name: whoever runs nodes could lead it on without end.
	maxAsked = 128
	maxKnown = 256
	maxTold  = 32
)

// node is one that was named, or has answered.
type node struct {
	addr  netip.AddrPort
	far   nodeID // its distance from the target; the greatest while its ID is not known
	token string // what it wants to see with a put
}

// walk goes nearer and nearer to a target, until the nearest nodes have answered.
type walk struct {
	s      *socket
	target nodeID
	allow  func(netip.AddrPort) bool

	known    []node // not asked, the nearest first
	answered []node // the nearest, the nearest first
	seen     map[netip.AddrPort]bool
	asked    int
}

// run asks start and those that are named, and returns the nearest that answered. got
// hears of each answer, one call at a time.
func (w *walk) run(ctx context.Context, start []netip.AddrPort, got func(answer)) []node {
	w.init()
	for _, a := range start {
		w.add(node{addr: a, far: farthest})
	}
	type result struct {
		of  node
		a   answer
		err error
	}
	results := make(chan result)
	flying := 0
	for {
		for flying < atOnce && ctx.Err() == nil {
			n, ok := w.next()
			if !ok {
				break
			}
			flying++
			go func() {
				a, err := w.s.query(ctx, n.addr, "get", map[string]any{"target": string(w.target[:]), "want": []any{"n4", "n6"}})
				results <- result{n, a, err}
			}()
		}
		if flying == 0 {
			return w.answered
		}
		res := <-results // each ends with ctx, or when its time is over
		if flying--; res.err != nil {
			continue
		}
		w.heard(res.of, res.a)
		got(res.a)
	}
}

func (w *walk) init() { w.seen = map[netip.AddrPort]bool{} }

// farthest is farther than any node.
var farthest = nodeID(bytes.Repeat([]byte{0xff}, 20))

// next is the nearest that is worth asking: one nearer than the nearest that have
// answered, if those are enough.
func (w *walk) next() (node, bool) {
	if len(w.known) == 0 || w.asked >= maxAsked {
		return node{}, false
	}
	n := w.known[0]
	if len(w.answered) >= nearest && n.far != farthest && nearer(w.answered[nearest-1], n) {
		return node{}, false
	}
	w.known = w.known[1:]
	w.asked++
	return n, true
}

func (w *walk) heard(n node, a answer) {
	n.far, n.token = w.distance(a.id), a.token
	w.answered = insert(w.answered, n, nearest)
	for _, named := range a.nodes[:min(len(a.nodes), maxTold)] {
		w.add(node{addr: named.addr, far: w.distance(named.id)})
	}
}

func (w *walk) add(n node) {
	if n.addr.Port() == 0 || w.seen[n.addr] || len(w.seen) >= 8*maxKnown || !w.allow(n.addr) {
		return
	}
	w.seen[n.addr] = true
	w.known = insert(w.known, n, maxKnown)
}

func (w *walk) distance(id nodeID) (d nodeID) {
	for i := range d {
		d[i] = id[i] ^ w.target[i]
	}
	return d
}

func nearer(a, b node) bool { return bytes.Compare(a.far[:], b.far[:]) < 0 }

// insert puts a node into a sorted list of at most so many.
func insert(list []node, n node, most int) []node {
	i, _ := slices.BinarySearchFunc(list, n, func(a, b node) int { return bytes.Compare(a.far[:], b.far[:]) })
	list = slices.Insert(slices.Clip(list), i, n)
	return list[:min(len(list), most)]
}
