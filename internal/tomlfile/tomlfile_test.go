package tomlfile

import (
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"port = 1\nlines = [\"secret\"]":   "",
		"port = 1\nlines = [secret]":       "f.toml, line 2: not valid TOML (in or after lines)",
		"port = secret":                    "f.toml, line 1: not valid TOML (in or after port)",
		"lines = \"secret":                 "f.toml, line 1: not valid TOML (in or after lines)",
		"secret":                           "f.toml, line 1: not valid TOML",
		"port = \"secret\"":                "f.toml: line 1 (last key \"port\"): incompatible types",
		"[a]\nport = 1":                    `f.toml: unknown setting "a"; see the comments in the file`,
		"port = 1\nport = 2":               "f.toml, line 2: not valid TOML",
		"port = 1\n\n\nlines = [1.secret]": "f.toml, line 4: not valid TOML (in or after lines)",
	} {
		var into struct {
			Port  int      `toml:"port"`
			Lines []string `toml:"lines"`
		}
		err := Decode("f.toml", text, &into)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: %v", text, err)
		case err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n")):
			t.Errorf("%q is quoted: %v", text, err)
		}
	}
}
