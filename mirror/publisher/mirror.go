package publisher

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"tamizdat/bundle/channel"
	"tamizdat/internal/bucket"
	"tamizdat/transport"
	"tamizdat/transport/static"
)

// kinds are the settings that say what a target is: there has to be one.
func (t *TargetConfig) kinds() []string {
	return slices.DeleteFunc([]string{t.Relay, t.Folder, t.Mirror, t.S3, t.WebDAV, t.Git, t.DNS, t.Witness}, func(s string) bool { return s == "" })
}

// isMirror reports whether the target is a static mirror.
func (t *TargetConfig) isMirror() bool {
	return t.Relay == "" && t.Folder == "" && t.DNS == "" && t.Witness == ""
}

// checkMirror checks what only static mirrors have. Its errors quote nothing.
func (t *TargetConfig) checkMirror() error {
	switch {
	case t.URL != "" && !t.isMirror():
		return errors.New("url is for static mirrors; readers find a relay by its line")
	case t.URL != "" && !fits(channel.Places{Mirrors: []string{t.URL}}):
		return errors.New("url is no https address that an invite can name, as https://news.example")
	case t.Credentials != "" && t.S3 == "" && t.WebDAV == "" && t.DNS == "":
		return errors.New("credentials are for s3, webdav and dns")
	case t.Region != "" && t.S3 == "":
		return errors.New("region is for s3")
	}
	return nil
}

// openMirror opens a static mirror's target.
func (p *Publisher) openMirror(network transport.Network, t TargetConfig) (*static.Publisher, error) {
	s, err := p.mirrorStore(network, t)
	if err != nil {
		return nil, err
	}
	return static.New(s), nil
}

// mirrorStore is where a static mirror's files lie.
func (p *Publisher) mirrorStore(network transport.Network, t TargetConfig) (static.Store, error) {
	below := p.below
	switch {
	case t.Mirror != "":
		return static.NewFolder(below(t.Mirror)), nil
	case t.Git != "":
		return static.NewGit(below(t.Git)), nil
	case t.S3 != "":
		s, err := static.NewS3(network, bucket.Config{URL: t.S3, Region: t.Region, Credentials: below(t.Credentials)})
		if err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
		return s, nil
	default:
		d, err := static.NewWebDAV(network, t.WebDAV, below(t.Credentials))
		if err != nil {
			return nil, fmt.Errorf("webdav: %w", err)
		}
		return d, nil
	}
}

// below is a file of the configuration, which may be relative to the folder.
func (p *Publisher) below(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.dir, name)
}

// AddMirror appends a static mirror to publisher.toml.
func (p *Publisher) AddMirror(t TargetConfig) error {
	if !t.isMirror() || len(t.kinds()) != 1 {
		return errors.New("name one of folder, bucket, WebDAV folder and working copy")
	}
	if err := t.checkMirror(); err != nil {
		return err
	}
	return p.addTarget(t)
}
