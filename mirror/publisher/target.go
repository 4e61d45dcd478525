package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"tamizdat/internal/durable"
	wire "tamizdat/transport/relay"
)

// ErrTargetExists is wrapped by AddTarget's error for a name that is taken.
var ErrTargetExists = errors.New("there is a target of this name already")

// relayLine is a relay's line as pasted, without the line breaks and spaces that
// terminals and mails put into it. Errors quote nothing of it.
func relayLine(text string) (string, error) {
	line := strings.Join(strings.Fields(text), "")
	_, err := wire.ParseTarget(line)
	return line, err
}

// AddTarget appends a relay's line to publisher.toml. White space in the line
// does no harm.
func (p *Publisher) AddTarget(name, line string) error {
	line, err := relayLine(line)
	if err != nil {
		return err
	}
	return p.addTarget(TargetConfig{Name: name, Relay: line})
}

func (p *Publisher) addTarget(t TargetConfig) error {
	if slices.ContainsFunc(p.cfg.Targets, func(o TargetConfig) bool { return o.Name == t.Name }) {
		return fmt.Errorf("%w: %q", ErrTargetExists, t.Name)
	}
	old, err := os.ReadFile(filepath.Join(p.dir, configFile))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Write(bytes.TrimRight(old, "\n"))
	b.WriteString("\n\n")
	if err := toml.NewEncoder(&b).Encode(struct {
		Targets []TargetConfig `toml:"target"`
	}{[]TargetConfig{t}}); err != nil {
		return err
	}
	return p.rewrite(b.String(), append(slices.Clone(p.cfg.Targets), t))
}

var (
	tableLine = regexp.MustCompile(`^\s*\[`)
	relayKey  = regexp.MustCompile(`^(\s*)relay\s*=`)
)

// ReplaceTarget gives the relay of that name a new line in publisher.toml and
// leaves the rest of the file as it is, comments too.
func (p *Publisher) ReplaceTarget(name, line string) error {
	line, err := relayLine(line)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(p.cfg.Targets, func(t TargetConfig) bool { return t.Name == name })
	switch {
	case at < 0:
		return fmt.Errorf("no target %q to replace; without --replace it is added", name)
	case p.cfg.Targets[at].Relay == "":
		return fmt.Errorf("target %q is no relay; edit %s", name, configFile)
	}
	old, err := os.ReadFile(filepath.Join(p.dir, configFile))
	if err != nil {
		return err
	}
	// Targets stand in the file in the order in which they were read.
	lines, table := strings.Split(string(old), "\n"), -1
	for i, l := range lines {
		switch {
		case strings.HasPrefix(strings.ReplaceAll(l, " ", ""), "[[target]]"):
			table++
		case tableLine.MatchString(l):
		case table == at && relayKey.MatchString(l):
			lines[i] = fmt.Sprintf("%srelay = %q", relayKey.FindStringSubmatch(l)[1], line)
		}
	}
	want := slices.Clone(p.cfg.Targets)
	want[at].Relay = line
	return p.rewrite(strings.Join(lines, "\n"), want)
}

// rewrite replaces publisher.toml, provided that the new text says the same as
// the old but for its targets: people edit the file, in ways this can't foresee.
func (p *Publisher) rewrite(text string, targets []TargetConfig) error {
	want := p.cfg
	want.Targets = targets
	var got Config
	if _, err := toml.Decode(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s is written in a way that can't be changed by itself; edit it by hand", configFile)
	}
	if err := durable.Write(filepath.Join(p.dir, configFile), 0o600, []byte(text)); err != nil {
		return err
	}
	var err error
	p.cfg, err = loadConfig(p.dir)
	return err
}
