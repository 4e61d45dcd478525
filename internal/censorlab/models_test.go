package censorlab

import (
	"context"
	"errors"
	"testing"
	"time"

	"tamizdat/internal/censor"
)

// step puts a reader into another scenario so long after the start.
type step struct {
	at   time.Duration
	name string
}

// modelIn runs a model in a scenario, and after a while in others.
func modelIn(t *testing.T, w *World, m Model, s censor.Scenario, then ...step) Outcome {
	t.Helper()
	w.cache.forget()
	host := w.seat(s)
	defer w.Net.Remove(host)
	known := Map()
	m.censored(&known)
	o := Outcome{}
	run := &modelled{w: w, network: censor.New(host, known, s, 1, nil), start: time.Now(), o: &o}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	for _, next := range then {
		change := time.AfterFunc(next.at, func() { run.network.Set(find(t, next.name)) })
		defer change.Stop()
	}
	o.Err = m.read(ctx, run)
	return o
}

// No model gives up at the first failure: real ones don't.
func TestModelsTryAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		for _, m := range Models() {
			open := modelIn(t, w, m, find(t, "open"))
			if open.Err != nil || open.Headlines == 0 || open.Text < open.Headlines || open.Images < open.Text {
				t.Errorf("%s, open: %+v", m.Name, open)
			}
			// Nothing passes for twenty seconds, nor what began then.
			o := modelIn(t, w, m, find(t, "offline"), step{20 * time.Second, "open"})
			if o.Err != nil || o.Headlines < 20*time.Second || o.Headlines > 2*time.Minute {
				t.Errorf("%s, offline for 20 s: headlines after %v, %v", m.Name, o.Headlines, o.Err)
			}
			// What was under way stands still at 0.3 s.
			o = modelIn(t, w, m, find(t, "open"), step{300 * time.Millisecond, "offline"})
			if o.Err == nil || o.Images != 0 {
				t.Errorf("%s, offline from then on: %+v", m.Name, o)
			}
		}
	})
}

// A page that stands still is loaded again over another connection, so often and
// no oftener.
func TestMirrorSiteReloads(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		site := Models()[0]
		o := modelIn(t, w, site, find(t, "open"), step{250 * time.Millisecond, "offline"}, step{time.Second, "open"})
		if o.Err != nil || o.Headlines < standstill || o.Headlines > standstill+2*time.Second {
			t.Errorf("offline in the midst of it: headlines after %v, %v", o.Headlines, o.Err)
		}
		// Pictures are too large for any connection.
		start := time.Now()
		o = modelIn(t, w, site, find(t, "tcp-freeze-16k"))
		took, want := time.Since(start), time.Duration(1+len(reloads))*standstill
		if o.Text == 0 || o.Images != 0 || !errors.Is(o.Err, errStill) || took < want || took > want+10*time.Second {
			t.Errorf("frozen connections: %v after %v: %+v", o.Err, took, o)
		}
		// A certificate that is not valid is no reason to try again.
		start = time.Now()
		o, err := w.Model(t.Context(), site, find(t, "clock-ahead"), Reading{})
		if err != nil || o.Err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("a wrong clock: %v, %v after %v", err, o.Err, time.Since(start))
		}
	})
}

// A tunnel takes the narrow shape where the wide one does not pass, and no answer
// that was tampered with.
func TestTunnelShapes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World) {
		for name, want := range map[string]string{"open": broad.name, "dns-inject": broad.name, "dns-hostile": narrow.name, "evil-resolver": "", "offline": ""} {
			s := find(t, name)
			host := w.seat(s)
			tun := &tunnel{network: censor.New(host, Map(), s, 1, nil)}
			got, err := tun.handshake(t.Context())
			if want == "" && err == nil || want != "" && (err != nil || got.name != want) {
				t.Errorf("%s: shape %q, %v", name, got.name, err)
			}
			w.Net.Remove(host)
		}
	})
}
