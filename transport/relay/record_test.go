package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"tamizdat/bundle/channel"
	"tamizdat/internal/netreal"
	"tamizdat/transport"
)

func TestPublishRecordReadsAnswers(t *testing.T) {
	record := bytes.Repeat([]byte("r"), 700)
	held := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(body, record) || r.Method != http.MethodPut || r.Header.Get("Content-Type") != RecordType ||
				!strings.HasSuffix(r.URL.Path, "/ipns/"+channel.ID{7}.String()) {
				n = 0
			}
			w.Header().Set(HeaderOffset, strconv.Itoa(n))
			w.WriteHeader(http.StatusNoContent)
		}
	}
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		says    string // "" for success
	}{
		"stored":        {held(700), false, ""},
		"holds a newer": {held(650), false, ""},
		"stored none":   {held(0), false, "did not say"},
		"a website":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<h1>hello") }, true, "no intake"},
		"a 404":         {http.NotFound, true, "no intake"},
		"overloaded":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, false, "503"},
		"refuses": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(HeaderOffset, "0")
			http.Error(w, "edition 4 is not held", http.StatusUnprocessableEntity)
		}, true, "edition 4 is not held"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := serve(t, certificate(t), "127.0.0.1:0", c.answer)
			p, err := NewPublisher(&netreal.Network{}, Target{Host: r.Host, Port: r.Port, Pin: r.Pin})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			err = p.PublishRecord(t.Context(), channel.ID{7}, record)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || errors.Is(err, transport.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
