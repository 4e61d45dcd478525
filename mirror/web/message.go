package web

import (
	"errors"
	"net/http"

	"tamizdat/mirror/library"
)

// messagePage is a page of a few words: what happened, what it means, what to
// do. Its reader may be frightened.
type messagePage struct{ Title, Text, Todo string }

// message shows the message NAME.title, NAME.text and NAME.todo of the catalogue.
func (s *Server) message(w http.ResponseWriter, r *http.Request, status int, name string) {
	ui := s.ui(r)
	s.render(w, r, status, "message", messagePage{ui.T(name + ".title"), ui.T(name + ".text"), ui.T(name + ".todo")})
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.message(w, r, http.StatusNotFound, "missing")
}

// trouble is an error of this device: no news is lost by it and nothing was sent.
func (s *Server) trouble(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for an answer
	}
	s.log.Error("the reader's page could not be read from the library", "error", err)
	switch {
	case errors.Is(err, library.ErrFull):
		s.message(w, r, http.StatusInsufficientStorage, "full")
	case errors.Is(err, library.ErrDamaged):
		s.message(w, r, http.StatusInternalServerError, "damaged")
	default:
		s.message(w, r, http.StatusInternalServerError, "trouble")
	}
}
