package channel

import (
	"crypto/hmac"
	"errors"
	"slices"
)

// ErrOtherChannel means that an invite is one to another channel than the view's.
var ErrOtherChannel = errors.New("invite to another channel")

// Renew goes on with another invite of the channel: its batch's key is the one with
// which grants are opened from now on, and its ways in count before those known so far.
// All that was learned of the channel stays: history, epoch keys, evidence.
//
// Someone takes a second invite when the ways of the first are blocked, or when its
// batch was revoked. A relay's paths belong to a batch, so with another batch those of
// the first go; zones, peers, gateways and mirrors stay, after the invite's own. As
// many places are kept as an invite has room for, besides those of the grant.
func (v *View) Renew(invite *Invite) error {
	if invite.Channel != v.Channel() {
		return ErrOtherChannel
	}
	next, old := *invite, v.invite.Places
	if v.roots.Version() > 0 { // the root notes have vouched for the one that is known
		next.IPNS = v.invite.IPNS
	}
	if hmac.Equal(invite.Seed[:], v.invite.Seed[:]) {
		// The grant is perhaps older than the invite: of one relay the invite's line counts.
		v.places.Relays = slices.DeleteFunc(slices.Clone(v.places.Relays), func(r Relay) bool {
			return slices.ContainsFunc(invite.Places.Relays, r.sameHost)
		})
	} else {
		v.serial, v.places.Relays, old.Relays = 0, nil, nil
	}
	next.Places = invite.Places.and(old, func(p Places) bool {
		next.Places = p
		return next.Validate() == nil
	})
	v.invite = &next
	return nil
}

// sameHost reports whether two lines lead to one server, perhaps under other paths.
func (r Relay) sameHost(o Relay) bool { return o.Host == r.Host && o.Port == r.Port }

// and returns p and as many of q's places as fit, one by one in their order. It shares
// nothing with either.
func (p Places) and(q Places, fit func(Places) bool) Places {
	p.Relays = more(p.Relays, q.Relays, Relay.sameHost, func(l []Relay) bool { t := p; t.Relays = l; return fit(t) })
	p.Zones = more(p.Zones, q.Zones, equal, func(l []Zone) bool { t := p; t.Zones = l; return fit(t) })
	p.Peers = more(p.Peers, q.Peers, equal, func(l []string) bool { t := p; t.Peers = l; return fit(t) })
	p.Gateways = more(p.Gateways, q.Gateways, equal, func(l []string) bool { t := p; t.Gateways = l; return fit(t) })
	p.Mirrors = more(p.Mirrors, q.Mirrors, equal, func(l []string) bool { t := p; t.Mirrors = l; return fit(t) })
	return p
}

func more[T any](to, from []T, same func(T, T) bool, fit func([]T) bool) []T {
	to = slices.Clone(to)
	for _, x := range from {
		if slices.ContainsFunc(to, func(o T) bool { return same(o, x) }) {
			continue
		}
		if longer := append(slices.Clip(to), x); fit(longer) {
			to = longer
		}
	}
	return to
}

func equal[T comparable](a, b T) bool { return a == b }
