package dns

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/dchest/siphash"
)

const (
	// clientCookie and serverCookie are the sizes of the two halves of a cookie, in
	// bytes, as RFC 9018 has them.
	clientCookie = 8
	serverCookie = 16
	// cookieLife is how long one is good, cookieAhead how far clocks may be ahead,
	// cookieRenew when it is replaced (RFC 9018 section 4.3).
	cookieLife  = time.Hour
	cookieAhead = 5 * time.Minute
	cookieRenew = 30 * time.Minute
	// secretLife is how long cookies are made with one secret.
	secretLife = 24 * time.Hour
)

// cookies makes and checks DNS cookies (RFC 7873, RFC 9018): who sends one back
// has shown that he gets what is sent to his address. The secret is this server's
// alone and only in memory; after a restart clients are given new ones.
type cookies struct {
	mu     sync.Mutex
	secret [16]byte
	before [16]byte // the secret before, good for cookieLife
	since  time.Time
	fresh  bool // there was no secret before
}

func newCookies() *cookies {
	c := &cookies{since: time.Now(), fresh: true}
	_, _ = rand.Read(c.secret[:]) // it never fails
	return c
}

// secrets are those that cookies may have been made with, the newest first.
func (c *cookies) secrets(now time.Time) [][16]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.since)
	if age >= secretLife {
		c.before, c.since, c.fresh = c.secret, now, age >= secretLife+cookieLife
		_, _ = rand.Read(c.secret[:])
		age = 0
	}
	if c.fresh || age > cookieLife {
		return [][16]byte{c.secret}
	}
	return [][16]byte{c.secret, c.before}
}

// answer appends the cookie that goes back to addr, whose own was got. It is good
// if it came from this server lately.
func (c *cookies) answer(b, got []byte, addr netip.Addr, now time.Time) (cookie []byte, good bool) {
	secrets := c.secrets(now)
	b = append(b, got[:clientCookie]...)
	if server := got[clientCookie:]; len(server) == serverCookie && server[0] == 1 {
		// Times wrap around, like serials.
		age := time.Duration(int32(uint32(now.Unix())-binary.BigEndian.Uint32(server[4:]))) * time.Second
		for i, secret := range secrets {
			var want [8]byte
			hashCookie(want[:], secret, got[:clientCookie+8], addr)
			if subtle.ConstantTimeCompare(want[:], server[8:]) != 1 || age > cookieLife || age < -cookieAhead {
				continue
			}
			if i == 0 && age <= cookieRenew {
				return append(b, server...), true
			}
			good = true
		}
	}
	b = append(b, 1, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(now.Unix()))
	b = append(b, make([]byte, 8)...)
	hashCookie(b[len(b)-8:], secrets[0], b[len(b)-serverCookie-clientCookie:len(b)-8], addr)
	return b, good
}

// hashCookie is RFC 9018 section 4.4: SipHash-2-4 of all but the hash, and the
// client's address.
func hashCookie(to []byte, secret [16]byte, cookie []byte, addr netip.Addr) {
	in := append(make([]byte, 0, clientCookie+8+16), cookie...)
	in = append(in, addr.Unmap().AsSlice()...)
	binary.LittleEndian.PutUint64(to, siphash.Hash(
		binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:]), in))
}
