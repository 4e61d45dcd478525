package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// A relay can be a witness of the channels that it carries (c2sp.org/tlog-witness):
// it signs what a channel's log has become, once it has seen that the log only
// grew. The call is under a publisher's secret prefix, so that to everybody else
// this is a website as well.
//
// All that a witness is worth lies in what it remembers: one that forgets signs two
// histories. So it remembers before it answers, key and memory go together, and a
// fleet of relays, whose members share secrets and no memory, has no witness.

const (
	witnessSecretFile = "witness.secret" // what its keys follow from; 64 hex characters
	// witnessDir holds the last checkpoint cosigned of each log, under the SHA-256 of
	// its origin.
	witnessDir = "witness"
)

// witness is a relay's part as one.
type witness struct {
	dir    string
	secret []byte
	now    func() time.Time
	logs   sync.Map // channel.ID → *sync.Mutex
}

// openWitness reads the witness's secret in dir, or makes it.
func openWitness(dir string) (*witness, error) {
	w := &witness{dir: filepath.Join(dir, witnessDir), now: time.Now}
	path := filepath.Join(dir, witnessSecretFile)
	_, noSecret := os.Stat(path)
	seen, noDir := os.ReadDir(w.dir)
	switch {
	case noSecret == nil && errors.Is(noDir, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is gone, and with it what this witness has seen; put it back, or remove %s to begin as another witness", w.dir, path)
	case errors.Is(noSecret, fs.ErrNotExist) && len(seen) > 0:
		return nil, fmt.Errorf("%s is gone; put it back, or remove %s as well to begin as another witness", path, w.dir)
	}
	if err := durable.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	w.secret, err = loadSecret(path)
	return w, err
}

// WasWitness reports whether a relay on this data folder ever was a witness.
func WasWitness(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, witnessSecretFile))
	return err == nil
}

// Witness is the relay's key as a witness of a channel; false if it is none.
func (r *Relay) Witness(ch channel.ID) (channel.Witness, bool) {
	if r.witness == nil {
		return channel.Witness{}, false
	}
	self, _ := channel.NewWitness(r.witness.secret, ch)
	return self, true
}

// errWitness: what the witness remembers can't be read.
var errWitness = errors.New("what this witness has seen last is damaged")

func (w *witness) path(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(w.dir, hex.EncodeToString(sum[:])+".note")
}

// last is what was cosigned last, nil if nothing was.
func (w *witness) last(origin string, self channel.Witness) (*channel.Checkpoint, error) {
	note, err := os.ReadFile(w.path(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := channel.ParseCosigned(note, self)
	if err != nil || c.Origin != origin {
		return nil, errWitness
	}
	return c, nil
}

// declined is an answer other than a cosignature.
type declined struct {
	code int
	// size, of a 409, is that of the tree cosigned last.
	size   uint64
	reason string
}

// add checks a submission in the order of c2sp.org/tlog-witness and cosigns it. What
// it returns is durable.
func (w *witness) add(ch channel.ID, roots *channel.Roots, body []byte) (line []byte, no *declined, err error) {
	s, err := channel.ParseSubmission(body)
	if err != nil {
		return nil, &declined{code: http.StatusBadRequest, reason: err.Error()}, nil
	}
	if roots == nil { // of which nothing has come yet
		return nil, &declined{code: http.StatusNotFound, reason: channel.ErrUnknownLog.Error()}, nil
	}
	c, err := roots.Checkpoint(s.Checkpoint)
	switch {
	case errors.Is(err, channel.ErrUnknownLog):
		return nil, &declined{code: http.StatusNotFound, reason: err.Error()}, nil
	case errors.Is(err, channel.ErrUnsigned):
		return nil, &declined{code: http.StatusForbidden, reason: err.Error()}, nil
	case err != nil:
		return nil, &declined{code: http.StatusBadRequest, reason: err.Error()}, nil
	case s.Old > c.Size:
		return nil, &declined{code: http.StatusBadRequest, reason: "the old size is larger than the new one"}, nil
	}
	self, key := channel.NewWitness(w.secret, ch)
	m, _ := w.logs.LoadOrStore(ch, &sync.Mutex{})
	lock := m.(*sync.Mutex)
	lock.Lock()
	defer lock.Unlock()
	last, err := w.last(c.Origin, self)
	if err != nil {
		return nil, nil, err
	}
	var size uint64
	if last != nil {
		size = last.Size
	}
	if s.Old != size {
		return nil, &declined{code: http.StatusConflict, size: size}, nil
	}
	if err := c.Follows(last, s.Proof); err != nil {
		return nil, &declined{code: http.StatusUnprocessableEntity, reason: "it does not continue what was cosigned: " + err.Error()}, nil
	}
	line, note := c.Cosign(self.Name, key, w.now())
	return line, nil, durable.Write(w.path(c.Origin), 0o600, note)
}

// cosign serves what lies below /witness/ under a publisher's prefix, and, but for
// the call that signs, under a reader's.
func (h *Handler) cosign(w http.ResponseWriter, r *http.Request, ch channel.ID, rest string, publisher bool) {
	hash, ok := strings.CutSuffix(rest, "/checkpoint")
	switch {
	case h.witness == nil:
		http.Error(w, "not found", http.StatusNotFound)
	case publisher && rest == "add-checkpoint":
		h.addCheckpoint(w, r, ch)
	case ok && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		h.checkpoint(w, r, ch, hash)
	default:
		http.Error(w, "not found", http.StatusNotFound)
	}
}

func (h *Handler) addCheckpoint(w http.ResponseWriter, r *http.Request, ch channel.ID) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(io.LimitReader(newPatient(w, r.Body), channel.MaxSubmission+1))
	switch {
	case err != nil:
		http.Error(w, "the checkpoint was cut off", http.StatusBadRequest)
		return
	case len(body) > channel.MaxSubmission:
		http.Error(w, "larger than a checkpoint and its proof may be", http.StatusRequestEntityTooLarge)
		return
	}
	_, roots := h.store.Head(ch)
	line, no, err := h.witness.add(ch, roots, body)
	switch {
	case err != nil:
		h.log.Error("checkpoint not cosigned", "err", err)
		http.Error(w, "the witness's disk fails", http.StatusInternalServerError)
	case no != nil && no.code == http.StatusConflict:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(no.code)
		_, _ = io.WriteString(w, strconv.FormatUint(no.size, 10)+"\n")
	case no != nil:
		if no.code == http.StatusUnprocessableEntity {
			h.log.Warn("checkpoint refused: the channel may be showing two histories", "reason", no.reason)
		}
		http.Error(w, no.reason, no.code)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(line)
	}
}

// checkpoint serves what was cosigned last of the channel's log whose origin has
// that SHA-256 (c2sp.org/tlog-witness, "Monitor Retrieval Mechanism").
func (h *Handler) checkpoint(w http.ResponseWriter, r *http.Request, ch channel.ID, hash string) {
	path := h.witness.path(h.origin(ch))
	note, err := os.ReadFile(path)
	if filepath.Base(path) != hash+".note" || errors.Is(err, fs.ErrNotExist) {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if err != nil {
		h.log.Error("checkpoint not served", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(note)))
	h.send(w, r, note)
}

// origin is that of the channel's log, "" if nothing of it has come yet.
func (h *Handler) origin(ch channel.ID) string {
	_, roots := h.store.Head(ch)
	if roots == nil {
		return ""
	}
	return channel.Origin(ch, roots.Last().Log.Generation)
}
