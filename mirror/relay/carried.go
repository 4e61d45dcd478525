package relay

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/durable"
)

// carriedFile lists the channels a relay carries, one channel ID a line.
const carriedFile = "carried"

// maxCarried bounds the list: what it takes in memory, and to read it again when
// it has changed.
const maxCarried = 1024

// carried is the list of channels with their mint keys. The file is looked at
// on every request, so that a channel added by another process is carried at
// once, and so that this look costs every request the same.
type carried struct {
	path                string
	relay, intake, pull []byte
	check               func(channel.Lock, channel.Prefix) bool // Lock.Check; tests count
	log                 *slog.Logger

	mu   sync.RWMutex
	seen fileID
	list carriedList
	told *fileID // the log has heard that this one is no list; nil for none
}

// carriedList is the file as it was read. It is immutable.
type carriedList struct {
	channels []carriedChannel
	// locks are those of the keys that open something, by the hint in what they mint.
	// Two keys have one hint once in a thousand full lists; most is how many locks have
	// to be tried for any hint.
	locks map[channel.Hint][]lock
	most  int
}

// lock is one, and what prefixes that fit it open.
type lock struct {
	channel.Lock
	kind access
	at   int // in channels
}

type carriedChannel struct {
	id                 channel.ID
	mint, intake, pull channel.MintKey
}

type fileID struct {
	at   time.Time
	size int64
}

func newCarried(dir string, k *keys) (*carried, error) {
	c := &carried{
		path: filepath.Join(dir, carriedFile), relay: k.relay, intake: k.intake, pull: k.pull,
		check: channel.Lock.Check, log: slog.New(slog.DiscardHandler),
	}
	return c, c.reload()
}

// channels returns the current channels; don't change them. A file that can't be
// read leaves the last good list, and the log hears of it, as it does of one that has
// a mistake in it, which is not read again before it changes.
func (c *carried) channels() []carriedChannel { return c.current().channels }

func (c *carried) current() carriedList {
	id := statID(c.path)
	c.mu.RLock()
	list, same := c.list, c.seen == id
	c.mu.RUnlock()
	if same {
		return list
	}
	if err := c.reload(); err != nil {
		c.complain(id, err)
		return list
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.list
}

func statID(path string) fileID {
	st, err := os.Stat(path)
	if err != nil {
		return fileID{}
	}
	return fileID{st.ModTime(), st.Size()}
}

// complain tells the volunteer once of each file that is no list.
func (c *carried) complain(id fileID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil || *c.told != id {
		c.told = &id
		c.log.Error("the list of carried channels can't be used; those that it had before are carried on", "err", err)
	}
}

func (c *carried) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := statID(c.path)
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	c.seen = id // whatever comes of it
	list := carriedList{locks: map[channel.Hint][]lock{}, most: 1}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		ch, err := channel.ParseID(line)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", c.path, n+1, err)
		}
		if len(list.channels) == maxCarried {
			return fmt.Errorf("%s: more than %d channels", c.path, maxCarried)
		}
		cc, at := c.keysOf(ch), len(list.channels)
		list.channels = append(list.channels, cc)
		for _, l := range []lock{{cc.mint.Lock(), accessRead, at}, {cc.intake.Lock(), accessIntake, at}, {cc.pull.Lock(), accessPull, at}} {
			hint := l.Hint()
			list.locks[hint] = append(list.locks[hint], l)
			list.most = max(list.most, len(list.locks[hint]))
		}
	}
	c.list = list
	return nil
}

func (c *carried) keysOf(ch channel.ID) carriedChannel {
	return carriedChannel{ch, channel.NewMintKey(c.relay, ch), channel.NewMintKey(c.intake, ch), channel.NewMintKey(c.pull, ch)}
}

// has reports whether a channel is carried.
func (c *carried) has(ch channel.ID) bool {
	return slices.ContainsFunc(c.channels(), func(cc carriedChannel) bool { return cc.id == ch })
}

// add carries a channel from now on; it is durable on return.
func (c *carried) add(ch channel.ID) error {
	if c.has(ch) {
		return nil
	}
	text, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(text) == 0 {
		text = []byte("# channels this relay carries, one channel ID a line; take a line out to stop\n")
	}
	if !bytes.HasSuffix(text, []byte{'\n'}) {
		text = append(text, '\n')
	}
	if err := durable.Write(c.path, 0o600, append(text, ch.String()+"\n"...)); err != nil {
		return err
	}
	return c.reload()
}

// access is what a path prefix opens.
type access int

const (
	accessNone   access = iota // the website
	accessRead                 // one channel's gateway
	accessIntake               // one channel's intake
	accessPull                 // the gateway, and editions as they are, for another relay
)

// match says what the first path segment opens. As many keys are tried on any
// segment, whether it is a prefix or not, of whatever channel, and however many
// channels there are: how long it takes says nothing about any of that. Which
// keys, the hint says; where nothing has it they are of no use, but are tried.
func (c *carried) match(segment string) (access, channel.ID, [8]byte) {
	p, ok := channel.ParsePrefix(segment)
	list := c.current()
	locks := list.locks[p.Hint()]
	found, kind := 0, int(accessNone)
	for i := range list.most {
		var l lock
		if i < len(locks) {
			l = locks[i]
		}
		fits := toInt(c.check(l.Lock, p))
		found = subtle.ConstantTimeSelect(fits, l.at, found)
		kind = subtle.ConstantTimeSelect(fits, int(l.kind), kind)
	}
	if !ok || kind == int(accessNone) {
		return accessNone, channel.ID{}, [8]byte{}
	}
	return access(kind), list.channels[found].id, p.Tag()
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
