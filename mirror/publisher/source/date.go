package source

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/itlightning/dateparse"
)

var (
	dateISO     = regexp.MustCompile(`^(\d{4})[-./](\d{1,2})[-./](\d{1,2})\b`)
	dateDMY     = regexp.MustCompile(`^(\d{1,2})\.(\d{1,2})\.(\d{4})\b`)
	dateHan     = regexp.MustCompile(`^(\d{4})\s*年\s*(\d{1,2})\s*月\s*(\d{1,2})\s*[日号]`)
	dateDayName = regexp.MustCompile(`^(\d{1,2})\s+([\p{L}]+)\.?,?\s+(\d{4})`)
	dateNameDay = regexp.MustCompile(`^(?:\p{L}+,\s+)?([\p{L}]+)\.?\s+(\d{1,2}),?\s+(\d{4})`)
	clock       = regexp.MustCompile(`\b(\d{1,2}):(\d{2})\b`)
)

// months are the beginnings of month names, longest first where one holds
// another. English, Russian, Ukrainian, Belarusian, Kazakh.
var months = []struct {
	prefix string
	month  time.Month
}{
	{"jan", 1},
	{"feb", 2},
	{"mar", 3},
	{"apr", 4},
	{"may", 5},
	{"jun", 6},
	{"jul", 7},
	{"aug", 8},
	{"sep", 9},
	{"oct", 10},
	{"nov", 11},
	{"dec", 12},
	{"янв", 1},
	{"фев", 2},
	{"март", 3},
	{"апр", 4},
	{"мая", 5},
	{"май", 5},
	{"июн", 6},
	{"июл", 7},
	{"авг", 8},
	{"сен", 9},
	{"окт", 10},
	{"ноя", 11},
	{"дек", 12},
	{"січ", 1},
	{"лют", 2},
	{"бер", 3},
	{"кві", 4},
	{"тра", 5},
	{"чер", 6},
	{"лип", 7},
	{"сер", 8},
	{"вер", 9},
	{"жов", 10},
	{"лис", 11},
	{"гру", 12},
	{"студ", 1},
	{"сак", 3},
	{"крас", 4},
	{"чэр", 6},
	{"ліп", 7},
	{"жні", 8},
	{"кас", 10},
	{"ліс", 11},
	{"сне", 12},
	{"сьн", 12},
	{"қаң", 1},
	{"ақп", 2},
	{"нау", 3},
	{"сәу", 4},
	{"мам", 5},
	{"мау", 6},
	{"шіл", 7},
	{"там", 8},
	{"қыр", 9},
	{"қаз", 10},
	{"қар", 11},
	{"жел", 12},
}

// parseDate reads the date at the beginning of s, and a clock time behind it;
// without a zone it is UTC. ok is false if s begins with no date between 1990
// and 2100. Persian and other calendars are not converted.
func parseDate(s string) (t time.Time, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) > 200 {
		return t, false
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return sane(t)
	}
	num := func(s string) int { n, _ := strconv.Atoi(s); return n }
	year, day, month, rest := 0, 0, time.Month(0), ""
	if m := dateISO.FindStringSubmatch(s); m != nil {
		year, month, day, rest = num(m[1]), time.Month(num(m[2])), num(m[3]), s[len(m[0]):]
		if strings.Contains(rest, "+") || strings.HasSuffix(rest, "Z") || strings.HasPrefix(rest, "T") {
			if t, err := dateparse.ParseAny(s); err == nil { // with a zone
				return sane(t)
			}
		}
	} else if m := dateHan.FindStringSubmatch(s); m != nil {
		year, month, day, rest = num(m[1]), time.Month(num(m[2])), num(m[3]), s[len(m[0]):]
	} else if m := dateDMY.FindStringSubmatch(s); m != nil {
		year, month, day, rest = num(m[3]), time.Month(num(m[2])), num(m[1]), s[len(m[0]):]
	} else if m := dateDayName.FindStringSubmatch(s); m != nil {
		year, month, day, rest = num(m[3]), monthOf(m[2]), num(m[1]), s[len(m[0]):]
	} else if m := dateNameDay.FindStringSubmatch(s); m != nil {
		year, month, day, rest = num(m[3]), monthOf(m[1]), num(m[2]), s[len(m[0]):]
	}
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return t, false
	}
	hour, minute := 0, 0
	if m := clock.FindStringSubmatch(rest); m != nil && num(m[1]) < 24 && num(m[2]) < 60 {
		hour, minute = num(m[1]), num(m[2])
	}
	return sane(time.Date(year, month, day, hour, minute, 0, 0, time.UTC))
}

func sane(t time.Time) (time.Time, bool) {
	return t.UTC(), t.Year() >= 1990 && t.Year() < 2100
}

func monthOf(name string) time.Month {
	name = strings.ToLower(name)
	for _, m := range months {
		if strings.HasPrefix(name, m.prefix) {
			return m.month
		}
	}
	return 0
}
