package bundle

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func TestScreens(t *testing.T) {
	var shot bytes.Buffer
	if err := png.Encode(&shot, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	var wide bytes.Buffer
	if err := png.Encode(&wide, image.NewGray(image.Rect(0, 0, mostPixels+1, 1))); err != nil {
		t.Fatal(err)
	}
	guests := map[string]struct {
		state   string
		picture []byte
		err     error
		taken   bool
	}{
		"i-shows":   {"running", shot.Bytes(), nil, true},
		"i-ended":   {"terminated", shot.Bytes(), nil, false},
		"i-without": {"running", nil, errors.New("it has no display"), false},
		"i-lies":    {"running", []byte("no PNG"), nil, false},
		"i-wide":    {"running", wide.Bytes(), nil, false},
	}
	status := &operator.Status{}
	for id, g := range guests {
		status.Instances = append(status.Instances, operator.Instance{ID: id, State: g.state})
	}
	s := &stage{dir: t.TempDir(), src: Source{Status: status,
		Screenshot: func(_ context.Context, id string) ([]byte, error) { return guests[id].picture, guests[id].err }}}
	if err := s.screens(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, g := range guests {
		t.Run(id, func(t *testing.T) {
			got, err := os.ReadFile(filepath.Join(s.dir, guestsFolder, id, screenFile))
			if (err == nil) != g.taken || g.taken && !bytes.Equal(got, g.picture) {
				t.Errorf("taken: %v (%v), want %v", err == nil, err, g.taken)
			}
		})
	}
}
