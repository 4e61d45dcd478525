package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"image"
	"image/color"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"golang.org/x/image/draw"

	"tamizdat/bundle/channel"
)

// fullInvite names every kind of place and leaves no byte free.
func fullInvite(t *testing.T) string {
	t.Helper()
	hash := func(s string) [32]byte { return sha256.Sum256([]byte(s)) }
	key := hash("IPNS")
	inv := &channel.Invite{Channel: hash("channel"), Seed: hash("seed"), IPNS: key[:]}
	relay := func(host string) channel.Relay {
		a, b := hash(host), hash(host+" prefix")
		return channel.Relay{Host: host, Port: 61443, Pin: channel.Pin(a[:16]), Prefix: channel.Prefix(b[:24])}
	}
	inv.Places = channel.Places{
		Relays:   []channel.Relay{relay("192.0.2.7"), relay("r.example")},
		Zones:    []channel.Zone{{Name: "n.example", Authority: "192.0.2.7:53"}},
		Peers:    []string{"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"},
		Gateways: []string{"https://g.example"},
		Mirrors:  []string{"https://m.example/"},
	}
	inv.Places.Relays[1].ECH = channel.ECHList(channel.ECHConfig(hash("ECH"), "w.example"))
	for inv.Validate() == nil {
		inv.Places.Mirrors[0] += "n"
	}
	inv.Places.Mirrors[0] = strings.TrimSuffix(inv.Places.Mirrors[0], "n")
	if err := inv.Validate(); err != nil {
		t.Fatal(err)
	}
	return inv.String()
}

func TestQRCode(t *testing.T) {
	invite := fullInvite(t)
	if n := len(invite); n < 590 || n >= 600 {
		t.Errorf("%d characters", n)
	}
	q, err := newQR(invite)
	if err != nil {
		t.Fatal(err)
	}
	var picture, svg, screen bytes.Buffer
	if err := q.Write(qrSize, &picture); err != nil {
		t.Fatal(err)
	}
	whole, err := png.Decode(&picture)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeSVG(&svg, q.Bitmap()); err != nil {
		t.Fatal(err)
	}
	if err := drawQR(&screen, q.Bitmap()); err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]image.Image{
		"picture":   whole,
		"photo":     photo(whole),
		"vector":    enlarged(fromSVG(t, svg.Bytes())),
		"screen":    enlarged(fromScreen(screen.String())),
		"a scratch": scratched(whole),
	} {
		got, err := scan(img)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.GetText() != invite {
			t.Errorf("%s: it says something else", name)
		}
		if level := got.GetResultMetadata()[gozxing.ResultMetadataType_ERROR_CORRECTION_LEVEL]; level != "M" {
			t.Errorf("%s: level %v", name, level)
		}
		if _, err := channel.ParseInvite(got.GetText()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if lines := strings.Count(screen.String(), "\n"); lines > 50 || len(q.Bitmap()) > 100 {
		t.Errorf("%d lines of %d: more than a screen", lines, len(q.Bitmap()))
	}
}

func scan(img image.Image) (*gozxing.Result, error) {
	bmp, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return nil, err
	}
	return qrcode.NewQRCodeReader().Decode(bmp, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
}

// photo is smaller, grey, and a little out of focus.
func photo(img image.Image) image.Image {
	out := image.NewGray(image.Rect(0, 0, 500, 500))
	draw.CatmullRom.Scale(out, out.Bounds(), img, img.Bounds(), draw.Src, nil)
	for i, v := range out.Pix {
		out.Pix[i] = 60 + v/2
	}
	return out
}

// scratched has a line across it that hides what lies below.
func scratched(img image.Image) image.Image {
	b := img.Bounds()
	out := image.NewGray(b)
	draw.Draw(out, b, img, b.Min, draw.Src)
	for x := b.Dx() / 4; x < b.Dx()*3/4; x++ {
		for y := range 9 {
			out.SetGray(x, b.Dy()/2+y, color.Gray{Y: 255})
		}
	}
	return out
}

func enlarged(dark [][]bool) image.Image {
	const module = 6
	out := image.NewGray(image.Rect(0, 0, module*len(dark), module*len(dark)))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			if !dark[y/module][x/module] {
				out.SetGray(x, y, color.Gray{Y: 255})
			}
		}
	}
	return out
}

// fromSVG draws the path that writeSVG wrote.
func fromSVG(t *testing.T, svg []byte) [][]bool {
	t.Helper()
	var doc struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal(svg, &doc); err != nil {
		t.Fatal(err)
	}
	size, err := strconv.Atoi(strings.Fields(doc.ViewBox)[3])
	if err != nil {
		t.Fatal(err)
	}
	dark := make([][]bool, size)
	for y := range dark {
		dark[y] = make([]bool, size)
	}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-\d+z`).FindAllStringSubmatch(doc.Path.D, -1) {
		var v [3]int
		for i := range v {
			v[i], _ = strconv.Atoi(m[i+1])
		}
		for x := range v[2] {
			dark[v[1]][v[0]+x] = true
		}
	}
	return dark
}

// fromScreen reads half blocks.
func fromScreen(s string) (dark [][]bool) {
	for line := range strings.Lines(s) {
		var above, below []bool
		for _, r := range strings.TrimSuffix(line, "\n") {
			above = append(above, r == '█' || r == '▀')
			below = append(below, r == '█' || r == '▄')
		}
		dark = append(dark, above, below)
	}
	return dark[:len(dark[0])]
}
