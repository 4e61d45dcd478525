// Package bucket is a part of a bucket on an object store that speaks Amazon's
// S3 protocol: what static mirrors and fleets of relays share of it. Whoever uses
// it gives the round tripper, and retries.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrRefused is wrapped by errors that trying again does not mend: credentials
// that are not let in, a bucket that is not there.
var ErrRefused = errors.New("refused by the object store")

// Config says where a bucket is.
type Config struct {
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

// Bucket is an opened one. An object is there whole, and durable, when a call
// has returned nil. Methods may be called at once. Errors wrap fs.ErrNotExist if
// there is no such object; none names bucket or key.
type Bucket struct {
	client *minio.Client
	bucket string
	prefix string // "" or ending in a slash
}

// Open reads the file of credentials and sends nothing yet.
func Open(c Config, rt http.RoundTripper) (*Bucket, error) {
	u, err := ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if name == "" {
		return nil, errors.New("it names no bucket: https://ENDPOINT/BUCKET")
	}
	if c.Credentials == "" {
		return nil, errors.New("it needs a file of credentials")
	}
	if _, err := ReadSecret(c.Credentials); err != nil {
		return nil, err
	}
	creds := credentials.NewFileAWSCredentials(c.Credentials, "default")
	if v, err := creds.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, errors.New("credentials: the file has no section [default] with aws_access_key_id and aws_secret_access_key")
	}
	b := &Bucket{bucket: name}
	if prefix != "" {
		b.prefix = prefix + "/"
	}
	b.client, err = minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Transport: rt, Region: c.Region,
		BucketLookup: minio.BucketLookupPath, // buckets are not resolved as names of hosts
		MaxRetries:   1,                      // the caller tries again
	})
	if err != nil {
		return nil, errors.New("it is no URL of an object store")
	}
	return b, nil
}

// Get reads an object of at most limit bytes.
func (b *Bucket) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	o, err := b.client.GetObject(ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, meaning(err)
	}
	defer func() { _ = o.Close() }() // it was only read from
	data, err := io.ReadAll(io.LimitReader(o, limit+1))
	if err != nil {
		return nil, meaning(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("object of more than %d bytes", limit)
	}
	return data, nil
}

// Range reads n bytes from off on, fewer where the object ends before.
func (b *Bucket) Range(ctx context.Context, name string, off, n int64) ([]byte, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetRange(off, off+n-1); err != nil {
		return nil, err
	}
	o, err := b.client.GetObject(ctx, b.bucket, b.prefix+name, opts)
	if err != nil {
		return nil, meaning(err)
	}
	defer func() { _ = o.Close() }() // it was only read from
	data, err := io.ReadAll(io.LimitReader(o, n))
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil, nil // off is beyond the end
	}
	return data, meaning(err)
}

// Attributes are what a web server would say of an object.
type Attributes struct{ ContentType, CacheControl string }

// Put writes an object.
func (b *Bucket) Put(ctx context.Context, name string, data []byte, a Attributes) error {
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, bytes.NewReader(data), int64(len(data)),
		minio.PutObjectOptions{ContentType: a.ContentType, CacheControl: a.CacheControl, DisableMultipart: true})
	return meaning(err)
}

// PutFile writes an object of size bytes out of a file, in parts if it is
// large; it appears with the last of them.
func (b *Bucket) PutFile(ctx context.Context, name string, f io.ReaderAt, size int64, a Attributes) error {
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, io.NewSectionReader(f, 0, size), size,
		minio.PutObjectOptions{ContentType: a.ContentType, CacheControl: a.CacheControl})
	return meaning(err)
}

// Object is one entry of a listing.
type Object struct {
	Name string
	Size int64
	// Tag changes with the content.
	Tag string
}

// List yields the objects whose names begin with dir, which is "" or ends in a
// slash; those below folders of it, too. An error is the last value.
func (b *Bucket) List(ctx context.Context, dir string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + dir, Recursive: true}) {
			if o.Err != nil {
				yield(Object{}, meaning(o.Err))
				return
			}
			if strings.HasSuffix(o.Key, "/") { // a folder's own entry, as some tools make it
				continue
			}
			if !yield(Object{strings.TrimPrefix(o.Key, b.prefix), o.Size, o.ETag}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Object{}, err)
		}
	}
}

// Delete removes an object; nil if there is none.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return meaning(b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
}

// meaning says what a store's answer means, without its words.
func meaning(err error) error {
	var resp minio.ErrorResponse
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &resp):
		return err
	}
	switch code := resp.Code; {
	case code == minio.NoSuchKey:
		return fs.ErrNotExist
	case code == "NoSuchBucket":
		return fmt.Errorf("there is no such bucket: %w", ErrRefused)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("these credentials are not let in (%s): %w", code, ErrRefused)
	default:
		return fmt.Errorf("the object store answered %d (%s)", resp.StatusCode, code)
	}
}

// ParseURL reads the URL of a bucket or another place that wants a password.
// Errors don't quote it. Plain HTTP would show passwords to the network.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("it is no plain https URL")
	case u.User != nil:
		return nil, errors.New("user and password belong in the file that credentials names, not in the URL")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, errors.New("it is no https URL")
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// maxSecret bounds a file of credentials, in bytes.
const maxSecret = 64 << 10

// ReadSecret reads a file that its owner alone may read.
func ReadSecret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return "", errors.New("credentials: others may read the file; run chmod 600 on it")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
