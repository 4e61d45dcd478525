package relay

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tamizdat/bundle/channel"
)

// mixedUp keeps the tickets of all relays in one place, as a store would that
// somebody has tampered with.
type mixedUp struct{ kept }

func mix(key string) string {
	if strings.HasPrefix(key, "tls/") {
		return "tls"
	}
	return key
}

func (m *mixedUp) Load(key string) []byte         { return m.kept.Load(mix(key)) }
func (m *mixedUp) Store(key string, value []byte) { m.kept.Store(mix(key), value) }

// Whoever does not have the key that the invite names is not believed: neither at
// first, when he hears no request either, nor when he resumes a session, in which
// he shows no certificate.
func TestPin(t *testing.T) {
	for way, name := range []string{"quic", "tcp", "small"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, store := newOpened(t, 8<<10), &mixedUp{}
				ask := func(pin channel.Pin, sessions Sessions) error {
					c, err := New(Config{Network: o.air.at("198.51.100.1"), Sessions: sessions, Relay: channel.Relay{Host: relayAt, Port: 443, Pin: pin}})
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					_, err = c.Paths()[way].Heads.Head(t.Context(), channel.ID{}, 0)
					time.Sleep(time.Second) // tickets come behind the answer
					return err
				}
				other := channel.PinOf(certificate(t).Leaf)
				for i, c := range []struct {
					pin      channel.Pin
					sessions Sessions
				}{{other, nil}, {channel.PinOf(o.cert.Leaf), store}, {other, store}, {channel.PinOf(o.cert.Leaf), store}} {
					before, tickets := o.requests.Load(), len(store.Load("tls"))
					err := ask(c.pin, c.sessions)
					asked := o.requests.Load() > before
					switch {
					case c.pin != other && (err != nil || !asked):
						t.Errorf("step %d: %v", i, err)
					case c.pin == other && !errors.Is(err, ErrPin):
						t.Errorf("step %d: %v", i, err)
					case c.sessions == nil && asked:
						t.Error("a stranger was asked")
					case i == 2 && tickets == 0:
						t.Error("there was no session to resume: this tests nothing")
					}
				}
			})
		})
	}
}
