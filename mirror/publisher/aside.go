package publisher

import (
	"slices"

	"tamizdat/transport"
)

// Aside opens those of publisher.toml that may be witnesses and are not among the
// targets, none if the channel names no witnesses. Heartbeat and Push ask them to cosign,
// and nothing else: whoever names one target to push to gives up no quorum. Push closes
// them.
func (p *Publisher) Aside(network transport.Network, targets []Target) (out []Target) {
	if len(p.roots.Last().Witnesses) == 0 {
		return nil
	}
	for _, t := range p.cfg.Targets {
		named := slices.ContainsFunc(targets, func(o Target) bool { return o.Name == t.Name })
		if named || t.Relay == "" && t.Witness == "" {
			continue
		}
		to := p.target(network, t)
		to.Aside = true
		out = append(out, to)
	}
	return out
}
