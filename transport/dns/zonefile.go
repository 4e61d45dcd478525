package dns

import (
	"bufio"
	"fmt"
	"io"
	"iter"

	"tamizdat/bundle/record"
)

// WriteZone writes a zone file (RFC 1035 section 5) that BIND, Knot, NSD and
// others load as it is: SOA, name servers, and every entry, with the wildcards
// below named ones. Bytes other than letters, digits and a few safe signs are
// written as \DDD. Give each new version a larger Serial. It stops at the first
// error; entries are written as they come, so that memory stays small.
func WriteZone(w io.Writer, z Zone, entries iter.Seq2[Entry, error]) error {
	zn, err := newZone(z, nil)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(b, "$ORIGIN %s.\n$TTL %d\n", zn.name, ttlContent)
	fmt.Fprintf(b, "@ %d IN SOA %s. hostmaster.%s. %d %d %d %d %d\n", ttlZone, zn.ns[0].Host, zn.name,
		zn.serialNow(), soaRefresh, soaRetry, soaExpire, ttlNegative)
	for _, ns := range zn.ns {
		fmt.Fprintf(b, "@ %d IN NS %s.\n", ttlZone, ns.Host)
		if !inZone(ns.Host, zn.name) {
			continue
		}
		for _, a := range ns.Addrs {
			kind := "AAAA"
			if a = a.Unmap(); a.Is4() {
				kind = "A"
			}
			fmt.Fprintf(b, "%s. %d IN %s %s\n", ns.Host, ttlZone, kind, a)
		}
	}
	var line []byte
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("write zone: %w", err)
		}
		if err := checkHost(e.Label); err != nil {
			return fmt.Errorf("write zone: %w", err)
		}
		line = appendQuoted(line[:0], e.txt())
		if e.Named {
			fmt.Fprintf(b, "%s %d IN TXT%s\n*.%s %d IN TXT%s\n", e.Label, ttlNamed, line, e.Label, ttlNamed, line)
		} else {
			fmt.Fprintf(b, "%s IN TXT%s\n", e.Label, line)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write zone: %w", err)
	}
	return nil
}

// txt is what the entry is inside its TXT strings.
func (e Entry) txt() []byte {
	class := record.ClassOf(e.Data)
	if e.Named {
		class = record.Large
		if isSmall(e.Label) {
			class = record.Small
		}
	}
	return txtData(class, e.Data)
}

// appendQuoted appends TXT strings as quoted character-strings of up to 255
// bytes, each with a space in front.
func appendQuoted(b, data []byte) []byte {
	for n := max(1, (len(data)+254)/255); n > 0; n-- {
		s := data[:min(255, len(data))]
		data = data[len(s):]
		b = append(b, ' ', '"')
		b = appendEscaped(b, s)
		b = append(b, '"')
	}
	return b
}

// appendEscaped appends bytes in presentation form (RFC 1035 section 5.1).
func appendEscaped(b, s []byte) []byte {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/', c == '=', c == '-', c == '.', c == ' ':
			b = append(b, c)
		default:
			b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		}
	}
	return b
}

func inZone(host, zone string) bool {
	return len(host) > len(zone) && host[len(host)-len(zone):] == zone && host[len(host)-len(zone)-1] == '.'
}
