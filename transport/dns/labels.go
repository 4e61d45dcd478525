package dns

import (
	"fmt"
	"strconv"
	"strings"
)

// maxName is how long a record's name gets, in characters. Some resolvers drop queries
// for names over 72; a root note or a grant takes up to 11 more, for the random label in
// front and -s.
const maxName = 60

// smallLabel is where the Small form of what stands under label lies.
func smallLabel(label string) string { return label + "-s" }

// partLabel is where part i of the Small form of a head lies.
func partLabel(label string, i int) string { return label + "-s" + strconv.Itoa(i) }

// dnslink is the label under which stock IPFS tools look for what a name leads to
// (dnslink.dev).
const dnslink = "_dnslink"

// linkLabel is where the DNSLink of what stands under label lies.
func linkLabel(label string) string { return dnslink + "." + label }

// isSmall reports whether what stands under a label that is no record name is
// of the Small class.
func isSmall(label string) bool {
	i := strings.LastIndex(label, "-s")
	return i >= 0 && len(label)-i <= len("-s0")
}

// checkZone returns a zone's name in lower case without a trailing dot. Letters,
// digits, hyphens and underscores only; at most 33 characters, so that a record's
// name fits in 60.
func checkZone(zone string) (string, error) {
	z := lowerASCII(strings.TrimSuffix(zone, "."))
	if z == "" || len(z) > maxName-27 {
		return "", fmt.Errorf("zone name must have 1 to %d characters", maxName-27)
	}
	if err := checkHost(z); err != nil {
		return "", err
	}
	return z, nil
}

// checkHost refuses what is not a lower-case host name without trailing dot.
func checkHost(host string) error {
	if len(host) > 253 {
		return fmt.Errorf("host name is too long")
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) == 0 || len(label) > 63 {
			return fmt.Errorf("host name has an empty or overlong label")
		}
		for i := range len(label) {
			c := label[i]
			if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("host name has a character other than letters, digits, hyphen")
			}
		}
	}
	return nil
}
