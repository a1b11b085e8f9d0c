package twin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/node"
)

func TestArtifactsOfASpecAreCapped(t *testing.T) {
	for name, c := range map[string]struct {
		left, text int
		want       int // bytes in the file; -1: no file
	}{
		"fits":                      {left: 1000, text: 1000, want: 1000},
		"loses its beginning":       {left: 1000, text: 5000, want: 1000},
		"longer than a text may be": {left: maxArtifacts, text: maxArtifact + 1, want: maxArtifact},
		"hardly any room":           {left: 7, text: 100, want: 7},
		"no room":                   {left: 0, text: 1, want: -1},
	} {
		t.Run(name, func(t *testing.T) {
			l := &locker{dir: t.TempDir(), left: c.left}
			l.put("cloud log", strings.Repeat("x", c.text-1)+"!")
			text, err := os.ReadFile(filepath.Join(l.dir, "cloud-log"))
			if c.want < 0 {
				if !os.IsNotExist(err) || l.left != c.left {
					t.Errorf("%d bytes (%v) are kept, %d left, want nothing", len(text), err, l.left)
				}
				return
			}
			if err != nil || len(text) != c.want || l.left != c.left-c.want {
				t.Fatalf("%d bytes (%v) are kept and %d left of %d, want %d", len(text), err, l.left, c.left, c.want)
			}
			if c.want > 100 && !strings.HasSuffix(string(text), "!") {
				t.Error("the end is not kept")
			}
			if cut := strings.HasPrefix(string(text), "[the first "); c.want > 100 && cut != (c.text > c.want) {
				t.Errorf("it says that it was cut: %t", cut)
			}
		})
	}
}

// TestABundleCountsAmongASpecsArtifacts has bundles be as long as they may, or a byte longer.
func TestABundleCountsAmongASpecsArtifacts(t *testing.T) {
	for name, c := range map[string]struct {
		left, size int
		kept       bool
	}{
		"fits":              {left: 100, size: 60, kept: true},
		"over its own cap":  {left: 100, size: 61},
		"over what is left": {left: 50, size: 51},
		"just fits":         {left: 50, size: 50, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := &locker{dir: t.TempDir(), left: c.left}
			path := filepath.Join(l.dir, "bundle.zip")
			if err := os.WriteFile(path, make([]byte, c.size), 0o600); err != nil {
				t.Fatal(err)
			}
			err := l.take(path, 60)
			_, missing := os.Stat(path)
			if kept := err == nil && missing == nil; kept != c.kept || (missing == nil) != c.kept {
				t.Fatalf("kept: %t (%v, %v), want %t", kept, err, missing, c.kept)
			}
			want := c.left
			if c.kept {
				want -= c.size
			}
			if l.left != want {
				t.Errorf("%d bytes are left, want %d", l.left, want)
			}
		})
	}
	if maxBundle+maxArtifact > maxArtifacts {
		t.Error("a bundle leaves no room for a log")
	}
}

func TestReplayCommandIsForAShell(t *testing.T) {
	for name, c := range map[string]struct {
		twin          *Twin
		program, file string
		want          string
	}{
		"plain":   {&Twin{Mode: node.GuestsSim}, "", "/a/b.zip", "cloudtwin replay /a/b.zip --guests sim"},
		"program": {&Twin{Mode: node.GuestsFork}, "/x/ct", "/a/b.zip", "/x/ct replay /a/b.zip --guests fork"},
		"blanks":  {&Twin{Mode: node.GuestsSim}, "", "/a b/it's.zip", `cloudtwin replay '/a b/it'\''s.zip' --guests sim`},
		"images": {&Twin{Mode: node.GuestsCold, images: "/i"}, "", "b.zip",
			"cloudtwin replay b.zip --guests cold --images /i"},
		"images of none": {&Twin{Mode: node.GuestsSim, images: "/i"}, "", "b.zip", "cloudtwin replay b.zip --guests sim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CLOUDTWIN_BIN", c.program)
			if got := c.twin.replayCommand(c.file); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestStartClasses(t *testing.T) {
	slow := func() time.Duration { return 3 }
	for mode, c := range map[node.GuestMode]struct {
		class StartClass
		want  time.Duration
	}{
		node.GuestsSim: {Instant, quietStart}, node.GuestsFork: {Copied, 3 * quietStart},
		node.GuestsCold: {Booted, 3 * quietStart},
	} {
		if got := ClassOf(mode); got != c.class {
			t.Errorf("%s guests are of class %d, want %d", mode, got, c.class)
		}
		if got := c.class.timeout(slow); got != c.want {
			t.Errorf("%s guests may take %s where all takes three times as long, want %s", mode, got, c.want)
		}
	}
}

func TestMinutes(t *testing.T) {
	for _, n := range []int{0, -1, 601} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Minutes(%d) is taken", n)
				}
			}()
			Minutes(n)
		}()
	}
	for _, n := range []int{1, 600} {
		if got := len(Minutes(n)); got != 2 {
			t.Errorf("Minutes(%d) has %d decorators, want labels and a timeout", n, got)
		}
	}
	for want, labels := range map[int][]string{
		0: {"vm", "minutes:x", "minutes"}, 5: {"vm", "minutes:5"}, 7: {"minutes: 7", Slow},
	} {
		if got := MinutesOf(labels); got != want {
			t.Errorf("%v: %d minutes, want %d", labels, got, want)
		}
	}
}
