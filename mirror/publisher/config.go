package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
	"tamizdat/internal/tomlfile"
	wire "tamizdat/transport/relay"
)

const configFile = "publisher.toml"

// Config is publisher.toml. It holds secrets (relay lines): the file is
// readable by its owner only.
type Config struct {
	// Name is the channel's name as readers see it, Langs its languages (BCP 47).
	Name  string   `toml:"name"`
	Langs []string `toml:"lang"`
	// Sources are packed when none are named on the command line.
	Sources []string `toml:"sources"`
	// Headlines is how many the front page holds; 0 means 60.
	Headlines int `toml:"headlines"`
	// Batches is how many batches of readers there are: 16, 32, 64 or 128; 0 means
	// 16. It only grows.
	Batches int `toml:"batches"`
	// Targets are pushed to.
	Targets []TargetConfig `toml:"target"`
	// Zones, Peers and Gateways are further ways in that go into invites and
	// grants.
	Zones    []string `toml:"zones"`
	Peers    []string `toml:"peers"`
	Gateways []string `toml:"gateways"`
	// BitTorrent makes a signed packet of each newest head, which relays put on
	// BitTorrent's DHT whose volunteers want that.
	BitTorrent bool `toml:"bittorrent"`
}

// TargetConfig is one [[target]]: a relay, a folder of CAR files, a static
// mirror (see mirror.go), a DNS zone on somebody's name server (see hosted.go), or a
// witness that is no relay. Exactly one of Relay, Folder, Mirror, S3, WebDAV, Git, DNS
// and Witness is set.
type TargetConfig struct {
	Name string `toml:"name"`
	// Relay is the line that `mirror-relay address` printed.
	Relay string `toml:"relay,omitempty"`
	// Folder takes one CAR file an edition; it is relative to the channel's folder.
	Folder string `toml:"folder,omitempty"`
	// Via are CDNs in front of the relay, "https://NAME" or "https://NAME:PORT"
	// each: invites and grants also lead readers there. Pushes go to the relay
	// itself.
	Via []string `toml:"via,omitempty"`
	// Mirror is a folder, Git a git working copy that takes the plain files of a
	// static mirror; relative to this folder.
	Mirror string `toml:"mirror,omitempty"`
	Git    string `toml:"git,omitempty"`
	// S3 is a bucket, "https://ENDPOINT/BUCKET" or more behind, WebDAV a folder's
	// URL. Credentials is a file, relative to this folder, that its owner alone may
	// read (see package transport/static); Region is the bucket's, if the store
	// doesn't tell.
	S3          string `toml:"s3,omitempty"`
	WebDAV      string `toml:"webdav,omitempty"`
	Credentials string `toml:"credentials,omitempty"`
	Region      string `toml:"region,omitempty"`
	// DNS is a zone and the name server that takes updates of it (RFC 2136),
	// "ZONE@ADDRESS" or "ZONE@ADDRESS:PORT". Credentials is then the file of a TSIG
	// key, see dns.ParseKey. Pointer keeps texts out of the zone, for providers with
	// small quotas.
	DNS     string `toml:"dns,omitempty"`
	Pointer bool   `toml:"pointer,omitempty"`
	// Witness is the submission prefix of a witness (c2sp.org/tlog-witness), an https
	// URL: it is shown checkpoints, and takes no editions. Relays are asked whether
	// they are witnesses without that.
	Witness string `toml:"witness,omitempty"`
	// URL is where readers find a static mirror. Invites and grants name it;
	// without one the mirror is filled and nobody is led there.
	URL string `toml:"url,omitempty"`
}

const configHead = `# What mirror-publish works with. Keep this file to yourself: relay lines are
# secrets. Changes take effect with the next command.

`

const configTail = `
# Packed when "mirror-publish pack" is given no source: folders, files, feeds.
# sources = ["articles/", "https://news.example/rss"]

# How many headlines the front page holds.
# headlines = 60

# How many batches of readers there may be, used or not: 16, 32, 64 or 128. Each
# edition holds a grant for each. What was made stays.
# batches = 16

# Where "mirror-publish push" sends editions. A relay's volunteer gets its line
# from "mirror-relay address CHANNEL"; "mirror-publish target NAME" adds it here.
# [[target]]
# name = "first relay"
# relay = "relay1:..."
# # CDNs that stand in front of the relay: readers then get that way in too.
# via = ["https://cdn.example"]
#
# [[target]]
# name = "stick"
# folder = "/media/stick/editions"
#
# Static mirrors: plain files on any web host, which readers find at url. One of
# mirror (a folder), s3, webdav and git (a working copy). Passwords stand in a
# file, never here: "chmod 600" it. See docs/publisher.md.
# [[target]]
# name = "bucket"
# s3 = "https://s3.example/news"
# credentials = "keys/bucket"
# url = "https://news.example"

# A DNS zone on a name server that takes updates (RFC 2136), with a TSIG key in a
# file, as BIND's tsig-keygen or Knot's keymgr print it: "chmod 600" it. Name the
# zone below, too. With pointer the texts stay out, for providers that count records;
# see docs/publisher.md.
# [[target]]
# name = "zone"
# dns = "n.example@192.0.2.53"
# credentials = "keys/n.example.key"
# pointer = true

# A witness that is no relay of yours: where it takes checkpoints. Its key has to be
# in the root note; see docs/publisher.md.
# [[target]]
# name = "a witness"
# witness = "https://witness.example"

# Further ways in, which go into invites: DNS zones ("ZONE" or, if a server
# answers for it directly, "ZONE@ADDRESS:PORT"), IPFS peers (multiaddresses that
# end in /p2p/ID) and trustless gateways (https URLs). They stand above the
# first [[target]].
# zones = ["n.example"]
# peers = []
# gateways = []

# Sign a packet with each newest head, which relays put on BitTorrent's DHT if their
# volunteers want that. Everybody can watch it there. Above the first [[target]], too.
# bittorrent = false
`

