package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

const (
	fetchTimeout = 60 * time.Second
	maxRedirects = 5
)

// feedURL fetches and reads a feed.
func (r *reader) feedURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not an address")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("can't fetch %s; give http or https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("the address has no host")
	case r.o.Client == nil:
		return ErrNoClient
	}
	data, contentType, final, err := r.get(u, MaxFile, "application/rss+xml, application/atom+xml, application/feed+json, application/xml;q=0.9, */*;q=0.5")
	if err != nil {
		return err
	}
	kind, text, err := sniff(data, "", contentType)
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case err == nil && kind == kindFeed:
	case err == nil && kind == kindHTML:
		if feedLink.MatchString(text) {
			return fmt.Errorf("%w but a web page, which names its feed: look for rel=\"alternate\" in it", ErrNotFeed)
		}
		return fmt.Errorf("%w but a web page; give the address of its RSS or Atom feed", ErrNotFeed)
	default:
		return fmt.Errorf("%w: the server answered 200 with %d bytes that are neither RSS, Atom nor JSON Feed", ErrNotFeed, len(data))
	}
	return r.feed(text, document{where: s, pics: &pictures{base: final}})
}

var feedLink = regexp.MustCompile(`(?i)<link[^>]+type=["']application/(?:rss|atom|feed)\+`)

// pangeaWidth is the part of an image server's address that says how wide the
// picture is wanted: asking for the size needed beats resizing a thumbnail.
var pangeaWidth = regexp.MustCompile(`_w\d+(_[a-z]\w*)?(\.\w+)$`)

// fetchPicture fetches a picture of a feed's item.
func (r *reader) fetchPicture(u *url.URL) ([]byte, error) {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("its address is not http or https")
	}
	if pangeaWidth.MatchString(u.Path) {
		wide := *u
		wide.Path = pangeaWidth.ReplaceAllString(u.Path, "_w1023$1$2")
		if wide.Path != u.Path {
			wide.RawPath = ""
			if data, _, _, err := r.get(&wide, MaxImageFile, "image/*"); err == nil {
				return data, nil
			} else if r.ctx.Err() != nil {
				return nil, err
			}
		}
	}
	data, _, _, err := r.get(u, MaxImageFile, "image/*")
	return data, err
}

// get fetches at most limit bytes (after decompression) within fetchTimeout,
// over at most maxRedirects redirects, none of them from https to http or to
// another scheme. final is where the answer came from.
func (r *reader) get(u *url.URL, limit int64, accept string) (data []byte, contentType string, final *url.URL, err error) {
	if r.o.Client == nil {
		return nil, "", nil, ErrNoClient
	}
	ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", nil, errors.New("not an address")
	}
	req.Header.Set("Accept", accept)
	// Go's own name would be refused by many; a browser's would be a lie.
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible; feed reader)")
	client := *r.o.Client
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		switch from := via[len(via)-1].URL; {
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		case next.URL.Scheme != "http" && next.URL.Scheme != "https", from.Scheme == "https" && next.URL.Scheme == "http":
			return errors.New("redirected to an address that is not https")
		}
		return nil
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", nil, fmt.Errorf("fetching: %w", withoutAddress(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", nil, fmt.Errorf("fetching: the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err = readAll(resp.Body, limit, resp.ContentLength)
	if err != nil {
		return nil, "", nil, fmt.Errorf("fetching: %w", withoutAddress(err))
	}
	return data, resp.Header.Get("Content-Type"), resp.Request.URL, nil
}

// withoutAddress drops the address net/http puts into its errors: it may hold a token.
func withoutAddress(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
