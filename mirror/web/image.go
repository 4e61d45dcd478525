package web

import (
	"errors"
	"net/http"
	"strconv"

	"tamizdat/transport"
)

// image serves a picture of an article. Its type is one of two, never what
// the bytes look like.
func (s *Server) image(w http.ResponseWriter, r *http.Request) {
	ch, id, ok := articlePath(r)
	n, err := strconv.Atoi(r.PathValue("n"))
	if !ok || err != nil || n < 0 || n >= maxPictures || strconv.Itoa(n) != r.PathValue("n") {
		s.notFound(w, r)
		return
	}
	img, err := s.o.Engine.Image(r.Context(), ch, id, n)
	switch {
	case errors.Is(err, transport.ErrNotFound):
		s.notFound(w, r)
		return
	case err != nil:
		s.trouble(w, r, err)
		return
	case img.Type != "image/webp" && img.Type != "image/jpeg":
		s.notFound(w, r)
		return
	}
	w.Header().Set("Content-Type", img.Type)
	w.Header().Set("Content-Length", strconv.Itoa(len(img.Data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(img.Data)
	}
}
