package main

import (
	"slices"
	"strings"

	"golang.org/x/text/language"

	"tamizdat/internal/cli"
)

// langFlags say what the reader reads.
type langFlags struct {
	Lang []string `help:"A language that you read, say fa; several with commas. Its texts come first. Without it: those of the system." placeholder:"TAG"`
}

// check refuses what is no language.
func (l langFlags) check() error {
	for _, name := range l.Lang {
		if tag(name) == "" {
			return cli.Usage("--lang takes a language's tag, as in ru, fa or zh-TW")
		}
	}
	return nil
}

// of are the reader's languages, BCP 47: those asked for, or else those that the
// system speaks with its user. It may be none.
func (l langFlags) of(getenv func(string) string) (langs []string) {
	names := l.Lang
	if len(names) == 0 {
		names = posixLangs(getenv)
	}
	if len(names) == 0 {
		names = nativeLangs()
	}
	for _, n := range names {
		if t := tag(n); t != "" && !slices.Contains(langs, t) {
			langs = append(langs, t)
		}
	}
	return langs
}

// posixLangs are languages by the variables of POSIX and GNU.
func posixLangs(getenv func(string) string) (langs []string) {
	names := strings.Split(getenv("LANGUAGE"), ":")
	for _, v := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		names = append(names, getenv(v))
	}
	for _, n := range names {
		n, _, _ = strings.Cut(n, "@")
		n, _, _ = strings.Cut(n, ".")
		if n != "C" && n != "POSIX" && tag(n) != "" {
			langs = append(langs, n)
		}
	}
	return langs
}

// tag is a language's tag as BCP 47 writes it, "" for what is none.
func tag(name string) string {
	t, err := language.Parse(name)
	if err != nil || t == language.Und {
		return ""
	}
	return t.String()
}
