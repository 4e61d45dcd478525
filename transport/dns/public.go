package dns

import "strings"

// Words that stand for lists of resolvers; they are used only when asked for.
const (
	// PublicWord is for well-known public resolvers, asked over DoH and DoT.
	PublicWord = "public"
	// PlainWord is for the same ones, asked in the clear: for where encrypted DNS
	// is blocked, and these are not.
	PlainWord = "public-plain"
)

// public are resolvers that serve everybody and leave unknown names alone. Each
// has its addresses beside, so that nobody is asked for its name. Sources:
//
//	Quad9 (without its filter)  https://quad9.net/service/service-addresses-and-features/
//	Cloudflare                  https://developers.cloudflare.com/1.1.1.1/encryption/
//	Google                      https://developers.google.com/speed/public-dns/docs/using
//	AdGuard (without filters)   https://adguard-dns.io/en/public-dns.html
//	Mullvad (encrypted only)    https://mullvad.net/en/help/dns-over-https-and-dns-over-tls
var public = []string{
	"https://dns10.quad9.net/dns-query@9.9.9.10",
	"https://cloudflare-dns.com/dns-query@1.1.1.1",
	"https://dns.google/dns-query@8.8.8.8",
	"https://unfiltered.adguard-dns.com/dns-query@94.140.14.140",
	"https://dns.mullvad.net/dns-query@194.242.2.2",
	"tls://dns10.quad9.net@149.112.112.10",
	"tls://one.one.one.one@1.0.0.1",
	"tls://dns.google@8.8.4.4",
	"tls://unfiltered.adguard-dns.com@94.140.14.141",
	"tls://dns.mullvad.net@194.242.2.2",
}

var publicPlain = []string{
	"9.9.9.10", "1.1.1.1", "8.8.8.8", "94.140.14.140",
	"149.112.112.10", "1.0.0.1", "8.8.4.4", "94.140.14.141",
}

// ParseResolvers reads a list of resolvers, each as ParseResolver takes it or
// one of the words above. What is named twice counts once.
func ParseResolvers(texts []string) ([]Address, error) {
	var out []Address
	seen := map[string]bool{}
	for _, t := range texts {
		list := []string{t}
		switch strings.TrimSpace(t) {
		case PublicWord:
			list = public
		case PlainWord:
			list = publicPlain
		}
		for _, t := range list {
			a, err := ParseResolver(t)
			if err != nil {
				return nil, err
			}
			if s := a.String(); !seen[s] {
				seen[s] = true
				out = append(out, a)
			}
		}
	}
	return out, nil
}
