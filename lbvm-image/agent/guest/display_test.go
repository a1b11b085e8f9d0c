package guest

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestConsolesShowOnTheDisplayWhatWasSaidBefore(t *testing.T) {
	for _, tc := range []struct {
		name    string
		display bool
		want    string
	}{
		{"a display", true, "early\nlate\n"},
		{"no display", false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var serial, screen strings.Builder
			c := newConsoles(&serial)
			say := func(text string) {
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
			}
			say("early\n")
			if tc.display {
				c.show(&screen)
			} else {
				c.show(nil)
			}
			say("late\n")
			if got := serial.String(); got != "early\nlate\n" {
				t.Errorf("the serial console has %q", got)
			}
			if got := screen.String(); got != tc.want {
				t.Errorf("the display has %q, want %q", got, tc.want)
			}
			if c.early.Len() > 0 {
				t.Errorf("%d bytes are kept for a display that is known", c.early.Len())
			}
		})
	}
}

func TestDisplayModulesAreLoadedOnlyForADisplay(t *testing.T) {
	if got := moduleLists([]string{"console=ttyS0", "quiet"}); !slices.Equal(got, []string{moduleList}) {
		t.Errorf("without a display: %v", got)
	}
	if got := moduleLists([]string{"console=tty0", "quiet"}); !slices.Equal(got, []string{moduleList, displayModules}) {
		t.Errorf("with a display: %v", got)
	}
	dir := t.TempDir()
	list := filepath.Join(dir, "modules")
	if err := os.WriteFile(list, []byte("/modules/a.ko\n/modules/b.ko\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := newLoader(list, filepath.Join(dir, "none"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/modules/a.ko", "/modules/b.ko"}; !slices.Equal(l.paths, want) {
		t.Errorf("an image without display drivers loads %v, want %v", l.paths, want)
	}
	if _, err := newLoader(filepath.Join(dir, "none")); err == nil {
		t.Error("an image without any list is no error")
	}
}
