// Package source turns what a publisher has (folders, files, feeds) into
// articles ready for bundle.Pack.
//
// A source is a folder (read recursively), a file, or the http or https URL of
// a feed. What a file is follows from its bytes, not from its name: Markdown
// with optional front matter, an HTML page (its article is found by
// readability), plain text as a person copies it from a browser, or an RSS,
// Atom or JSON feed. Any charset a browser reads is read. Pictures beside the
// files, and those of a fetched feed, are resized, stripped of metadata by
// re-encoding, and become bundle.Images.
//
// Everything read is hostile input: sizes are bounded before anything is
// decoded, bodies go through internal/safehtml, links out of a folder are not
// followed (os.Root), and what one article has wrong is a [Warning] that leaves
// the others alone. A source that yields nothing it should have yielded is an
// error: a feed that answers 200 with rubbish must not pass for "no news".
//
// [Read] is the way in; [ReadFS] reads an embedded folder; [Fingerprint] tells
// whether an article changed since it was packed.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tamizdat/bundle"
)

// Limits on what is read. They bound memory: one source file, its decoded
// text and one decoded picture are held at a time.
const (
	// MaxFile is the largest text file or feed read, in bytes.
	MaxFile = 16 << 20
	// MaxImageFile is the largest picture file read, in bytes.
	MaxImageFile = 16 << 20
	// MaxPixels is the largest picture decoded, in pixels.
	MaxPixels = 50_000_000
	// MaxImages is how many pictures one article may have; further ones are dropped.
	MaxImages = 12
	// DefaultMaxArticles is how many articles one Read returns unless told otherwise.
	DefaultMaxArticles = 1000
	// maxEntries is how many names a folder may hold, to bound the walk.
	maxEntries = 100_000
	// maxWarnings is how many warnings one Read collects.
	maxWarnings = 1000
)

// Options says how to read. The zero value works: local files only.
type Options struct {
	// Lang is the BCP 47 tag of articles that neither say their language nor
	// show it by their letters; "" is "und". A channel's first language is a
	// good value.
	Lang string
	// Client fetches feeds and their pictures. Its transport should be wired on
	// transport.Network. Nil: URLs are refused.
	Client *http.Client
	// MaxArticles bounds one Read; 0 is DefaultMaxArticles. What is beyond is
	// named in a Warning.
	MaxArticles int
	// NoImages leaves all pictures out.
	NoImages bool
	// Log hears of what was read, without names or titles; nil discards.
	Log *slog.Logger
	// Now is the date of articles that have none, not even a file's; nil is time.Now.
	Now func() time.Time
}

// Warning is something left out while reading went on.
type Warning struct {
	// Source is the file or URL as the caller wrote it, with the file's path in
	// a folder or the item's number in a feed.
	Source string
	// Err is what was wrong, one line.
	Err error
}

// String returns "source: error" on one line.
func (w Warning) String() string { return w.Source + ": " + w.Err.Error() }

// Sentinels for decisions; errors of this package wrap them.
var (
	// ErrUnreadable: the source is not of a kind that can be read.
	ErrUnreadable = errors.New("give .md, .html, .txt, a feed or a folder")
	// ErrNotFeed: the URL answered with something that is no feed.
	ErrNotFeed = errors.New("not a feed")
	// ErrNoArticles: the source is readable and holds no article.
	ErrNoArticles = errors.New("no articles")
	// ErrTooLarge: a limit of this package was passed.
	ErrTooLarge = errors.New("too large")
	// ErrNoClient: a URL was given, and Options has no Client.
	ErrNoClient = errors.New("fetching is off here; give a file")
)

