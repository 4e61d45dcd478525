package channel

// Witnessed says by how many of the channel's witnesses the head held was seen.
func (v *View) Witnessed() Witnessed {
	if v.head == nil {
		return Witnessed{}
	}
	w := v.roots.Witnessed(v.head)
	if v.seen != nil && v.seen.sameTree(v.head) {
		if s := v.roots.Witnessed(v.seen); s.Seen > w.Seen {
			return s
		}
	}
	return w
}

func (h *Head) sameTree(o *Head) bool { return h.Size == o.Size && h.Tree == o.Tree }

// attest takes a head of the tree that is held for the one to count witnesses by,
// and reports whether it is: more have cosigned it. A head that is signed later is
// seen by nobody at first, but the tree was.
func (v *View) attest(h *Head) bool {
	if len(h.cosig) == 0 || v.roots.Witnessed(h).Seen <= v.Witnessed().Seen {
		return false
	}
	v.seen = h
	return true
}

// Overrules reports whether a checked head would take the place of the one held though it
// contradicts it, since enough witnesses have seen it, and not enough have seen ours. Who
// asks first can wait for what it names: all that is here goes for it.
func (v *View) Overrules(h *Head) bool {
	return v.mayOverrule(h) && v.Clone().Consider(h) == Overruled
}

func (v *View) mayOverrule(h *Head) bool {
	// Without a head we hold what a root note vouches for.
	return v.head != nil && !v.Witnessed().Met() && v.roots.Witnessed(h).Met()
}

// contradicted keeps evidence against a head, and takes it in place of ours if
// enough witnesses have seen it and not enough have seen ours: then it is we who
// were shown a history of our own. We begin with it as if we had just joined, and all
// that came so far is withdrawn: where the two part is not known.
func (v *View) contradicted(h *Head) Verdict {
	v.accuse(h)
	if !v.mayOverrule(h) {
		return Fork
	}
	v.edgeSize, v.edge, v.leaves = h.Edition, h.Path, []Hash{h.Leaf.Hash()}
	v.head = h
	v.withdrawn = new(uint64)
	return Overruled
}
