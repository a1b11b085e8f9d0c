package bundle

import (
	"bytes"
	"context"
	"image/png"
	"path/filepath"
)

// screenFile is the picture of a guest's display, in its folder.
const screenFile = "screen.png"

// The bounds of pictures: how many are taken, and how wide and high one is at most, in pixels.
const (
	mostScreens = 256
	mostPixels  = 4096
)

// screens takes pictures of what the displays of the guests that run show now. A guest that has none, or that ends
// meanwhile, is left out; so is a picture that is none.
func (s *stage) screens(ctx context.Context) error {
	if s.src.Status == nil || s.src.Screenshot == nil {
		return nil
	}
	taken := 0
	for _, i := range s.src.Status.Instances {
		if i.State != "running" || !s.wants(i.ID) {
			continue
		}
		if taken == mostScreens {
			return nil
		}
		picture, err := s.src.Screenshot(ctx, i.ID)
		if err != nil || !isPicture(picture) {
			continue
		}
		taken++
		if err := s.write(filepath.Join(guestsFolder, i.ID, screenFile), picture); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func isPicture(data []byte) bool {
	size, err := png.DecodeConfig(bytes.NewReader(data))
	return err == nil && size.Width <= mostPixels && size.Height <= mostPixels
}
