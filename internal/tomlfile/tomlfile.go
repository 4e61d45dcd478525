// Package tomlfile reads the programs' settings.
package tomlfile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// Decode decodes TOML into a struct and refuses settings that it does not have. What is
// wrong is said in one line that begins with name, by number of line and setting: nothing
// of the text is quoted, since settings hold secrets.
func Decode(name, text string, into any) error {
	meta, err := toml.Decode(text, into)
	var parse toml.ParseError
	switch {
	case errors.As(err, &parse):
		what := "not valid TOML"
		if key := parse.LastKey; key != "" {
			what += fmt.Sprintf(" (in or after %s)", key)
		}
		return fmt.Errorf("%s, line %d: %s", name, parse.Position.Line, what)
	case err != nil: // it names a key and two types
		return fmt.Errorf("%s: %s", name, strings.TrimPrefix(err.Error(), "toml: "))
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return fmt.Errorf("%s: unknown setting %q; see the comments in the file", name, extra[0].String())
	}
	return nil
}
