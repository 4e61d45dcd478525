package transporttest

import (
	"testing"

	"tamizdat/transport"
)

// The fake is held to what the real ones are held to.
func TestMemoryConforms(t *testing.T) {
	for name, compact := range map[string]bool{"text": false, "compact": true} {
		t.Run(name, func(t *testing.T) {
			Run(t, nil, func(t *testing.T, w *World) Subject {
				m := NewMemory(t, w.Channel.Editions()...)
				m.Compact = compact
				return Subject{Paths: []transport.Path{m.Path("plain"), m.OpenerPath("opener")}, Old: true}
			})
		})
	}
}
