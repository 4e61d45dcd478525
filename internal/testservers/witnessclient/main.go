// Command witnessclient shows a witness a checkpoint by the client of
// github.com/transparency-dev/witness, so that tests see how one that is not ours
// gets on with it.
//
//	witnessclient [-roots PEM] URL OLDSIZE [PROOFHASH...] < CHECKPOINT
//
// URL is the witness's submission prefix, -roots the authorities that its certificate
// is checked by. It prints what was signed, or, with exit code 3, the size that the
// witness has seen; code 1 is any other refusal, named on standard error.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/witness"
)

func main() {
	size, err := run()
	switch {
	case errors.Is(err, witness.ErrCheckpointStale):
		fmt.Println(size)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() (uint64, error) {
	roots := flag.String("roots", "", "")
	flag.Parse()
	args := flag.Args()
	if len(args) < 2 {
		return 0, errors.New("URL and old size are missing")
	}
	at, err := url.Parse(args[0])
	if err != nil {
		return 0, err
	}
	old, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return 0, err
	}
	var proof [][]byte
	for _, s := range args[2:] {
		h, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return 0, err
		}
		proof = append(proof, h)
	}
	checkpoint, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 0, err
	}
	client := &nethttp.Client{Transport: &nethttp.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(*roots)}}}
	signed, size, err := http.NewWitness(at, client).Update(context.Background(), old, checkpoint, proof)
	if err != nil {
		return size, err
	}
	_, err = os.Stdout.Write(signed)
	return 0, err
}

func pool(file string) *x509.CertPool {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil // the system's
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(pem)
	return p
}
