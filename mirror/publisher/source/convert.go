package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // decoders for image.Decode
	"image/jpeg"
	_ "image/png"

	"github.com/gen2brain/webp"
	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"tamizdat/bundle"
)

const (
	// maxWidth and maxHeight are what readers get, in pixels.
	maxWidth, maxHeight = 1024, 4096
	// maxImageData is bundle.Image's limit for encoded pictures, in bytes.
	maxImageData = 2 << 20
	// minSide is below any picture meant to be looked at: tracking pixels and bullets.
	minSide = 24
	quality = 75
)

var errTiny = errors.New("too small to be a picture")

// convert makes the picture that readers get: at most maxWidth wide, upright,
// WebP (JPEG should that fail). Encoding pixels anew leaves all metadata behind,
// the place and the camera with it. Dimensions are checked before any pixel is
// allocated. Of an animation the first frame stays.
func convert(data []byte) (bundle.Image, error) {
	var out bundle.Image
	err := guard("picture", func() error {
		m, err := pixels(data)
		if err == nil {
			out, err = encode(m)
		}
		return err
	})
	return out, err
}

// pixels decodes a picture, upright and as large as readers get it.
func pixels(data []byte) (*image.NRGBA, error) {
	cfg, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("not JPEG, PNG, GIF or WebP")
	}
	switch {
	case cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width > MaxPixels || cfg.Height > MaxPixels || cfg.Width*cfg.Height > MaxPixels:
		return nil, fmt.Errorf("%w: over %d megapixels", ErrTooLarge, MaxPixels/1_000_000)
	case cfg.Width < minSide || cfg.Height < minSide:
		return nil, errTiny
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("damaged")
	}
	turn := 1
	if format == "jpeg" {
		turn = orientation(data)
	}
	return upright(shrink(src, turn >= 5), turn), nil
}

// shrink scales to the limits; sideways: the picture will be turned by a
// quarter afterwards, so the limits swap. The result's origin is (0,0).
func shrink(src image.Image, sideways bool) *image.NRGBA {
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	limW, limH := maxWidth, maxHeight
	if sideways {
		limW, limH = limH, limW
	}
	nw, nh := w, h
	if nw > limW {
		nw, nh = limW, max(1, h*limW/w)
	}
	if nh > limH {
		nw, nh = max(1, nw*limH/nh), limH
	}
	dst := image.NewNRGBA(image.Rect(0, 0, nw, nh))
	if nw == w && nh == h {
		draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	} else {
		draw.CatmullRom.Scale(dst, dst.Bounds(), src, src.Bounds(), draw.Src, nil)
	}
	return dst
}

// upright applies an EXIF orientation, 1 to 8 (EXIF 2.32, 4.6.4).
func upright(src *image.NRGBA, turn int) *image.NRGBA {
	if turn < 2 || turn > 8 {
		return src
	}
	w, h := src.Rect.Dx(), src.Rect.Dy()
	dw, dh := w, h
	if turn >= 5 {
		dw, dh = h, w
	}
	dst := image.NewNRGBA(image.Rect(0, 0, dw, dh))
	for y := range dh {
		for x := range dw {
			sx, sy := x, y
			switch turn {
			case 2:
				sx = w - 1 - x
			case 3:
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6:
				sx, sy = y, h-1-x
			case 7:
				sx, sy = w-1-y, h-1-x
			case 8:
				sx, sy = w-1-y, x
			}
			copy(dst.Pix[dst.PixOffset(x, y):][:4], src.Pix[src.PixOffset(sx, sy):][:4])
		}
	}
	return dst
}

func encode(m *image.NRGBA) (bundle.Image, error) {
	out := bundle.Image{Width: m.Rect.Dx(), Height: m.Rect.Dy()}
	var b bytes.Buffer
	out.Type = "image/webp"
	if err := webp.Encode(&b, m, webp.Options{Quality: quality, Method: webp.DefaultMethod}); err != nil {
		b.Reset()
		flat := image.NewRGBA(m.Rect) // JPEG has no transparency
		draw.Draw(flat, flat.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(flat, flat.Rect, m, image.Point{}, draw.Over)
		out.Type = "image/jpeg"
		if err := jpeg.Encode(&b, flat, &jpeg.Options{Quality: quality}); err != nil {
			return out, fmt.Errorf("encoding: %w", err)
		}
	}
	if b.Len() > maxImageData {
		return out, fmt.Errorf("%w: over %d MiB even when resized", ErrTooLarge, maxImageData>>20)
	}
	out.Data = b.Bytes()
	return out, nil
}

// orientation reads the orientation tag of a JPEG's EXIF block; 1 if there is
// none or it is damaged.
func orientation(data []byte) int {
	for i := 2; i+4 <= len(data) && data[i] == 0xFF; {
		size := int(binary.BigEndian.Uint16(data[i+2:]))
		marker, end := data[i+1], i+2+size
		if size < 2 || end > len(data) || marker == 0xDA {
			return 1
		}
		if seg := data[i+4 : end]; marker == 0xE1 && bytes.HasPrefix(seg, []byte("Exif\x00\x00")) {
			return tiffOrientation(seg[6:])
		}
		i = end
	}
	return 1
}

// tiffOrientation looks tag 0x0112 up in the first directory of a TIFF header.
func tiffOrientation(t []byte) int {
	if len(t) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if string(t[:2]) == "II" {
		order = binary.LittleEndian
	}
	dir := int64(order.Uint32(t[4:]))
	if dir+2 > int64(len(t)) {
		return 1
	}
	entries := t[dir+2:]
	for range order.Uint16(t[dir:]) {
		if len(entries) < 12 {
			return 1
		}
		if order.Uint16(entries) == 0x0112 {
			if v := int(order.Uint16(entries[8:])); v >= 1 && v <= 8 {
				return v
			}
			return 1
		}
		entries = entries[12:]
	}
	return 1
}
