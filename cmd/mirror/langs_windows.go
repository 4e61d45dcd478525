package main

import "golang.org/x/sys/windows"

// nativeLangs are the languages that Windows speaks with this user, best first.
func nativeLangs() []string {
	langs, err := windows.GetUserPreferredUILanguages(windows.MUI_LANGUAGE_NAME)
	if err != nil {
		return nil // all languages are alike then; --lang says which to prefer
	}
	return langs
}
