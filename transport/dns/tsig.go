package dns

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// tsigFudge is how far two clocks may be apart, in seconds (RFC 8945 section 10).
	tsigFudge = 300
	// minSecret is the shortest secret taken, in bytes.
	minSecret = 16
	// maxSecret bounds one, so that a signature's key is never a file's worth.
	maxSecret = 512
)

// Key is a TSIG key (RFC 8945), which two name servers share. It prints as its
// kind, never as what it holds.
type Key struct {
	name      string // canonical: lower case, with the dot at the end
	algorithm string // as mdns has it, "hmac-sha256."
	secret    string // base64, which is what mdns wants
}

var (
	_ fmt.Stringer   = Key{}
	_ slog.LogValuer = Key{}
)

// String implements fmt.Stringer.
func (k Key) String() string { return "tsig key" }

// GoString keeps the secret out of %#v as well.
func (k Key) GoString() string { return k.String() }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Name is the key's name, without the dot at the end.
func (k *Key) Name() string { return strings.TrimSuffix(k.name, ".") }

var (
	keyLine   = regexp.MustCompile(`(?m)^#?[ \t]*(hmac-[a-z0-9]+):([^:\s]+):([A-Za-z0-9+/=]+)[ \t\r]*$`)
	keyClause = regexp.MustCompile(`(?s)^\s*key\s+"?([^"\s{]+)"?\s*\{(.*?)\}\s*;?`)
	keyAlg    = regexp.MustCompile(`algorithm\s+"?([A-Za-z0-9-]+)"?\s*;`)
	keySecret = regexp.MustCompile(`secret\s+"?([A-Za-z0-9+/=]+)"?\s*;`)
	remarks   = regexp.MustCompile(`(?m)^\s*(//|#).*$`)
)

// ParseKey reads a key as BIND's tsig-keygen and Knot's keymgr print it: a clause
// key "NAME" { algorithm ...; secret "..."; }; or a line ALGORITHM:NAME:SECRET.
// Algorithms are hmac-sha256, hmac-sha384 and hmac-sha512. Errors quote nothing
// of the text.
func ParseKey(text string) (*Key, error) {
	var algorithm, name, secret string
	if m := keyClause.FindStringSubmatch(remarks.ReplaceAllString(text, "")); m != nil {
		name = m[1]
		if a := keyAlg.FindStringSubmatch(m[2]); a != nil {
			algorithm = a[1]
		}
		if s := keySecret.FindStringSubmatch(m[2]); s != nil {
			secret = s[1]
		}
	} else if m := keyLine.FindStringSubmatch(text); m != nil {
		algorithm, name, secret = m[1], m[2], m[3]
	}
	if algorithm == "" || secret == "" {
		return nil, errors.New(`no tsig key: give what "tsig-keygen NAME" prints, or ALGORITHM:NAME:SECRET`)
	}
	k := &Key{name: mdns.CanonicalName(name), secret: secret, algorithm: lowerASCII(algorithm) + "."}
	switch k.algorithm {
	case mdns.HmacSHA256, mdns.HmacSHA384, mdns.HmacSHA512:
	default:
		return nil, errors.New("tsig key: its algorithm must be hmac-sha256, hmac-sha384 or hmac-sha512")
	}
	if err := checkHost(k.Name()); err != nil {
		return nil, errors.New("tsig key: its name is no domain name")
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(raw) < minSecret || len(raw) > maxSecret {
		return nil, fmt.Errorf("tsig key: its secret must be base64 of %d to %d bytes", minSecret, maxSecret)
	}
	return k, nil
}

// sign packs m with the key's signature at its end. requestMAC is the signature
// of the request, or of the message before this one if further (RFC 8945 section
// 5.3.1), which leaves all but the time out; mac is what the next one needs.
func (k *Key) sign(m *mdns.Msg, requestMAC string, further bool) (raw []byte, mac string, err error) {
	m.SetTsig(k.name, k.algorithm, tsigFudge, time.Now().Unix())
	return mdns.TsigGenerate(m, k.secret, requestMAC, further)
}

// verify checks the signature of a message, in constant time, and returns it as
// its MAC. Errors are mdns's: ErrSig, ErrTime, ErrSecret for another key.
func (k *Key) verify(raw []byte, m *mdns.Msg, requestMAC string) (mac string, err error) {
	t := m.IsTsig()
	switch {
	case t == nil:
		return "", mdns.ErrNoSig
	case mdns.CanonicalName(t.Hdr.Name) != k.name || mdns.CanonicalName(t.Algorithm) != k.algorithm:
		return "", mdns.ErrSecret
	}
	for _, rr := range m.Extra[:len(m.Extra)-1] {
		if rr.Header().Rrtype == mdns.TypeTSIG {
			return "", mdns.ErrSig // it would be verified instead of the last one
		}
	}
	// Verifying changes the bytes it looks at.
	if err := mdns.TsigVerify(bytes.Clone(raw), k.secret, requestMAC, false); err != nil {
		return "", err
	}
	return t.MAC, nil
}

// txtRR is a TXT record of that data, its strings in the library's presentation
// form.
func txtRR(name string, ttl uint32, data []byte) *mdns.TXT {
	rr := &mdns.TXT{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: ttl}}
	for n := max(1, (len(data)+254)/255); n > 0; n-- {
		s := data[:min(255, len(data))]
		data = data[len(s):]
		rr.Txt = append(rr.Txt, string(appendEscaped(nil, s)))
	}
	return rr
}
