package dns

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"slices"

	"tamizdat/transport/gateway"
)

var errStampPin = errors.New("the resolver's certificates are others than its DNS stamp says")

// tls is how the resolver's certificate is checked: by the web's authorities, for
// the resolver's name or address (RFC 8310's strict profile; RFC 8484, section 3),
// and by the stamp's hashes if there are any. Sessions are not resumed: a ticket
// would tell a resolver at which addresses it has met the same reader.
func (a Address) tls(trust gateway.Trust, protos ...string) *tls.Config {
	cfg := &tls.Config{
		ServerName: a.Host, MinVersion: tls.VersionTLS12, NextProtos: protos,
		RootCAs: trust.Roots, Time: trust.Now,
	}
	if len(a.pins) > 0 {
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			for _, chain := range cs.VerifiedChains {
				for _, cert := range chain {
					if slices.Contains(a.pins, sha256.Sum256(cert.RawTBSCertificate)) {
						return nil
					}
				}
			}
			return errStampPin
		}
	}
	return cfg
}
