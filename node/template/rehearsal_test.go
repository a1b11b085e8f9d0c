package template

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

func TestRehearsalMediaDiffer(t *testing.T) {
	r := Rehearsal(rand.Reader)
	seeds := map[string]bool{}
	const media = 2
	for range media {
		path := filepath.Join(t.TempDir(), "medium")
		if err := r.Medium(path); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 || info.Size() != floppy.Size {
			t.Errorf("the medium is %v, %v", info, err)
		}
		files, err := floppy.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := fs.ReadFile(files, keydelivery.RehearsalFile)
		if err != nil || len(seed) != keydelivery.EntropySize {
			t.Errorf("%d bytes of randomness, %v", len(seed), err)
		}
		seeds[string(seed)] = true
		if err := r.Medium(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over another medium: %v", err)
		}
	}
	if len(seeds) != media {
		t.Error("two forks rehearse with the same randomness")
	}
}

func TestRehearsalNeedsRandomness(t *testing.T) {
	path := filepath.Join(t.TempDir(), "medium")
	if err := Rehearsal(iotest.ErrReader(errors.New("none"))).Medium(path); err == nil {
		t.Error("made a medium of nothing")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("left a medium")
	}
}

func TestRehearsalIsOver(t *testing.T) {
	for _, tc := range []struct {
		line string
		want bool
	}{
		{`@cloudtwin {"stage":"rehearsed","t":3.2}` + "\r\n", true},
		{readyLine, false},
		{"rehearsed\n", false},
		{"\n", false},
	} {
		if got := Rehearsal(rand.Reader).Done([]byte(tc.line)); got != tc.want {
			t.Errorf("%q: %t", tc.line, got)
		}
	}
}
