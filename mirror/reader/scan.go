package reader

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/mirror/library"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
	"tamizdat/transport/dns"
	"tamizdat/transport/gateway"
)

const (
	// MaxScanList is the longest list of resolvers, in bytes: half a million lines.
	MaxScanList = 16 << 20
	// maxWrong is how many wrong lines are named.
	maxWrong = 10
	// scanNote holds how far a scan has come. It is stored so often.
	scanNote  = "dns/scan"
	scanEvery = 10 * time.Second
)

// ErrNoZone: the channel's news is not in DNS.
var ErrNoZone = errors.New("this channel's news is not in DNS; ask its publisher")

// ScanStep is how far a scan is.
type ScanStep struct {
	// Done of Total resolvers were tried, Good of them are of use.
	Done, Total, Good int
}

// ScanResult is what came of a scan.
type ScanResult struct {
	ScanStep
	// Resumed were tried in an earlier run that was interrupted.
	Resumed int
	// Wrong counts lines that are no resolver, the first few of which are in Lines:
	// where they are, and what is wrong.
	Wrong int
	Lines []string
	// Found are those of use, the best first, and those of earlier scans on this
	// network.
	Found []dns.Facts
}

// scanState is what is kept of a scan under way.
type scanState struct {
	List  string      `json:"list"` // hash of the list, the zones, the network
	Next  int         `json:"next"` // all before it are tried
	Total int         `json:"total"`
	Good  int         `json:"good"` // of those before Next
	Found []dns.Facts `json:"found,omitempty"`
}

// Scan tries resolvers, one a line as dns.ParseResolver takes them; empty lines and
// those that begin with # don't count. What works is kept in the library, for the
// network that the device is on, and asked from then on beside the system's
// resolvers. A scan that was interrupted goes on where it was, if the list is the
// same. progress may be nil.
//
// Errors are ErrNoZone, ctx's, or the library's own. The result says how far it came
// in any case.
func (r *Reader) Scan(ctx context.Context, ch channel.ID, list []byte, progress func(ScanStep)) (res ScanResult, err error) {
	view, err := newsync.View(ctx, r.lib, ch)
	if err != nil {
		return res, err
	}
	var zones []string
	for _, z := range view.Places().Zones {
		if !slices.Contains(zones, z.Name) { // it may have several servers
			zones = append(zones, z.Name)
		}
	}
	if len(zones) == 0 {
		return res, ErrNoZone
	}
	addrs := res.parse(list)
	where := r.network(ctx)
	st, err := r.scanState(ctx, listHash(list, strings.Join(zones, " "), where), len(addrs))
	if err != nil {
		return res, err
	}
	res.Resumed, res.Done, res.Good, res.Total = st.Next, st.Next, st.Good, len(addrs)
	ended := map[int]bool{} // after st.Next, out of turn, and whether they are of use
	stored := time.Now()
	var failed error
	scanning, stop := context.WithCancel(ctx)
	defer stop()
	from := st.Next
	err = dns.Scan(scanning, dns.ScanConfig{
		Network: r.cfg.Network, Trust: gateway.Trust{Roots: r.cfg.Roots, Now: r.cfg.Now},
		Zones: zones, Channel: ch, Hurry: r.cfg.Hurry, Logger: r.log,
	}, after(addrs, from), func(i int, f dns.Facts) {
		good := f.Score() > 0
		if res.Done++; good {
			res.Good++
			// One that ended out of turn in the run before is tried again.
			st.Found = slices.DeleteFunc(st.Found, func(o dns.Facts) bool { return o.Resolver == f.Resolver })
			st.Found = dns.Best(append(st.Found, f))
		}
		ended[from+i] = good
		for {
			good, ok := ended[st.Next]
			if !ok {
				break
			}
			delete(ended, st.Next)
			if st.Next++; good {
				st.Good++
			}
		}
		if progress != nil {
			progress(res.ScanStep)
		}
		if time.Since(stored) >= scanEvery {
			stored = time.Now()
			if failed = r.storeScan(ctx, st); failed != nil {
				stop()
			}
		}
	})
	if failed != nil {
		err = failed
	}
	if late := r.storeScan(context.WithoutCancel(ctx), st); err == nil {
		err = late
	}
	res.Found = r.paths.Found(where, st.Found)
	return res, err
}

// after are the addresses from the i-th on.
func after(as []dns.Address, i int) iter.Seq[dns.Address] {
	return func(yield func(dns.Address) bool) {
		for ; i < len(as) && yield(as[i]); i++ {
		}
	}
}

// parse reads a list, and notes what is wrong in it. What is named twice counts
// once.
func (res *ScanResult) parse(list []byte) (out []dns.Address) {
	seen := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(list))
	lines.Buffer(nil, MaxScanList)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		a, err := dns.ParseResolver(text)
		if err != nil {
			if res.Wrong++; len(res.Lines) < maxWrong {
				res.Lines = append(res.Lines, fmt.Sprintf("line %d: %v", n, err))
			}
			continue
		}
		if s := a.String(); !seen[s] {
			seen[s] = true
			out = append(out, a)
		}
	}
	return out
}

// listHash tells lists apart, and what they are tried for.
func listHash(list []byte, zones, where string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", zones, where)
	h.Write(list)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// scanState is where a scan of this list was, or its beginning.
func (r *Reader) scanState(ctx context.Context, list string, total int) (scanState, error) {
	anew := scanState{List: list, Total: total}
	b, err := r.lib.Note(ctx, scanNote)
	if errors.Is(err, transport.ErrNotFound) {
		return anew, nil
	}
	if err != nil {
		return anew, err
	}
	var st scanState
	if json.Unmarshal(b, &st) != nil || st.List != list || st.Total != total || st.Next < 0 || st.Next >= total {
		return anew, nil // another list, or this one to its end: that was some other day
	}
	return st, nil
}

func (r *Reader) storeScan(ctx context.Context, st scanState) error {
	const rest = 1 << 10 // more than all but Found takes
	st.Found = dns.Fit(st.Found, library.MaxNote-rest)
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return r.lib.SetNote(ctx, scanNote, b)
}

// Resolvers says what is known of DNS resolvers on the network that the device is
// on, the best first. It asks nobody.
func (r *Reader) Resolvers(ctx context.Context) []dns.Facts {
	return r.paths.Resolvers(r.network(ctx))
}

// ForgetResolvers forgets that, and how far a scan has come.
func (r *Reader) ForgetResolvers(ctx context.Context) error {
	r.paths.Forget(r.network(ctx))
	return r.lib.SetNote(ctx, scanNote, nil)
}
