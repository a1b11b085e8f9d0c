package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var _ hypervisor.Screenshotter = (*displayMachine)(nil)

// displayMachine is a machine with a display.
type displayMachine struct{ *machine }

// seen is the machine as its users see it: with or without a display.
func (m *machine) seen() hypervisor.Machine {
	if m.record.Display {
		return displayMachine{m}
	}
	return m
}

// The display has the size of a real one's, and as many lines and columns of text as fit with this font.
const (
	displayWidth, displayHeight = 640, 480
	glyphWidth, glyphHeight     = 7, 13
	columns, rows               = displayWidth / glyphWidth, displayHeight / glyphHeight
)

// shown is how much of the console's end can be on the display at most, in bytes of UTF-8.
const shown = columns * rows * 4

// Screenshot draws the last lines of the console, as a kernel shows them on a display that is its second console.
func (m displayMachine) Screenshot(ctx context.Context) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("screenshot of machine %s: %w", m.record.ID, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if m.current() != hypervisor.Running {
		return fail(hypervisor.ErrNotRunning)
	}
	text, err := m.console.lastBytes(shown)
	if err != nil {
		return fail(err)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, draw(screenLines(text))); err != nil {
		return fail(err)
	}
	return out.Bytes(), nil
}

// screenLines breaks text into the lines that are on the display.
func screenLines(text []byte) []string {
	var lines []string
	for line := range strings.Lines(strings.ToValidUTF8(string(text), "?")) {
		runes := []rune(strings.Map(printable, strings.TrimRight(line, "\r\n")))
		for len(runes) > columns {
			lines = append(lines, string(runes[:columns]))
			runes = runes[columns:]
		}
		lines = append(lines, string(runes))
	}
	return lines[max(0, len(lines)-rows):]
}

func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case !unicode.IsPrint(r):
		return -1
	}
	return r
}

func draw(lines []string) image.Image {
	grey := color.Gray{Y: 0xaa} // as text is on a PC's console
	picture := image.NewGray(image.Rect(0, 0, displayWidth, displayHeight))
	pen := font.Drawer{Dst: picture, Src: image.NewUniform(grey), Face: basicfont.Face7x13}
	for n, line := range lines {
		pen.Dot = fixed.P(0, n*glyphHeight+basicfont.Face7x13.Ascent)
		pen.DrawString(line)
	}
	return picture
}

// lastBytes returns the last bytes that the machine wrote, n at most.
func (c *console) lastBytes(n int64) ([]byte, error) {
	size, _, _ := c.look()
	file, err := os.Open(c.path)
	if err != nil {
		return nil, fmt.Errorf("read console log: %w", err)
	}
	defer file.Close()
	from := max(c.from, size-n)
	text := make([]byte, size-from)
	read, err := file.ReadAt(text, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read console log: %w", err)
	}
	return text[:read], nil
}
