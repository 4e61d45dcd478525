package relay

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tamizdat/internal/bucket"
	"tamizdat/internal/durable"
	"tamizdat/internal/tomlfile"
	wire "tamizdat/transport/relay"
)

// FileConfig is relay.toml; every field has a default, so that an empty file
// works. Sizes are in megabytes (1,000,000 bytes).
type FileConfig struct {
	// Listen are the addresses tried in this order; the first that can be
	// opened is used.
	Listen []string `toml:"listen"`
	// Also are more addresses on which the same is served.
	Also []string `toml:"also"`
	// ECH is the outer name behind which readers hide Host.
	ECH string `toml:"ech"`
	// Host is the name or address publishers and readers find the relay under.
	Host string `toml:"host"`
	// Decoy is the folder of the website everyone sees; empty for the built-in one.
	Decoy string `toml:"decoy"`
	// Site is a website elsewhere that is shown instead, "http://127.0.0.1:8080".
	Site string `toml:"site"`
	// Redirect is where visitors without TLS are sent on from, ":80"; empty for
	// nowhere.
	Redirect string `toml:"redirect"`
	// ACME are the names to get a certificate for, ACMEEmail the volunteer's
	// address for the authority (may be empty), ACMEDirectory its URL (empty for
	// Let's Encrypt), ACMERoots a PEM file with the authorities its own server is
	// known by (empty for the system's).
	ACME          []string `toml:"acme"`
	ACMEEmail     string   `toml:"acme_email"`
	ACMEDirectory string   `toml:"acme_directory"`
	ACMERoots     string   `toml:"acme_roots"`
	// EditionMB, ChannelMB and TotalMB bound the store.
	EditionMB int64 `toml:"edition_mb"`
	ChannelMB int64 `toml:"channel_mb"`
	TotalMB   int64 `toml:"total_mb"`
	// IncomingMB bounds uploads that are not whole yet.
	IncomingMB int64 `toml:"incoming_mb"`
	// Connections to BatchPolls are Throttle's and wire.Limits' fields.
	Connections           int `toml:"connections"`
	ConnectionsPerAddress int `toml:"connections_per_address"`
	UnverifiedPerSecond   int `toml:"unverified_per_second"`
	Requests              int `toml:"requests_per_second"`
	BatchRequests         int `toml:"batch_requests_per_second"`
	PublisherRequests     int `toml:"publisher_requests_per_second"`
	AtOnce                int `toml:"requests_at_once"`
	AtOncePerAddress      int `toml:"requests_at_once_per_address"`
	BatchPolls            int `toml:"batch_polls_at_once"`
	// RateMbit and MonthGB are Traffic's PerSecond, in megabits, and PerMonth, in
	// gigabytes (1,000,000,000 bytes).
	RateMbit float64 `toml:"rate_mbit"`
	MonthGB  float64 `toml:"month_gb"`
	// Pull are lines of other relays that this one follows (see wire.Pull).
	Pull []string `toml:"pull"`
	// Witness makes the relay a witness of the channels that it carries.
	Witness bool `toml:"witness"`
	// DNSZone is served by the relay's own name server if set.
	DNSZone string `toml:"dns_zone"`
	// DNSListen is where that name server listens.
	DNSListen string `toml:"dns_listen"`
	// DNSNS are the zone's name servers, "NAME" or "NAME=ADDRESS"; empty for the
	// relay itself.
	DNSNS []string `toml:"dns_ns"`
	// DNSZones are more zones, with the same content.
	DNSZones []ZoneConfig `toml:"dns_zones"`
	// DNSRate is dns.ServerConfig's Rate.
	DNSRate int `toml:"dns_rate"`
	// DNSSecondaries are name servers that fetch the zone from here.
	DNSSecondaries []SecondaryConfig `toml:"dns_secondary"`
	// IPFS makes the relay an IPFS node as well; IPFSListen and IPFSDHT are
	// IPFSConfig's Listen and DHT.
	IPFS       bool     `toml:"ipfs"`
	IPFSListen []string `toml:"ipfs_listen"`
	IPFSDHT    []string `toml:"ipfs_dht"`
	// BitTorrent are nodes of its DHT, "HOST:PORT", by which the channels' heads are put
	// there; empty for not.
	BitTorrent []string `toml:"bittorrent"`
	// S3 keeps editions in a bucket, for a fleet of relays behind one name.
	S3 S3Config `toml:"s3"`
}

// S3Config is the table [s3]; without an endpoint there is none.
type S3Config struct {
	// Endpoint is "https://HOST" or "https://HOST:PORT", Bucket the bucket's name,
	// Prefix what stands before all names in it.
	Endpoint string `toml:"endpoint"`
	Bucket   string `toml:"bucket"`
	Prefix   string `toml:"prefix"`
	Region   string `toml:"region"`
	// Credentials is a file, relative to the data folder (see package internal/bucket).
	Credentials string `toml:"credentials"`
	// PollSeconds is how often the relay looks for what others have stored.
	PollSeconds int `toml:"poll_seconds"`
}

// Store is where the bucket is, nil if there is none; dir is the data folder.
func (c S3Config) Store(dir string) *bucket.Config {
	if c.Endpoint == "" {
		return nil
	}
	file := c.Credentials
	if file != "" && !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	return &bucket.Config{
		URL:    strings.TrimSuffix(c.Endpoint, "/") + "/" + strings.Trim(c.Bucket+"/"+c.Prefix, "/"),
		Region: c.Region, Credentials: file,
	}
}

