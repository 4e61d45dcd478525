package relay

import (
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/testservers"
)

// TestOthersClient: a client of tlog-witness that is not ours gets on with ours, told
// nothing but where it takes checkpoints.
func TestOthersClient(t *testing.T) {
	p := newPress(t, "witness")
	dir := t.TempDir()
	r := start(t, Config{Dir: dir, Witness: true})
	var all []*sheet
	for range 7 {
		all = append(all, p.edition(t, 0))
	}
	_, port, err := net.SplitHostPort(r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("https://localhost:%s/%s/witness", port, target(t, r, p.ch).Intake.Mint([8]byte{5}).Path())
	ask := func(old, size int, change func(*channel.Submission)) ([]byte, uint64, error) {
		t.Helper()
		s := p.submission(t, all, old, size)
		if change != nil {
			change(&s)
		}
		var proof []string
		for _, h := range s.Proof {
			proof = append(proof, base64.StdEncoding.EncodeToString(h[:]))
		}
		return testservers.WitnessClient(t, url, filepath.Join(dir, certFile), s.Old, proof, s.Checkpoint)
	}
	refused := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err = ask(0, 1, nil)
	refused("before an edition came", "unknown log", err)
	push(t, r, all[0])
	self, _ := r.Witness(p.ch)
	seen := func(size int, lines []byte) {
		t.Helper()
		c, err := channel.ParseCosigned(append(all[size-1].head.Checkpoint(), lines...), self)
		if err != nil || c.Size != uint64(size) {
			t.Errorf("%d: %q, %v", size, lines, err)
		}
	}
	lines, _, err := ask(0, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen(3, lines)
	if _, size, err := ask(0, 7, nil); err == nil || size != 3 {
		t.Errorf("what it has seen: %d, %v", size, err)
	}
	_, _, err = ask(3, 7, func(s *channel.Submission) { s.Proof[0][7] ^= 1 })
	refused("a wrong proof", "proof", err)
	_, _, err = ask(3, 7, func(s *channel.Submission) {
		at := &s.Checkpoint[len(s.Checkpoint)-9]
		*at = map[bool]byte{true: 'B', false: 'A'}[*at == 'A'] // base64 still
	})
	refused("a wrong signature", "signature", err)
	if lines, _, err = ask(3, 7, nil); err != nil {
		t.Fatal(err)
	}
	seen(7, lines)
}
