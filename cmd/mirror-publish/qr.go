package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skip2/go-qrcode"
	"golang.org/x/term"

	"tamizdat/internal/cli"
	"tamizdat/internal/durable"
)

// qrSize is a picture's side in pixels.
const qrSize = 768

// newQR makes the QR code of an invite at level M, which bears a crease or a finger:
// invites are upper case, for which a code has a denser mode.
func newQR(invite string) (*qrcode.QRCode, error) { return qrcode.New(invite, qrcode.Medium) }

// writeQR writes the code as a picture, of the kind that the file's name says.
func writeQR(name string, q *qrcode.QRCode) error {
	var write func(io.Writer) error
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png":
		write = func(w io.Writer) error { return q.Write(qrSize, w) }
	case ".svg":
		write = func(w io.Writer) error { return writeSVG(w, q.Bitmap()) }
	default:
		return cli.Usage("--qr writes FILE.png or FILE.svg")
	}
	return durable.WriteFile(name, 0o600, write)
}

// writeSVG draws dark modules as runs of one path, for printing at any size. dark
// holds the quiet zone, too.
func writeSVG(to io.Writer, dark [][]bool) error {
	w := &bytes.Buffer{}
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, len(dark), len(dark))
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="#fff"/><path d="`, len(dark), len(dark))
	for y, row := range dark {
		for x := 0; x < len(row); x++ {
			n := 0
			for x+n < len(row) && row[x+n] {
				n++
			}
			if n > 0 {
				fmt.Fprintf(w, "M%d %dh%dv1h-%dz", x, y, n, n)
				x += n
			}
		}
	}
	fmt.Fprint(w, `"/></svg>`+"\n")
	_, err := w.WriteTo(to)
	return err
}

// drawQR draws the code in half blocks, two rows a line. On a terminal it brings its
// own black and white, whatever the colours are there; else paper is white.
func drawQR(to io.Writer, dark [][]bool) error {
	before, after := "", ""
	if f, ok := to.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		before, after = "\x1b[30;107m", "\x1b[0m"
	}
	w := &bytes.Buffer{}
	for y := 0; y < len(dark); y += 2 {
		w.WriteString(before)
		for x := range dark[y] {
			below := y+1 < len(dark) && dark[y+1][x]
			switch {
			case dark[y][x] && below:
				w.WriteRune('█')
			case dark[y][x]:
				w.WriteRune('▀')
			case below:
				w.WriteRune('▄')
			default:
				w.WriteByte(' ')
			}
		}
		w.WriteString(after + "\n")
	}
	_, err := w.WriteTo(to)
	return err
}