// Poll is how often the bucket is looked at, 0 for the default.
func (c S3Config) Poll() time.Duration { return time.Duration(c.PollSeconds) * time.Second }

// ConfigFile is the name of the configuration in the data folder.
const ConfigFile = "relay.toml"

//go:embed relay.toml
var defaultConfig []byte

// LoadConfig reads relay.toml in dir; on first start it makes the folder and
// writes the file with its comments.
func LoadConfig(dir string) (FileConfig, error) {
	var c FileConfig
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return c, err
	}
	path := filepath.Join(dir, ConfigFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = defaultConfig, durable.Write(path, 0o600, defaultConfig)
	}
	if err != nil {
		return c, err
	}
	return parseConfig(path, string(text))
}

const (
	// maxMB is more than anybody has, in megabytes, and fits in bytes.
	maxMB = 1_000_000_000
	// maxCount is more than any machine can take of anything.
	maxCount = 1_000_000_000
	// maxPoll is the longest time between two looks at a bucket, in seconds.
	maxPoll = 24 * 60 * 60
)

// parseConfig reads relay.toml; path is what errors call it. They quote nothing of it.
func parseConfig(path, text string) (c FileConfig, err error) {
	if err := tomlfile.Decode(path, text, &c); err != nil {
		return c, err
	}
	if c.Decoy != "" && c.Site != "" {
		return c, fmt.Errorf("%s: decoy and site are two websites; take one out", path)
	}
	if c.S3.Endpoint == "" && c.S3 != (S3Config{}) {
		return c, fmt.Errorf("%s: [s3] has no endpoint", path)
	}
	if c.S3.Endpoint != "" && (c.S3.Bucket == "" || strings.Contains(c.S3.Bucket, "/")) {
		return c, fmt.Errorf("%s: [s3] has no bucket", path)
	}
	if c.S3.PollSeconds < 0 || c.S3.PollSeconds > maxPoll {
		return c, fmt.Errorf("%s: poll_seconds is no sensible time; it is 1 to %d, 0 for the default", path, maxPoll)
	}
	for name, v := range map[string]int64{"edition_mb": c.EditionMB, "channel_mb": c.ChannelMB, "total_mb": c.TotalMB, "incoming_mb": c.IncomingMB} {
		if v < 0 || v > maxMB {
			return c, fmt.Errorf("%s: %s is no sensible size; it is 1 to %d, 0 for the default", path, name, maxMB)
		}
	}
	for name, v := range map[string]int{
		"connections": c.Connections, "connections_per_address": c.ConnectionsPerAddress, "unverified_per_second": c.UnverifiedPerSecond,
		"requests_per_second": c.Requests, "batch_requests_per_second": c.BatchRequests, "publisher_requests_per_second": c.PublisherRequests,
		"requests_at_once": c.AtOnce, "requests_at_once_per_address": c.AtOncePerAddress, "batch_polls_at_once": c.BatchPolls, "dns_rate": c.DNSRate,
	} {
		if v > maxCount {
			return c, fmt.Errorf("%s: %s is no sensible number; it is at most %d, -1 for no limit, 0 for the default", path, name, maxCount)
		}
	}
	for name, v := range map[string]float64{"rate_mbit": c.RateMbit, "month_gb": c.MonthGB} {
		if !(v >= 0 && v <= 1e9) || v > 0 && v < 0.1 { // NaN, too
			return c, fmt.Errorf("%s: %s is no sensible amount; 0 means no limit, the least is 0.1", path, name)
		}
	}
	return c, nil
}

// PullLines parses the lines of Pull. Errors quote nothing of them.
func (c FileConfig) PullLines() ([]wire.Pull, error) {
	var out []wire.Pull
	for i, line := range c.Pull {
		p, err := wire.ParsePull(line)
		if err != nil {
			return nil, fmt.Errorf("%s: pull, line %d: %w", ConfigFile, i+1, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// Limits returns the store's limits; what is 0 stays the default.
func (c FileConfig) Limits() Limits {
	const mb = 1_000_000
	return Limits{Edition: c.EditionMB * mb, Channel: c.ChannelMB * mb, Total: c.TotalMB * mb, Incoming: c.IncomingMB * mb}
}

// Throttle returns the limits on what clients may ask; what is 0 stays the
// default.
func (c FileConfig) Throttle() Throttle {
	return Throttle{
		PerAddress: c.Requests, PerBatch: c.BatchRequests, PerIntake: c.PublisherRequests,
		AtOnce: c.AtOnce, AtOncePerAddress: c.AtOncePerAddress, PollsPerBatch: c.BatchPolls,
		Conns: wire.Limits{Conns: c.Connections, ConnsPerAddr: c.ConnectionsPerAddress, Unverified: c.UnverifiedPerSecond},
	}
}

// Traffic returns the limits on what is sent; what is 0 stays without.
func (c FileConfig) Traffic() Traffic {
	return Traffic{PerSecond: int64(c.RateMbit * 1e6 / 8), PerMonth: int64(c.MonthGB * 1e9)}
}

// Certificate says where to get one.
func (c FileConfig) Certificate() ACME {
	return ACME{Names: c.ACME, Email: c.ACMEEmail, Directory: c.ACMEDirectory, Roots: c.ACMERoots}
}
