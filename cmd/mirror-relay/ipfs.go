package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"tamizdat/mirror/relay"
)

// ipfsNode is the node of --ipfs; the relay closes it.
func ipfsNode(ctx context.Context, r *relay.Relay, f relay.FileConfig, e *env) (io.Closer, error) {
	if !f.IPFS {
		return nil, nil
	}
	if _, err := r.ServeIPFS(ctx, relay.IPFSConfig{Listen: f.IPFSListen, DHT: f.IPFSDHT}); err != nil {
		return nil, fmt.Errorf("ipfs: %w (is the port in use? see --ipfs-listen)", err)
	}
	fmt.Fprintln(e.err, "ipfs node is up")
	return nil, printPeers(r, e.err)
}

// printPeers says what a publisher writes into publisher.toml; nothing if the
// relay is no IPFS node.
func printPeers(r *relay.Relay, w io.Writer) error {
	peers, err := r.Peers()
	if err != nil || len(peers) == 0 {
		return err
	}
	list := make([]string, len(peers))
	for i, p := range peers {
		q, err := json.Marshal(p) // a JSON string is a TOML string
		if err != nil {
			return err
		}
		list[i] = string(q)
	}
	_, err1 := fmt.Fprintln(w, "for readers over IPFS, each publisher puts this above the first [[target]] of publisher.toml:")
	_, err2 := fmt.Fprintf(w, "peers = [%s]\n", strings.Join(list, ", "))
	return errors.Join(err1, err2)
}
