package publisher

import (
	"fmt"
	"slices"

	"tamizdat/transport"
)

// Aside opens those of publisher.toml that may be witnesses and are not among the
// targets, none if the channel names no witnesses. Heartbeat and Push ask them to cosign,
// and nothing else: whoever names one target to push to gives up no quorum. Push closes
// them.
func (p *Publisher) Aside(network transport.Network, targets []Target) ([]Target, error) {
	if len(p.roots.Last().Witnesses) == 0 {
		return nil, nil
	}
	var out []Target
	for _, t := range p.cfg.Targets {
		named := slices.ContainsFunc(targets, func(o Target) bool { return o.Name == t.Name })
		if named || t.Relay == "" && t.Witness == "" {
			continue
		}
		pub, err := p.open(network, t)
		if err != nil {
			return nil, fmt.Errorf("target %q: %w", t.Name, err)
		}
		out = append(out, Target{Name: t.Name, Witness: t.Witness != "", Aside: true, Publisher: pub})
	}
	return out, nil
}
