package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"tamizdat/bundle"
	"tamizdat/transport"
)

// A request for each block of 64 KiB costs both sides more than the block. Where a
// line brings much, wants that are neighbours in a layer's file are asked for as one
// CAR, by the file's root (dag-scope=entity with entity-bytes,
// https://specs.ipfs.tech/http-gateways/trustless-gateway/): nothing in the request
// says more than its CIDs do. The CAR begins with the few blocks that lead there,
// which are passed over.
//
// Where a line brings little, or bytes are dear, raw blocks stay: over a bad line one
// answer would wait for each packet that is lost, and what leads to a run comes in
// vain.

const (
	// plenty is what a line has to bring for runs, in bytes a second. Below, a line
	// may turn out to be bad (transport/relay), and many small answers do better there.
	plenty = 1 << 20
	// telling is how much of a Fetch tells something about that.
	telling = 64 << 10
	// A run has about runTime of work, within these bounds.
	runTime  = 250 * time.Millisecond
	leastRun = 8 * bundle.MaxBlock
	mostRun  = 128 * bundle.MaxBlock
	// maxRuns are under way at once: the next one is asked for while one comes.
	maxRuns = 2
	// oddFor is how long a gateway is not asked for CARs after one that was odd.
	// brokenFor is the same after one that broke off.
	oddFor    = 10 * time.Minute
	brokenFor = 30 * time.Second
	// endTime bounds the wait for a CAR's end when all that it is for is here.
	endTime = time.Second
	// maxCARHeader bounds a CAR's header, which names one root.
	maxCARHeader = 1 << 10
	// maxBeside bounds what a CAR may hold besides the blocks asked for: a file's
	// root, the nodes below, of which a run may touch two, and a block once more.
	maxBeside = 3*maxFileNode + bundle.MaxBlock + 4*maxCID
	// maxCID is more than a CID of an edition takes.
	maxCID  = 64
	typeCAR = "application/vnd.ipld.car"
)

// pace is what a gateway brought lately, and until when it is asked for no CAR.
type pace struct {
	mu   sync.Mutex
	rate float64 // bytes a second, of one Fetch
	odd  time.Time
}

