package guest

import (
	"io"
	"os"
	"strings"
	"sync"
)

// displayWord on the kernel's command line says that the machine has a display which is a console.
const displayWord = "console=tty0"

// displayModules lists the display's drivers like moduleList; an image may have none.
const displayModules = "/etc/cloudtwin/display-modules"

// screenDevice is the kernel's terminal on the display. What is written before the display's driver is loaded is shown
// when it is.
const screenDevice = "/dev/tty0"

// maxEarly bounds what is kept for the display until it is known whether there is one, in bytes.
const maxEarly = 16 << 10

// consoles is what the guest says: on the serial console, and on the display if it has one.
type consoles struct {
	serial io.Writer

	mu     sync.Mutex
	screen io.Writer // nil: none, or not known yet
	known  bool
	early  strings.Builder // said before it was known
}

func newConsoles(serial io.Writer) *consoles { return &consoles{serial: serial} }

// Write writes to all consoles. Only the serial one's errors count: it is the one that is read by programs.
func (c *consoles) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.screen != nil:
		_, _ = c.screen.Write(p)
	case !c.known && c.early.Len()+len(p) <= maxEarly:
		c.early.Write(p)
	}
	return c.serial.Write(p)
}

// show has the consoles' text on the screen too; nil means that there is no display.
func (c *consoles) show(screen io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if screen != nil {
		_, _ = io.WriteString(screen, c.early.String())
	}
	c.screen, c.known = screen, true
	c.early.Reset()
}

// openScreen opens the display; nil when the machine has none.
func openScreen(words []string) io.Writer {
	for _, w := range words {
		if w != displayWord {
			continue
		}
		if f, err := os.OpenFile(screenDevice, os.O_WRONLY, 0); err == nil {
			return f
		}
	}
	return nil
}

// moduleLists are those of a machine with these words on its kernel's command line.
func moduleLists(words []string) []string {
	lists := []string{moduleList}
	for _, w := range words {
		if w == displayWord {
			lists = append(lists, displayModules)
			break
		}
	}
	return lists
}
