package source

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"runtime"
	"testing"

	"github.com/gen2brain/webp"
)

// pixelMemory bounds what decoding allocates in all, in bytes a pixel: coefficients of a
// progressive JPEG of four colours (16), its samples twice (8), what CatmullRom holds
// between its two passes (32), the result, and that turned (8); and some to spare.
const pixelMemory = 96

// seedImages are one small picture of each kind.
func seedImages(f *testing.F) (out [][]byte) {
	f.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 40, 30))
	for i := range m.Pix {
		m.Pix[i] = byte(i * 7)
	}
	pal := image.NewPaletted(m.Rect, color.Palette{color.Black, color.White, color.Transparent})
	for i := range pal.Pix {
		pal.Pix[i] = byte(i % 3)
	}
	deep := image.NewNRGBA64(image.Rect(0, 0, 1100, 24)) // is scaled
	for _, encode := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return png.Encode(b, m) },
		func(b *bytes.Buffer) error { return png.Encode(b, deep) },
		func(b *bytes.Buffer) error { return jpeg.Encode(b, m, nil) },
		func(b *bytes.Buffer) error { return gif.Encode(b, pal, nil) },
		func(b *bytes.Buffer) error { return webp.Encode(b, m, webp.Options{Quality: quality}) },
		func(b *bytes.Buffer) error { return webp.Encode(b, m, webp.Options{Lossless: true, Exact: true}) },
	} {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			f.Fatal(err)
		}
		if _, err := pixels(b.Bytes()); err != nil {
			f.Fatalf("a seed is refused: %v", err)
		}
		out = append(out, b.Bytes())
	}
	return out
}

// FuzzImage: whatever a picture's file says, decoding it takes no more memory than its
// size in pixels allows, and what comes is within what readers get.
func FuzzImage(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b)
		f.Add(b[:len(b)*2/3])
		huge := bytes.Clone(b) // of each kind the width lies within the first bytes
		for i := range huge[:min(len(huge), 40)] {
			if i >= 16 {
				huge[i] = 0xff
			}
		}
		f.Add(huge)
	}
	f.Add([]byte("\xff\xd8\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"))
	const most = 1_000_000 // pixels; more are decoded the same way, slowly
	f.Fuzz(func(t *testing.T, data []byte) {
		if turn := orientation(data); turn < 1 || turn > 8 {
			t.Fatalf("orientation %d", turn)
		}
		cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
		area := 0
		if err == nil && cfg.Width <= MaxPixels && cfg.Height <= MaxPixels && cfg.Width*cfg.Height <= MaxPixels {
			area = cfg.Width * cfg.Height
		}
		if area > most {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var m *image.NRGBA
		err = guard("picture", func() (err error) { m, err = pixels(data); return err })
		runtime.ReadMemStats(&after)
		if took, may := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+64*len(data)+pixelMemory*area); took > may {
			t.Fatalf("%d bytes for %d pixels out of %d bytes", took, area, len(data))
		}
		if err == nil && (m.Rect.Dx() < 1 || m.Rect.Dx() > maxWidth || m.Rect.Dy() < 1 || m.Rect.Dy() > maxHeight || m.Rect.Min != image.Point{}) {
			t.Fatalf("a picture of %v", m.Rect)
		}
	})
}
