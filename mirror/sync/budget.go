package sync

import gosync "sync"

// purse keeps Budget.Bytes: whatever is asked for is reserved first, at the most
// that it may be, so that what arrives can't exceed the limit. (A path that
// sends more than a block may hold is cut off; by that one answer at most the
// limit is passed.)
type purse struct {
	mu              gosync.Mutex
	limit           int64 // 0: none
	spent, reserved int64
	openings        int64 // of both, what openings have spent and reserved

	charge func(int64) (int64, error) // Budget.Charge
	noted  int64                      // what it has noted
	err    error                      // why it can't any more
}

// cover has n more bytes noted, and reports false if that can't be. p.mu is held.
func (p *purse) cover(n int64) bool {
	total := p.spent + p.reserved + n
	if p.charge == nil || p.err == nil && total <= p.noted {
		return true
	}
	if p.err == nil {
		p.noted, p.err = p.charge(total)
	}
	return p.err == nil
}

// failure is why nothing more could be asked for, if that was not the limit, or
// else err.
func (p *purse) failure(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return err
}

// reserve sets n bytes aside, and reports false if they may not be spent.
func (p *purse) reserve(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && p.spent+p.reserved+n > p.limit || !p.cover(n) {
		return false
	}
	p.reserved += n
	return true
}

// reserveOpening is reserve for an answer of unknown size: openings have half of
// the limit among them, so that neither a silent one nor one full of junk can
// take what the blocks need.
func (p *purse) reserveOpening(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && (p.spent+p.reserved+n > p.limit || p.openings+n > p.limit/2) || !p.cover(n) {
		return false
	}
	p.reserved += n
	p.openings += n
	return true
}

// settleOpening is settle for reserveOpening.
func (p *purse) settleOpening(reserved, came int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= reserved
	p.spent += came
	p.openings += came - reserved
}

// share is the most that one opening may bring: half of what all may.
func (p *purse) share() int64 {
	if p.limit == 0 {
		return maxStash
	}
	return p.limit / 4
}

// received is all that has come.
func (p *purse) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spent
}

// settle ends a reservation: so much has come.
func (p *purse) settle(reserved, came int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= reserved
	p.spent += came
}

// fits reports whether n bytes more may be asked for now.
func (p *purse) fits(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil && (p.limit == 0 || p.spent+p.reserved+n <= p.limit)
}
