package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"tamizdat/bundle/channel"
	"tamizdat/transport"
)

// RecordType is the media type of an IPNS record
// (https://specs.ipfs.tech/http-gateways/trustless-gateway/).
const RecordType = "application/vnd.ipfs.ipns-record"

var (
	_ transport.Namer  = (*Publisher)(nil)
	_ transport.Poster = (*Publisher)(nil)
)

// PublishRecord implements transport.Namer: PUT /ipns/CHANNEL under an intake
// prefix. The answer's HeaderOffset is the length of the record that the relay
// holds then: this one or a newer one.
func (p *Publisher) PublishRecord(ctx context.Context, ch channel.ID, record []byte) error {
	if len(record) == 0 || len(record) > transport.MaxRecord {
		return fmt.Errorf("%w: an IPNS record of %d bytes", transport.ErrRefused, len(record))
	}
	body := io.NewSectionReader(bytes.NewReader(record), 0, int64(len(record)))
	st, err := p.send(ctx, http.MethodPut, p.intakePath("ipns", ch), body, http.Header{"Content-Type": {RecordType}})
	if err == nil && st.offset <= 0 {
		err = errors.New("relay: it did not say that it holds the record")
	}
	return err
}

// PostPacket implements transport.Poster: PUT /packet/CHANNEL under an intake prefix, with
// an answer as PublishRecord has.
func (p *Publisher) PostPacket(ctx context.Context, ch channel.ID, packet []byte) error {
	if len(packet) == 0 || len(packet) > transport.MaxPacket {
		return fmt.Errorf("%w: a signed packet of %d bytes", transport.ErrRefused, len(packet))
	}
	body := io.NewSectionReader(bytes.NewReader(packet), 0, int64(len(packet)))
	st, err := p.send(ctx, http.MethodPut, p.intakePath("packet", ch), body, http.Header{"Content-Type": {"application/octet-stream"}})
	if err == nil && st.offset <= 0 {
		err = errors.New("relay: it did not say that it holds the packet")
	}
	return err
}