// note learns from bytes that came in so much time.
func (p *pace) note(bytes int64, took time.Duration) {
	if bytes < telling {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = float64(bytes) / max(took, time.Millisecond).Seconds()
}

// strange notes that a CAR was odd: no other is asked for in the next time.
func (p *pace) strange(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.odd = time.Now().Add(d)
}

// runLength is how many bytes may be asked for as one CAR now, 0 for none; f.mu is
// held.
func (f *fetching) runLength() int64 {
	if f.opts.Runs == RunsNever || f.opts.Static || f.r.Once {
		return 0
	}
	f.pace.note(f.came, time.Since(f.start))
	f.pace.mu.Lock()
	defer f.pace.mu.Unlock()
	if f.pace.rate < plenty || time.Now().Before(f.pace.odd) {
		return 0
	}
	return min(max(int64(f.pace.rate*runTime.Seconds()), leastRun), mostRun)
}

// neighbours is how many of the first wants in todo lie side by side in a layer's
// file and have together no more than most bytes; 0 if they are too few for a run.
func neighbours(wants []transport.Want, todo []int, most int64) int {
	sum := int64(0)
	for n, i := range todo {
		w := wants[i]
		fits := w.File.Defined() && !w.Node && w.CID.Type() == cid.Raw && w.Size > 0 && w.Size <= bundle.MaxBlock && sum+int64(w.Size) <= most
		if n > 0 {
			before := wants[todo[n-1]]
			fits = fits && w.File == before.File && w.Offset == before.Offset+int64(before.Size)
		}
		if !fits {
			if sum < leastRun/2 {
				return 0
			}
			return n
		}
		sum += int64(w.Size)
	}
	if sum < leastRun/2 {
		return 0
	}
	return len(todo)
}

// errOdd: a CAR is not what was asked for, though it need not be a lie.
var errOdd = errors.New("not the CAR that was asked for")

// run fetches neighbours as one CAR; false means that the Fetch is over. What it does
// not bring is asked for raw.
func (f *fetching) run(ctx context.Context, run []int) bool {
	open := make(map[string]int, len(run))
	for _, i := range run {
		open[f.r.Wants[i].CID.KeyString()] = i
	}
	err := f.car(ctx, run, open)
	if err == nil || ctx.Err() != nil {
		return err == nil
	}
	var we *transport.WantError
	if errors.As(err, &we) {
		delete(open, we.CID.KeyString())
		if !f.send(ctx, transport.Block{}, err) {
			return false
		}
	}
	if we != nil || errors.Is(err, errOdd) || errors.Is(err, ErrStatus) || errors.Is(err, transport.ErrNotFound) {
		f.pace.strange(oddFor)
	} else { // it broke off: a request for a block will tell whether all is over
		f.pace.strange(brokenFor)
	}
	left := slices.DeleteFunc(slices.Clone(run), func(i int) bool { _, ok := open[f.r.Wants[i].CID.KeyString()]; return !ok })
	f.mu.Lock()
	f.alone = append(f.alone, left...)
	f.mu.Unlock()
	return true
}

// car asks for a run and yields what comes of it, unchecked as all blocks are: it is
// hashed once, by who takes it. What is here is no longer in open. An error of type
// *transport.WantError is about one want; after any other nothing is known of those
// that are left.
func (f *fetching) car(caller context.Context, run []int, open map[string]int) error {
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	slow := time.AfterFunc(f.opts.BlockTimeout, func() { cancel(context.DeadlineExceeded) })
	defer slow.Stop()
	failed := func(i int, err error) error {
		return &transport.WantError{CID: f.r.Wants[i].CID, Err: err}
	}
	// next is the one that should come, broken what is said when nothing comes of it.
	next := func() int {
		return run[slices.IndexFunc(run, func(i int) bool { _, ok := open[f.r.Wants[i].CID.KeyString()]; return ok })]
	}
	broken := func(i int, err error) error {
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return failed(i, context.DeadlineExceeded)
		}
		return err
	}
	first, last := f.r.Wants[run[0]], f.r.Wants[run[len(run)-1]]
	resp, err := f.get(ctx, fmt.Sprintf("/ipfs/%s?format=car&dag-scope=entity&entity-bytes=%d:%d",
		first.File, first.Offset, last.Offset+int64(last.Size)-1), typeCAR+"; version=1; order=dfs; dups=n")
	if err != nil {
		return broken(run[0], err)
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), typeCAR) {
		return errOdd
	}
	in := &sections{bufio.NewReaderSize(resp.Body, 4<<10)}
	if err := in.header(); err != nil {
		return broken(run[0], err)
	}
	for beside := 0; len(open) > 0; {
		id, size, err := in.next()
		if err != nil {
			return broken(next(), err)
		}
		i, wanted := open[id.KeyString()]
		if !wanted {
			if beside += size + maxCID; beside > maxBeside {
				if f.opts.Runs == RunsTrusted {
					return failed(next(), errFlood)
				}
				return errOdd
			}
			if _, err := in.Discard(size); err != nil {
				return broken(next(), err)
			}
			continue
		}
		if size != f.r.Wants[i].Size {
			return errOdd
		}
		data, err := in.data(size, func(n int) { f.got(i, n) })
		if err != nil {
			if caller.Err() != nil {
				f.keep(id, data)
			}
			return broken(i, err)
		}
		delete(open, id.KeyString())
		slow.Stop() // while others have it
		if !f.send(caller, transport.Block{CID: id, Data: data}, nil) {
			return caller.Err()
		}
		slow.Reset(f.opts.BlockTimeout)
	}
	// A body that is closed before its end takes its connection along (HTTP/1.1) or has
	// the stream reset. The end is next to come; what comes in its place, or not at
	// all, is cut off like that.
	slow.Reset(endTime)
	_, _ = in.Peek(1)
	return nil
}

// sections reads a CARv1 (https://ipld.io/specs/transport/car/carv1/) section by
// section, without a copy of what it holds.
type sections struct{ *bufio.Reader }

// header passes over the header: of which blocks a CAR is, their CIDs say.
func (s *sections) header() error {
	n, err := binary.ReadUvarint(s)
	if errors.Is(err, io.EOF) || err == nil && (n == 0 || n > maxCARHeader) {
		return errOdd
	}
	if err != nil {
		return err
	}
	_, err = s.Discard(int(n))
	return err
}

// next reads what stands before a block.
func (s *sections) next() (id cid.Cid, size int, err error) {
	n, err := binary.ReadUvarint(s)
	if errors.Is(err, io.EOF) { // all was not there
		err = errOdd
	}
	if err != nil {
		return cid.Undef, 0, err
	}
	if n == 0 || n > bundle.MaxBlock+maxCID {
		return cid.Undef, 0, errOdd
	}
	start, err := s.Peek(int(min(n, maxCID)))
	if err != nil {
		return cid.Undef, 0, err
	}
	used, id, err := cid.CidFromBytes(start)
	if err != nil {
		return cid.Undef, 0, errOdd
	}
	_, err = s.Discard(used)
	return id, int(n) - used, err
}

// data reads a block; with an error it returns what has come.
func (s *sections) data(size int, got func(n int)) ([]byte, error) {
	data := make([]byte, size)
	for at := 0; at < size; {
		n, err := s.Read(data[at:])
		if at += n; n > 0 {
			got(n)
		}
		if err != nil && at < size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return data[:at], err
		}
	}
	return data, nil
}
