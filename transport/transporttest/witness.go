package transporttest

import (
	"fmt"
	"time"

	"tamizdat/bundle/channel"
)

func (c *Channel) witness(i int) channel.Witness {
	return channel.Witness{Name: fmt.Sprintf("w%d.example", i), Key: public(keyOf(fmt.Sprintf("%s witness %d", c.name, i)))}
}

// Watched founds a channel with n witnesses, of whom quorum should see its heads.
func (c *Channel) Watched(n, quorum int) *Channel {
	c.t.Helper()
	w := NewChannel(c.t, c.name)
	for i := range n {
		w.note.Witnesses = append(w.note.Witnesses, c.witness(i))
	}
	w.note.Quorum = quorum
	w.id, w.notes = channel.IDOf(w.note.Text()), nil
	w.sign(w.root...)
	return w
}

// Cosign is an edition whose head these witnesses have cosigned. They don't look
// whether they should.
func (c *Channel) Cosign(e *Edition, who ...int) *Edition {
	c.t.Helper()
	roots, with := c.Roots(), *e
	for _, i := range who {
		cp, err := roots.Checkpoint(e.Head.Checkpoint())
		if err != nil {
			c.t.Fatal(err)
		}
		w := c.witness(i)
		line, _ := cp.Cosign(w.Name, keyOf(fmt.Sprintf("%s witness %d", c.name, i)), e.Head.Time.Add(time.Second))
		with.Head = roots.Cosigned(with.Head, line)
	}
	if got := roots.Witnessed(with.Head).Seen; got < len(who) {
		c.t.Fatalf("%d cosignatures instead of %d", got, len(who))
	}
	return &with
}
