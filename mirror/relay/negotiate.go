package relay

import (
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	wire "tamizdat/transport/relay"
)

// The formats a gateway answers in, as the query parameter format names them.
const (
	formatRaw  = "raw"
	formatCAR  = "car"
	formatIPNS = "ipns-record"
)

var mediaTypes = map[string]string{formatRaw: typeRaw, formatCAR: typeCAR, formatIPNS: wire.RecordType}

// refusal is an answer that says no.
type refusal struct {
	code   int
	reason string
}

func (f *refusal) send(w http.ResponseWriter) { http.Error(w, f.reason, f.code) }

// wanted is what a request asks for.
type wanted struct {
	format string
	// params are those of the media type in the Accept header.
	params map[string]string
	// byAccept: the URL alone does not say it.
	byAccept bool
}

// negotiate finds out which of the offered formats a request wants. The query
// beats the Accept header (IPIP-523), whose parameters then still count if they
// are of the same format; among the header's media types the highest q wins,
// then the first one (RFC 9110, section 12.5.1), and CARs that can't be made as
// asked for are passed over. A wildcard asks for nothing that is here: it is
// what browsers send.
func negotiate(r *http.Request, offered ...string) (wanted, *refusal) {
	want := wanted{format: r.URL.Query().Get("format")}
	choose := offered
	if want.format != "" {
		choose = nil
		for _, f := range offered {
			if f == want.format {
				choose = []string{f}
			}
		}
		if choose == nil {
			return want, &refusal{http.StatusNotAcceptable, "no such format here; ask for format=" + strings.Join(offered, " or format=")}
		}
	}
	best, impossible := 0.0, false
	for _, header := range r.Header.Values("Accept") {
		for entry := range strings.SplitSeq(header, ",") {
			t, params, err := mime.ParseMediaType(entry)
			if err != nil {
				continue
			}
			q := 1.0
			if s, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(s, 64); err != nil || q < 0 || q > 1 {
					continue
				}
				delete(params, "q")
			}
			for _, f := range choose {
				if mediaTypes[f] != t || q <= best {
					continue
				}
				if f == formatCAR && !canCAR(params) {
					impossible = true
					continue
				}
				best = q
				want.byAccept = want.byAccept || want.format == ""
				want.format, want.params = f, params
			}
		}
	}
	switch {
	case impossible && best == 0:
		return want, &refusal{http.StatusNotAcceptable, "no such kind of CAR here"}
	case want.format != "":
		return want, nil
	case r.Header.Get("Accept") == "":
		return want, &refusal{http.StatusBadRequest, "ask for format=" + strings.Join(offered, " or format=")}
	}
	return want, &refusal{http.StatusNotAcceptable, "ask for format=" + strings.Join(offered, " or format=")}
}

// locate says under which URL a cache finds the same without the header.
func (want wanted) locate(w http.ResponseWriter, r *http.Request) {
	if !want.byAccept {
		return
	}
	q := r.URL.Query()
	q.Set("format", want.format)
	for k, v := range want.params {
		if name := "car-" + k; want.format == formatCAR && !q.Has(name) {
			q.Set(name, v)
		}
	}
	w.Header().Set("Content-Location", r.URL.EscapedPath()+"?"+q.Encode())
}

// noneMatch reports whether If-None-Match names the tag: in a list, as strong or
// weak, or by "*" (RFC 9110, section 13.1.2).
func noneMatch(h http.Header, etag string) bool {
	want := strings.TrimPrefix(etag, "W/")
	rest := strings.Join(h.Values("If-None-Match"), ",")
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if strings.HasPrefix(rest, "*") {
			return true
		}
		rest = strings.TrimPrefix(rest, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return false
		}
		end := strings.IndexByte(rest[1:], '"') + 2
		if end < 2 {
			return false
		}
		if rest[:end] == want {
			return true
		}
		rest = rest[end:]
	}
}

func notModified(w http.ResponseWriter, etag string) {
	w.Header().Set("Etag", etag)
	w.Header().Set("Cache-Control", immutable)
	w.WriteHeader(http.StatusNotModified)
}

var notASCII = regexp.MustCompile(`[^ -~]`)

// maxFilename bounds what a request may have its answer called, in bytes.
const maxFilename = 255

// disposition keeps browsers from showing the answer, and names it as the
// request says, or by default.
func disposition(w http.ResponseWriter, r *http.Request, name string) {
	value := `attachment; filename="` + name + `"`
	if f := r.URL.Query().Get("filename"); f != "" && len(f) <= maxFilename {
		value = `attachment; filename="` + url.PathEscape(notASCII.ReplaceAllLiteralString(f, "_")) +
			`"; filename*=UTF-8''` + url.PathEscape(f)
	}
	w.Header().Set("Content-Disposition", value)
}
