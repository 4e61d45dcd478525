package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tamizdat/bundle/channel"
	"tamizdat/internal/cli"
	newsync "tamizdat/mirror/sync"
	"tamizdat/transport"
)

func TestSize(t *testing.T) {
	for in, want := range map[string]size{
		"500kB": 500_000, "5MB": 5_000_000, "5 MB": 5_000_000, "1.5GB": 1_500_000_000, "2m": 2_000_000, "300": 300, "300B": 300, "1TB": 1_000_000_000_000,
		"": 0, "0": 0, "0.1": 0, "-5MB": 0, "much": 0, "5MiB": 0, "5XB": 0, "MB": 0, "1e3": 0, "NaN": 0, "Inf": 0, "0x10": 0, "9999999999TB": 0, "1.2.3": 0,
	} {
		var s size
		err := s.UnmarshalText([]byte(in))
		if s != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", in, s, err)
		}
	}
}

func TestMeteredLimit(t *testing.T) {
	for want, d := range map[int64]dataFlags{0: {}, meteredLimit: {Metered: true}, 5: {Metered: true, Limit: 5}, 7: {Limit: 7}} {
		if got := d.limit(); got != want {
			t.Errorf("%+v: %d", d, got)
		}
	}
}

func TestLeastLimit(t *testing.T) {
	if leastLimit < newsync.LeastBytes {
		t.Errorf("below the engine's %d", newsync.LeastBytes)
	}
	for d, ok := range map[dataFlags]bool{
		{}: true, {Limit: 100}: false, {Limit: leastLimit}: true, {LimitDay: leastLimit - 1}: false, {Limit: 1 << 30, LimitDay: 1 << 30}: true,
	} {
		if err := d.check(); (err == nil) != ok || err != nil && !errors.Is(err, cli.ErrUsage) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// Only somebody who was asked can have nothing newer.
func TestReportSaysWhatIsKnown(t *testing.T) {
	head := &channel.Head{Leaf: channel.Leaf{Edition: 4}, Size: 5}
	shown := func(state string, size uint64) []newsync.PathReport {
		return []newsync.PathReport{{Name: "p", State: state, Head: size}}
	}
	for want, res := range map[string]newsync.Result{
		"edition 4":                         {New: true, Answered: 1},
		"nothing newer than edition 4":      {Answered: 2, Paths: shown("ok", 5)},
		"no way answered; still edition 4":  {Unreached: true},
		"no way answered; still edition 4 ": {}, // liars alone
		"there is newer news, but it has not come through; still edition 4": {Answered: 1, Paths: shown("failed", 6)},
		"nothing newer than edition 4 ":                                     {Answered: 1, Paths: shown("lied", 6)},
	} {
		var out bytes.Buffer
		e := &env{out: &out}
		res.Head = head
		e.report(channel.ID{}, &res, "no way answered")
		if _, line, _ := strings.Cut(out.String(), ": "); !strings.HasPrefix(line, strings.TrimSpace(want)+" of ") {
			t.Errorf("%+v: %q", res, out.String())
		}
	}
}

func TestLangs(t *testing.T) {
	native := nativeLangs()
	for _, c := range []struct {
		flag []string
		env  map[string]string
		want []string
	}{
		{nil, nil, native},
		{nil, map[string]string{"LANG": "C.UTF-8"}, native},
		{[]string{"fa", "ru", "fa", "zh_TW"}, nil, []string{"fa", "ru", "zh-TW"}},
		{[]string{"fa"}, map[string]string{"LANG": "ru_RU.UTF-8"}, []string{"fa"}},
		{nil, map[string]string{"LANG": "ru_RU.UTF-8"}, []string{"ru-RU"}},
		{nil, map[string]string{"LANG": "fa_IR.UTF-8", "LC_ALL": "POSIX", "LANGUAGE": "fa:en_GB:fa"}, []string{"fa", "en-GB", "fa-IR"}},
		{nil, map[string]string{"LANG": "uz_UZ@cyrillic", "LC_MESSAGES": "../../etc"}, []string{"uz-UZ"}},
	} {
		if got := (langFlags{c.flag}).of(func(k string) string { return c.env[k] }); !slices.Equal(got, c.want) {
			t.Errorf("%v, %v: %q, want %q", c.flag, c.env, got, c.want)
		}
	}
	for name, ok := range map[string]bool{"fa": true, "zh-Hant-TW": true, "und": false, "": false, "every": false, "русский": false, "../..": false} {
		if err := (langFlags{[]string{"en", name}}).check(); (err == nil) != ok || err != nil && !errors.Is(err, cli.ErrUsage) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What a person reads while it works: what, from where, how fast, how long.
func TestProgressLine(t *testing.T) {
	p := progress{meter: cli.NewMeter(nil)}
	step := newsync.Progress{Stage: "head", At: 200 * time.Millisecond}
	p.heard(step)
	if got := p.line(step); got != "asking what is newest, 0 s" {
		t.Errorf("%q", got)
	}
	step = newsync.Progress{Stage: "text", At: time.Second, Event: newsync.EventBrought, Path: "dns n.example"}
	p.heard(step)
	step.Path = "relay 192.0.2.1:443 tcp"
	p.heard(step)
	step = newsync.Progress{Stage: "text", At: 3 * time.Second, Bytes: 120_000, Rate: 40_000, Left: 5 * time.Second}
	if got := p.line(step); got != "texts, 120.0 kB from dns n.example and 1 more, 40.0 kB/s, 3 s, about 5 s left" {
		t.Errorf("%q", got)
	}
	p.heard(newsync.Progress{Stage: "images"})
	if len(p.from) != 0 {
		t.Error("what brought texts is said to bring images")
	}
}

// Where only DNS works people hear at once what the texts take, and all the time
// what is left.
func TestCostIsTold(t *testing.T) {
	var out strings.Builder
	p := progress{meter: cli.NewMeter(nil), out: &out}
	cost := transport.Cost{Queries: 1500, Up: 150_000, Down: 1_700_000, Time: 148 * time.Second}
	for range 2 {
		p.heard(newsync.Progress{Stage: "head"})
		for range 3 {
			p.heard(newsync.Progress{Stage: "text", Cost: cost, Left: cost.Time})
		}
	}
	want := "only DNS works: the texts take about 1500 questions, 150.0 kB up and 1.7 MB down, 3 minutes\n"
	if out.String() != want+want {
		t.Errorf("%q", out.String())
	}
	if got := p.line(newsync.Progress{Stage: "text", Cost: cost, Left: cost.Time}); !strings.HasSuffix(got, "1.7 MB down, 3 minutes left") {
		t.Errorf("%q", got)
	}
	cost.Time = 1500 * time.Millisecond
	if got := costWords(cost); !strings.HasSuffix(got, ", 2 seconds") {
		t.Errorf("%q", got)
	}
}
