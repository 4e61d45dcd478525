package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

const (
	// pageSize is what is asked of the object store at once, pages how much of it
	// is kept in memory: 64 MiB.
	pageSize = 256 << 10
	pages    = 256
	// pageTimeout bounds one such request, takeTimeout the upload of an edition.
	pageTimeout = 30 * time.Second
	takeTimeout = 15 * time.Minute
	// maxListed bounds a listing.
	maxListed = 1 << 20
)

// s3 keeps editions in a bucket, for a fleet of relays: CHANNEL/FILE below its
// prefix. Reads go by pages, which are kept: an opening is many small blocks of
// one part of an edition.
type s3 struct {
	bucket *bucket.Bucket
	rt     *http.Transport
	end    context.CancelFunc
	pages  *lru.Cache[string, []byte]
	asking singleflight.Group
}

var _ backend = (*s3)(nil)

// newS3 sends nothing yet.
func newS3(network transport.Network, c bucket.Config) (*s3, error) {
	life, end := context.WithCancel(context.Background())
	s := &s3{rt: gateway.NewTransport(life, network, gateway.Trust{}), end: end}
	var err error
	if s.bucket, err = bucket.Open(c, s.rt); err == nil {
		s.pages, err = lru.New[string, []byte](pages)
	}
	if err != nil {
		end()
		return nil, err
	}
	return s, nil
}

// Close ends all connections.
func (s *s3) Close() error {
	s.end()
	s.rt.CloseIdleConnections()
	return nil
}

func (*s3) shared() bool { return true }

func (*s3) at(ch channel.ID, file string) string { return ch.String() + "/" + file }

func (s *s3) list(ctx context.Context) ([]object, error) {
	var out []object
	for o, err := range s.bucket.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		dir, file, ok := strings.Cut(o.Name, "/")
		ch, err := channel.ParseID(dir)
		if !ok || err != nil || strings.Contains(file, "/") {
			continue
		}
		if len(out) >= maxListed {
			return nil, fmt.Errorf("more than %d objects in the bucket", maxListed)
		}
		out = append(out, object{ch, file, o.Size, o.Tag})
	}
	return out, nil
}

func (s *s3) open(name string) (blob, error) { return &pagedBlob{s, name}, nil }

// pagedBlob reads an object by its pages.
type pagedBlob struct {
	s    *s3
	name string
}

func (*pagedBlob) Close() error { return nil }

func (b *pagedBlob) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		page, err := b.s.page(b.name, at/pageSize)
		if err != nil {
			return n, err
		}
		rest := page[min(int64(len(page)), at%pageSize):]
		if len(rest) == 0 {
			return n, io.EOF
		}
		n += copy(p[n:], rest)
	}
	return n, nil
}

// page gets a page; whoever wants the same one at the same time waits for one
// answer.
func (s *s3) page(name string, i int64) ([]byte, error) {
	key := name + " " + strconv.FormatInt(i, 10)
	if p, ok := s.pages.Get(key); ok {
		return p, nil
	}
	p, err, _ := s.asking.Do(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), pageTimeout)
		defer cancel()
		p, err := s.bucket.Range(ctx, name, i*pageSize, pageSize)
		if err == nil {
			s.pages.Add(key, p)
		}
		return p, err
	})
	if err != nil {
		return nil, err
	}
	return p.([]byte), nil
}

// forget drops an object's pages.
func (s *s3) forget(name string) {
	for _, key := range s.pages.Keys() {
		if strings.HasPrefix(key, name+" ") {
			s.pages.Remove(key)
		}
	}
}

func (s *s3) load(ctx context.Context, name string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return s.bucket.Get(ctx, name, limit)
}

func (s *s3) save(ctx context.Context, name string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return s.bucket.Put(ctx, name, data, private)
}

// private: nothing but relays reads the bucket.
var private = bucket.Attributes{ContentType: "application/octet-stream", CacheControl: "no-store"}

func (s *s3) take(ctx context.Context, name, file string) error {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.bucket.PutFile(ctx, name, f, info.Size(), private); err != nil {
		return err
	}
	s.forget(name) // a damaged one may have lain there
	f.Close()      // Windows removes no open file
	return os.Remove(file)
}

func (s *s3) remove(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	var errs []error
	for _, n := range names {
		errs = append(errs, s.bucket.Delete(ctx, n))
		s.forget(n)
	}
	return errors.Join(errs...)
}

// setAside leaves the object where it is: another relay of the fleet may find
// nothing wrong with it, and the same edition pushed again takes its place.
func (s *s3) setAside(_ context.Context, name string) error {
	s.forget(name)
	return nil
}
