package relay

import (
	"embed"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
)

//go:embed site
var builtin embed.FS

// Site returns the website that everyone sees: the folder dir, or a small
// built-in site if dir is empty. It serves GET and HEAD with the semantics of
// http.FileServer, but lists no folders, shows no dot-files, and answers what
// it does not have with the site's 404.html if there is one.
func Site(dir string) (http.Handler, error) {
	var root fs.FS
	if dir == "" {
		sub, err := fs.Sub(builtin, "site")
		if err != nil {
			return nil, err
		}
		root = sub
	} else {
		st, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			return nil, errors.New("decoy: not a folder")
		}
		root = os.DirFS(dir)
	}
	missing, err := fs.ReadFile(root, "404.html")
	if err != nil {
		missing = nil
	}
	return &site{files: http.FileServerFS(shy{root}), missing: missing}, nil
}

type site struct {
	files   http.Handler
	missing []byte
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	unread(r)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	if s.missing == nil {
		s.files.ServeHTTP(w, r)
		return
	}
	s.files.ServeHTTP(&missingWriter{ResponseWriter: w, page: s.missing, head: r.Method == http.MethodHead}, r)
}

// missingWriter puts the site's own page in place of the file server's bare
// "404 page not found".
type missingWriter struct {
	http.ResponseWriter
	page    []byte
	head    bool
	swapped bool
}

func (m *missingWriter) WriteHeader(code int) {
	if code != http.StatusNotFound {
		m.ResponseWriter.WriteHeader(code)
		return
	}
	m.swapped = true
	h := m.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Del("X-Content-Type-Options")
	h.Del("Content-Length")
	m.ResponseWriter.WriteHeader(code)
	if !m.head {
		_, _ = m.ResponseWriter.Write(m.page)
	}
}

func (m *missingWriter) Write(b []byte) (int, error) {
	if m.swapped {
		return len(b), nil
	}
	return m.ResponseWriter.Write(b)
}

// ReadFrom keeps sendfile for files over HTTP/1.1.
func (m *missingWriter) ReadFrom(r io.Reader) (int64, error) {
	if m.swapped {
		return io.Copy(io.Discard, r)
	}
	return io.Copy(m.ResponseWriter, r)
}

// shy hides dot-files, and folders without an index page.
type shy struct{ fs.FS }

func (s shy) Open(name string) (fs.File, error) {
	for _, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if st.IsDir() {
		if _, err := fs.Stat(s.FS, strings.TrimPrefix(name+"/index.html", "./")); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	return f, nil
}
