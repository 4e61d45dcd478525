package web

import (
	"context"
	"net/http"
)

// Panel is something of the embedding program's own above the list: the demo's
// switches. Its texts are shown as they are, in whatever language they are.
type Panel interface {
	// View is called for each page.
	View(ctx context.Context) PanelView
	// Do performs an action of a switch or button. An unknown action is an error;
	// errors are shown to the reader.
	Do(ctx context.Context, action string) error
}

// PanelView is what a panel shows now.
type PanelView struct {
	Title, Intro string
	Switches     []Switch
	Buttons      []Button
	// Lines tell what is going on, newest last.
	Lines []string
	// Busy: something is on its way, so the list loads itself anew. It doesn't
	// otherwise: that would take away what a person types into the search.
	Busy bool
}

// Switch is a named thing that is on or off.
type Switch struct {
	Name, Detail string
	On           bool
	State        string // in words: "open", "blocked"
	Action       string // given to Do
	Label        string // of the button: "Block", "Unblock"
}

// Button is one action.
type Button struct{ Action, Label string }

// panelView is what the template is given.
type panelView struct{ PanelView }

func newPanelView(v PanelView) *panelView { return &panelView{v} }

func (s *Server) panel(w http.ResponseWriter, r *http.Request) {
	if s.o.Panel == nil {
		s.notFound(w, r)
		return
	}
	if err := s.o.Panel.Do(r.Context(), r.PostForm.Get("action")); err != nil {
		s.log.Warn("the panel failed", "error", err)
		s.message(w, r, http.StatusBadRequest, "panel")
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
