package dns

import (
	"encoding/base64"
	"math"
	"time"

	"tamizdat/bundle/record"
	"tamizdat/transport"
)

var _ transport.Costly = (*Client)(nil)

const (
	// headers are those of IPv4 and UDP, in bytes.
	headers = 28
	// worstLoss is the most that an estimate counts as lost: beyond it nothing can
	// be told.
	worstLoss = 0.9
)

// Cost implements transport.Costly.
func (c *Client) Cost(n int64) transport.Cost {
	if n <= 0 {
		return transport.Cost{}
	}
	class := record.Large
	if c.pick(class, 0, 0, nil) == nil {
		class = record.Small
	}
	p := c.pace(class)
	payload := int64(class.Payload())
	leaves := (n + payload - 1) / payload
	records := leaves + leaves/int64(class.Fan()) + 2 // index records above them
	asked := math.Ceil(float64(records) / (1 - p.lost))

	query := len(appendQuery(nil, 0, record.Name{}.Label()+"."+c.zone, class)) + headers
	// An answer repeats the question, and has the record's head and its data.
	data := class.Max()
	if class == record.Small {
		data = base64.StdEncoding.EncodedLen(data)
	}
	answer := query + 12 + data + (data+254)/255
	full := float64(n) / float64(payload) * float64(answer) // the last leaf of a block is shorter
	index := float64(records-leaves) * float64(answer)
	cost := transport.Cost{Queries: int64(asked), Up: int64(asked) * int64(query), Down: int64(full + index)}
	wait := math.Max(0, asked-p.burst) / p.rate
	cost.Time = time.Duration(wait*float64(time.Second)) + 3*p.rtt
	return cost
}

// pace is how fast the resolvers together may be asked.
type pace struct {
	rate  float64 // questions a second, above 0
	burst float64 // that many at once before
	lost  float64 // the share without an answer
	rtt   time.Duration
}

func (c *Client) pace(class record.Class) (p pace) {
	good, lost := 1.0, 0.0
	count := func(known bool) (n int) {
		for _, r := range c.resolvers {
			if r.isCool() || !r.carries(class) || known && !r.known() {
				continue
			}
			n++
			rate, burst, rtt := r.pace()
			p.rate += rate
			p.burst += burst
			if p.rtt == 0 || rtt < p.rtt {
				p.rtt = rtt
			}
			f := r.standing.remembered()
			good, lost = good+float64(f.Good), lost+float64(f.Lost)
		}
		return n
	}
	if count(true) == 0 && count(false) == 0 { // none is known to work: as if one did
		p = pace{rate: quietRate, burst: quietBurst, rtt: firstTimeout}
	}
	p.lost = min(lost/(good+lost), worstLoss)
	return p
}

// pace is what this resolver takes a second, how much at once before that, and how
// long its answers take.
func (r *resolver) pace() (rate, burst float64, rtt time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rtt = r.srtt
	if rtt == 0 {
		rtt = firstTimeout
	}
	rate = math.Max(1, r.window) / math.Max(rtt.Seconds(), 1e-3)
	if lim := r.standing.lim; float64(lim.Limit()) < rate {
		rate = float64(lim.Limit())
		burst = math.Max(0, lim.Tokens())
	}
	return rate, burst, rtt
}