// Read reads the sources one after the other. Articles come in the order of
// the sources; in a folder by path, in a feed as the feed has them. Each ID
// comes once: of two articles with one ID the first stays, with a Warning.
//
// The error joins what is wrong with whole sources, on one line; the articles
// of the other sources are returned with it, so that one feed that is down
// doesn't hold up the rest. When ctx ends, Read returns ctx's error and nothing
// else.
func Read(ctx context.Context, o Options, sources ...string) ([]bundle.Article, []Warning, error) {
	r := newReader(ctx, o)
	for _, s := range sources {
		if err := r.source(s); err != nil {
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			err = fmt.Errorf("source: %q: %w", shown(s), err)
			if r.err != nil {
				err = fmt.Errorf("%w; %w", r.err, err)
			}
			r.err = err
		}
	}
	if len(sources) == 0 {
		r.err = fmt.Errorf("source: nothing to read: %w", ErrUnreadable)
	}
	r.log.Debug("sources read", "sources", len(sources), "articles", len(r.articles), "warnings", len(r.warnings))
	return r.articles, r.warnings, r.err
}

// ReadFS reads all articles of a file system (an embedded folder, say) as Read
// reads a folder.
func ReadFS(ctx context.Context, o Options, fsys fs.FS) ([]bundle.Article, []Warning, error) {
	r := newReader(ctx, o)
	if err := r.folder(fsys, ""); err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return r.articles, r.warnings, fmt.Errorf("source: %w", err)
	}
	return r.articles, r.warnings, nil
}

// reader is one Read under way.
type reader struct {
	ctx      context.Context //nolint:containedctx // lives for one call of Read
	o        Options
	log      *slog.Logger
	articles []bundle.Article
	seen     map[string]bool
	full     bool
	warnings []Warning
	err      error
}

func newReader(ctx context.Context, o Options) *reader {
	if o.MaxArticles <= 0 {
		o.MaxArticles = DefaultMaxArticles
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Lang = canonicalLang(o.Lang)
	return &reader{ctx: ctx, o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), seen: map[string]bool{}}
}

// source reads one source as the caller named it.
func (r *reader) source(s string) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && !strings.ContainsAny(scheme, `/\.`) {
		return r.feedURL(s)
	}
	info, err := os.Stat(s)
	if err != nil {
		return plainError(err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(s)
		if err != nil {
			return plainError(err)
		}
		defer root.Close()
		return r.folder(root.FS(), s)
	}
	// The file itself may be a link, since its name was given by hand; what it
	// refers to may not lead out of its folder.
	full, err := filepath.EvalSymlinks(s)
	if err != nil {
		return plainError(err)
	}
	root, err := os.OpenRoot(filepath.Dir(full))
	if err != nil {
		return plainError(err)
	}
	defer root.Close()
	before := len(r.articles)
	name := filepath.Base(full)
	if err := r.file(root.FS(), name, filepath.Base(s), s); err != nil {
		return err
	}
	if len(r.articles) == before && !r.full && len(r.warnings) == 0 {
		return ErrNoArticles
	}
	return nil
}

// warn notes that something was left out.
func (r *reader) warn(where string, err error) {
	switch n := len(r.warnings); {
	case n > maxWarnings:
		return
	case n == maxWarnings:
		where, err = "…", errors.New("further warnings are left out")
	}
	r.warnings = append(r.warnings, Warning{Source: shown(where), Err: err})
}

// add takes an article that is complete; where names it in warnings.
func (r *reader) add(where string, a bundle.Article) {
	switch {
	case r.seen[a.ID]:
		r.warn(where, errors.New("has the source address or path of an article read before; left out"))
	case len(r.articles) >= r.o.MaxArticles:
		if !r.full {
			r.full = true
			r.warn(where, fmt.Errorf("%w: only %d articles are taken at once; this and later ones are left out", ErrTooLarge, r.o.MaxArticles))
		}
	default:
		r.seen[a.ID] = true
		r.articles = append(r.articles, a)
	}
}

// shown is a source as errors may show it: a feed's address can carry a token
// or a password, so only scheme, host and path's shape are left.
func shown(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		scheme, _, _ := strings.Cut(s, "://")
		return scheme + "://…"
	}
	short := u.Scheme + "://" + u.Host
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		short += "/…"
	}
	if _, item, ok := strings.Cut(s, " item "); ok {
		short += " item " + item
	}
	return short
}

// plainError drops the path from a file error, since the source is named already.
func plainError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; check the spelling", err)
	}
	return err
}

// guard turns a panic inside a third-party parser into an error of that one
// document: the rest of the run is worth more than the stack trace.
func guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the parser gave up on it", what)
		}
	}()
	return f()
}
