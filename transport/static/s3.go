package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"tamizdat/transport"
	"tamizdat/transport/gateway"
)

// S3 is a bucket, or a part of one, on any object store that speaks Amazon's S3
// protocol. An object is there whole, and durable, when the store has said so.
// Reading it without credentials is for the bucket's own settings to allow.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // "" or ending in a slash
	rt     *http.Transport
	end    context.CancelFunc
}

var _ Store = (*S3)(nil)

// S3Config says where the bucket is.
type S3Config struct {
	// URL is "https://ENDPOINT/BUCKET" or "https://ENDPOINT/BUCKET/PREFIX"; plain
	// http is for loopback only.
	URL string
	// Region is asked of the store if empty.
	Region string
	// Credentials is a file of keys as Amazon's tools have it: a section
	// [default] with aws_access_key_id and aws_secret_access_key. Nobody but its
	// owner may be able to read it.
	Credentials string
}

// NewS3 opens nothing yet but the file of credentials.
func NewS3(network transport.Network, c S3Config) (*S3, error) {
	u, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if bucket == "" {
		return nil, errors.New("it names no bucket: https://ENDPOINT/BUCKET")
	}
	if c.Credentials == "" {
		return nil, errors.New("it needs a file of credentials")
	}
	if _, err := readSecret(c.Credentials); err != nil {
		return nil, err
	}
	creds := credentials.NewFileAWSCredentials(c.Credentials, "default")
	if v, err := creds.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, errors.New("credentials: the file has no section [default] with aws_access_key_id and aws_secret_access_key")
	}
	life, end := context.WithCancel(context.Background())
	s := &S3{bucket: bucket, rt: gateway.NewTransport(life, network, gateway.Trust{}), end: end}
	if prefix != "" {
		s.prefix = prefix + "/"
	}
	s.client, err = minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Transport: s.rt, Region: c.Region,
		BucketLookup: minio.BucketLookupPath, // buckets are not resolved as names of hosts
		MaxRetries:   1,                      // whoever publishes tries again
	})
	if err != nil {
		end()
		return nil, errors.New("it is no URL of an object store")
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
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error(err)
	}
	defer o.Close()
	b, err := readAll(o, limit)
	return b, s3Error(err)
}

// List implements Store.
func (s *S3) List(ctx context.Context, dir string) (map[string]int64, error) {
	out := map[string]int64{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + dir + "/"}) {
		if o.Err != nil {
			return nil, s3Error(o.Err)
		}
		if len(out) < maxFiles && !strings.HasSuffix(o.Key, "/") {
			out[path.Base(o.Key)] = o.Size
		}
	}
	return out, ctx.Err()
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, data []byte) error {
	opts := minio.PutObjectOptions{
		ContentType: "application/octet-stream", CacheControl: "public, max-age=31536000, immutable", DisableMultipart: true,
	}
	switch {
	case strings.HasPrefix(name, headDir):
		opts.ContentType, opts.CacheControl = "application/vnd.ipld.car", "no-cache"
	case strings.HasPrefix(name, blockDir):
		opts.ContentType = "application/vnd.ipld.raw"
	}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(data), int64(len(data)), opts)
	return s3Error(err)
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	return s3Error(s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}))
}

// s3Error says what a store's refusal means. Its own message may name bucket
// and key.
func s3Error(err error) error {
	var resp minio.ErrorResponse
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &resp):
		return err
	}
	switch code := resp.Code; {
	case code == minio.NoSuchKey:
		return transport.ErrNotFound
	case code == "NoSuchBucket":
		return fmt.Errorf("there is no such bucket: %w", transport.ErrRefused)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the object store does not let these credentials in (%s): %w", code, transport.ErrRefused)
	default:
		return fmt.Errorf("the object store answered %d (%s)", resp.StatusCode, code)
	}
}