// writeConfig writes a new publisher.toml with its comments.
func writeConfig(dir string, c Config) error {
	var b bytes.Buffer
	b.WriteString(configHead)
	if err := toml.NewEncoder(&b).Encode(struct {
		Name  string   `toml:"name"`
		Langs []string `toml:"lang"`
	}{c.Name, c.Langs}); err != nil {
		return err
	}
	b.WriteString(configTail)
	return durable.Write(filepath.Join(dir, configFile), 0o600, b.Bytes())
}

func loadConfig(dir string) (Config, error) {
	text, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return Config{}, err
	}
	return parseConfig(string(text))
}

// parseConfig reads publisher.toml. Its errors quote no value.
func parseConfig(text string) (Config, error) {
	var c Config
	if err := tomlfile.Decode(configFile, text, &c); err != nil {
		return c, err
	}
	if err := checkName(c.Name); err != nil {
		return c, fmt.Errorf("%s: name: %w", configFile, err)
	}
	if err := c.checkLists(); err != nil {
		return c, fmt.Errorf("%s: %w", configFile, err)
	}
	// Few numbers, so that a channel's own says nothing of what it needed.
	if !slices.Contains([]int{0, leastBatches, 2 * leastBatches, 4 * leastBatches, maxBatches}, c.Batches) {
		return c, fmt.Errorf("%s: batches must be 16, 32, 64 or 128", configFile)
	}
	seen, fronts := map[string]bool{}, map[string]string{}
	for _, t := range c.Targets {
		switch {
		case t.Name == "" || seen[t.Name]:
			return c, fmt.Errorf("%s: each target needs a name of its own", configFile)
		case len(t.kinds()) != 1:
			return c, fmt.Errorf("%s: target %q needs one of relay, folder, mirror, s3, webdav, git, dns and witness", configFile, t.Name)
		case t.Relay == "" && len(t.Via) > 0:
			return c, fmt.Errorf("%s: target %q: via is for relays", configFile, t.Name)
		}
		if err := errors.Join(t.checkMirror(), t.checkHosted(), t.checkWitness()); err != nil {
			return c, fmt.Errorf("%s: target %q: %w", configFile, t.Name, err)
		}
		seen[t.Name] = true
		if t.Relay != "" {
			line, err := wire.ParseTarget(t.Relay)
			if err == nil {
				err = t.checkVia(line, fronts)
			}
			if err != nil {
				return c, fmt.Errorf("%s: target %q: %w", configFile, t.Name, err)
			}
		}
	}
	return c, nil
}

// Configure replaces publisher.toml; its comments are not kept.
func (p *Publisher) Configure(c Config) error {
	var b bytes.Buffer
	b.WriteString(configHead)
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(p.dir, configFile), 0o600, b.Bytes()); err != nil {
		return err
	}
	var err error
	p.cfg, err = loadConfig(p.dir)
	return err
}

// places are the ways in for one batch of readers.
func (p *Publisher) places(seed channel.Seed) (channel.Places, error) {
	var out channel.Places
	var fronts []channel.Relay
	seen := map[string]bool{}
	err := p.eachRelay(func(t TargetConfig, target wire.Target, again bool) error {
		if !again {
			out.Relays = append(out.Relays, target.Relay(seed))
		}
		for _, v := range t.Via {
			host, port, err := parseVia(v)
			if err != nil {
				return err
			}
			if at := net.JoinHostPort(host, strconv.Itoa(int(port))); !seen[at] {
				seen[at] = true
				fronts = append(fronts, target.RelayVia(host, port, seed))
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Relays = append(out.Relays, fronts...)
	for _, z := range p.cfg.Zones {
		out.Zones = append(out.Zones, parseZone(z))
	}
	out.Peers, out.Gateways = p.cfg.Peers, p.cfg.Gateways
	for _, t := range p.cfg.Targets {
		if t.URL != "" && !slices.Contains(out.Mirrors, t.URL) {
			out.Mirrors = append(out.Mirrors, t.URL)
		}
	}
	return out, nil
}

// otherPorts are the relays at their other ports, for which invites have no room.
func (p *Publisher) otherPorts(seed channel.Seed) ([]channel.Relay, error) {
	var out []channel.Relay
	err := p.eachRelay(func(_ TargetConfig, target wire.Target, again bool) error {
		if !again {
			out = append(out, target.Others(seed)...)
		}
		return nil
	})
	return out, err
}

// eachRelay goes through the targets that are relays; again: it was there already,
// since one relay may be a target under two names.
func (p *Publisher) eachRelay(f func(t TargetConfig, target wire.Target, again bool) error) error {
	seen := map[string]bool{}
	for _, t := range p.cfg.Targets {
		if t.Relay == "" {
			continue
		}
		target, err := wire.ParseTarget(t.Relay)
		if err != nil {
			return err
		}
		at := strings.ToLower(target.Address())
		if err := f(t, target, seen[at]); err != nil {
			return err
		}
		seen[at] = true
	}
	return nil
}
