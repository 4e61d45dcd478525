package static

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"tamizdat/internal/bucket"
	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// S3 is a bucket, or a part of one. An object is there whole, and durable, when
// the store has said so. Reading it without credentials is for the bucket's own
// settings to allow.
type S3 struct {
	bucket *bucket.Bucket
	rt     *http.Transport
	end    context.CancelFunc
}

var _ Store = (*S3)(nil)

// NewS3 opens nothing yet but the file of credentials.
func NewS3(network transport.Network, c bucket.Config) (*S3, error) {
	life, end := context.WithCancel(context.Background())
	s := &S3{rt: gateway.NewTransport(life, network, gateway.Trust{}), end: end}
	var err error
	if s.bucket, err = bucket.Open(c, s.rt); err != nil {
		end()
		return nil, err
	}
	return s, nil
}

// Close ends all connections.
func (s *S3) Close() error {
	s.end()
	s.rt.CloseIdleConnections()
	return nil
}

// Begin implements Store.
func (*S3) Begin(context.Context) (func(string, bool) error, error) {
	return func(string, bool) error { return nil }, nil
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	b, err := s.bucket.Get(ctx, name, limit)
	return b, s3Error(err)
}

// List implements Store.
func (s *S3) List(ctx context.Context, dir string) (map[string]int64, error) {
	out := map[string]int64{}
	for o, err := range s.bucket.List(ctx, dir+"/") {
		if err != nil {
			return nil, s3Error(err)
		}
		if name := strings.TrimPrefix(o.Name, dir+"/"); len(out) < maxFiles && !strings.Contains(name, "/") {
			out[name] = o.Size
		}
	}
	return out, nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, data []byte) error {
	a := bucket.Attributes{ContentType: "application/octet-stream", CacheControl: "public, max-age=31536000, immutable"}
	switch {
	case strings.HasPrefix(name, headDir):
		a = bucket.Attributes{ContentType: "application/vnd.ipld.car", CacheControl: "no-cache"}
	case strings.HasPrefix(name, blockDir):
		a.ContentType = "application/vnd.ipld.raw"
	}
	return s3Error(s.bucket.Put(ctx, name, data, a))
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	return s3Error(s.bucket.Delete(ctx, name))
}

// s3Error speaks of a bucket's errors in transport's words.
func s3Error(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return transport.ErrNotFound
	case errors.Is(err, bucket.ErrRefused):
		return fmt.Errorf("%w: %w", transport.ErrRefused, err)
	}
	return err
}
