//go:build ignore

// Draw makes the pictures of the sample articles.
package main

import (
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"log"
	"math"
	"os"
)

func main() {
	save("marsh.jpg", func(w io.Writer) error { return jpeg.Encode(w, marsh(), &jpeg.Options{Quality: 80}) })
	save("birds.png", func(w io.Writer) error { return png.Encode(w, chart()) })
}

func save(name string, encode func(io.Writer) error) {
	f, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	if err := encode(f); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}

func mix(a, b color.RGBA, t float64) color.RGBA {
	f := func(x, y uint8) uint8 { return uint8(math.Round(float64(x) + (float64(y)-float64(x))*t)) }
	return color.RGBA{f(a.R, b.R), f(a.G, b.G), f(a.B, b.B), 255}
}

// marsh is an evening landscape: sky, sun, three rows of hills, water.
func marsh() image.Image {
	const w, h, shore = 960, 540, 360
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	top, low := color.RGBA{38, 66, 120, 255}, color.RGBA{250, 190, 130, 255}
	ridge := func(x, level, size, phase float64) float64 {
		return level - size*(math.Sin(x/170+phase)+0.5*math.Sin(x/71+2*phase)+0.25*math.Sin(x/29+3*phase))
	}
	rows := []struct {
		level, size, phase float64
		c                  color.RGBA
	}{{290, 34, 0.4, color.RGBA{126, 124, 158, 255}}, {318, 24, 2.1, color.RGBA{84, 94, 128, 255}}, {344, 14, 4.2, color.RGBA{48, 64, 84, 255}}}
	at := func(x, y float64) color.RGBA {
		c := mix(top, low, math.Pow(y/shore, 1.4))
		if d := math.Hypot(x-650, y-232); d < 46 {
			c = color.RGBA{255, 244, 214, 255}
		} else if d < 210 {
			c = mix(color.RGBA{255, 226, 176, 255}, c, math.Pow((d-46)/164, 0.6))
		}
		for _, r := range rows {
			if y > ridge(x, r.level, r.size, r.phase) {
				c = r.c
			}
		}
		return c
	}
	for y := range h {
		for x := range w {
			fx, fy := float64(x), float64(y)
			if y < shore {
				m.SetRGBA(x, y, at(fx, fy))
				continue
			}
			depth := (fy - shore) / (h - shore)
			wave := math.Sin(fy*fy/900+math.Sin(fx/60)*1.5) * (2 + 9*depth)
			c := at(math.Mod(fx+wave+w, w), math.Max(0, shore-(fy-shore)*1.6-1))
			m.SetRGBA(x, y, mix(c, color.RGBA{22, 40, 66, 255}, 0.25+0.4*depth))
		}
	}
	return m
}

// chart is ten bars over a grid, without words, so that it fits any language.
func chart() image.Image {
	const w, h, base, step = 800, 420, 370, 72
	paper, grid, bar, last := color.RGBA{250, 249, 245, 255}, color.RGBA{221, 219, 210, 255}, color.RGBA{92, 128, 140, 255}, color.RGBA{198, 106, 60, 255}
	m := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{paper, grid, bar, last, color.RGBA{70, 70, 70, 255}})
	for i, v := range []int{212, 196, 171, 140, 118, 96, 104, 148, 232, 305} {
		x0 := 48 + i*step
		c := uint8(2)
		if i == 9 {
			c = 3
		}
		for y := base - v; y < base; y++ {
			for x := x0; x < x0+46; x++ {
				m.SetColorIndex(x, y, c)
			}
		}
	}
	for y := 50; y < base; y += 80 {
		for x := 30; x < w-30; x++ {
			if m.ColorIndexAt(x, y) == 0 {
				m.SetColorIndex(x, y, 1)
			}
		}
	}
	for x := 30; x < w-30; x++ {
		m.SetColorIndex(x, base, 4)
		m.SetColorIndex(x, base+1, 4)
	}
	return m
}
