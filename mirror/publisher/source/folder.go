package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"tamizdat/bundle"
)

// folder reads every article of fsys, in the order of their paths. as is the
// folder's name in warnings.
func (r *reader) folder(fsys fs.FS, as string) error {
	found, entries := 0, 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		where := path.Join(as, name)
		if err != nil {
			if name == "." {
				return plainError(err)
			}
			r.warn(where, plainError(err))
			return nil
		}
		if entries++; entries > maxEntries {
			return fmt.Errorf("%w: more than %d files", ErrTooLarge, maxEntries)
		}
		switch {
		case name == ".":
			return nil
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() && strings.HasSuffix(d.Name(), "_files"):
			return fs.SkipDir // what a browser saves beside a page
		case d.IsDir(), byName(d.Name()) == kindImage, byName(d.Name()) == kindIgnored:
			return nil
		}
		before := len(r.articles)
		if err := r.file(fsys, name, name, where); err != nil {
			if r.ctx.Err() != nil {
				return err
			}
			r.warn(where, err)
		}
		found += len(r.articles) - before
		if r.full {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found == 0 && !r.full {
		if len(r.warnings) > 0 {
			return fmt.Errorf("%w could be read in it, first: %s", ErrNoArticles, r.warnings[len(r.warnings)-1].Err)
		}
		return fmt.Errorf("%w in it; put .md, .html or .txt files there", ErrNoArticles)
	}
	return nil
}

// file reads one file of fsys. id is the path that stands for it where it has
// no source address; where names it in warnings.
func (r *reader) file(fsys fs.FS, name, id, where string) error {
	data, info, err := readFile(fsys, name, MaxFile)
	if err != nil {
		return err
	}
	d := document{
		id:    id,
		where: where,
		date:  info.ModTime(),
		pics:  &pictures{r: r, where: where, fsys: fsys, dir: path.Dir(name)},
	}
	kind, text, err := sniff(data, name, "")
	if err != nil {
		return err
	}
	var a bundle.Article
	switch kind {
	case kindFeed:
		return r.feed(text, d)
	case kindHTML:
		a, err = r.page(text, d)
	case kindMarkdown:
		a, err = r.markdown(text, d)
	case kindText:
		d.stem = strings.TrimSuffix(path.Base(name), path.Ext(name))
		a, err = r.plain(text, d)
	default:
		return ErrUnreadable
	}
	if err != nil {
		return err
	}
	r.add(where, a)
	return nil
}

// document is what is known of one source file or feed before it is parsed.
type document struct {
	id    string    // the path that names it, for Article.ID
	where string    // its name in warnings
	stem  string    // file name without extension
	date  time.Time // when nothing inside says better
	pics  *pictures
}

// readFile reads a regular file of at most limit bytes. Pipes, sockets and
// devices are refused before opening: opening a pipe would wait for ever.
func readFile(fsys fs.FS, name string, limit int64) ([]byte, fs.FileInfo, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, nil, plainError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, plainError(err)
	}
	defer f.Close()
	data, err := readAll(f, limit, info.Size())
	return data, info, err
}

// readAll reads at most limit bytes; hint is how many to expect, -1 if unknown.
func readAll(from io.Reader, limit, hint int64) ([]byte, error) {
	if hint > limit {
		return nil, fmt.Errorf("%w: over %d MiB", ErrTooLarge, limit>>20)
	}
	var b bytes.Buffer
	if hint > 0 {
		b.Grow(int(min(hint, 1<<20)) + bytes.MinRead) // a server may promise more than it sends
	}
	n, err := io.Copy(&b, io.LimitReader(from, limit+1))
	switch {
	case err != nil:
		return nil, plainError(err)
	case n > limit:
		return nil, fmt.Errorf("%w: over %d MiB", ErrTooLarge, limit>>20)
	}
	return b.Bytes(), nil
}
