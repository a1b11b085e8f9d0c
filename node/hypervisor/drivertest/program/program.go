// Package program is what the guest of the conformance suite does, on whatever machine: drivertest/guest runs it as
// PID 1 of a real one, a simulated driver as a function. Package drivertest documents its lines and its orders.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Prefix begins each line of the guest.
const Prefix = "@conformance "

// SectorSize is how much of a medium the guest reads, in bytes.
const SectorSize = 512

// ErrNoMedium is what Machine.Medium answers while the drive is empty.
var ErrNoMedium = errors.New("no medium")

// Machine is what the guest sees of the machine it runs on. Its Writer is the serial console.
type Machine interface {
	io.Writer
	// Medium returns the first sector of the medium that is in the drive now, or ErrNoMedium.
	Medium() ([]byte, error)
	// Changed returns when the medium may have changed since the last look, or ctx has ended.
	Changed(ctx context.Context)
	// Button is closed when the power button is pressed.
	Button() <-chan struct{}
	// Random fills p from the machine's own generator of randomness.
	Random(p []byte) error
	// PowerOff ends the machine. It does not return on a real one.
	PowerOff() error
	// Panic ends the machine as a kernel does that gives up, whose last words hold "Kernel panic - not syncing".
	Panic()
}

// guest is the program's state: what forks of one template must not share.
type guest struct {
	Machine
	ctx        context.Context // of the machine's life
	last       string          // the medium that was told last
	remembered string
	over       bool
}

// Run is the guest's life from its first line, until it powers off, panics, or ctx ends.
func Run(ctx context.Context, m Machine) {
	g := &guest{Machine: m, ctx: ctx, remembered: "nothing"}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.say("ready")
	for !g.over && g.ctx.Err() == nil {
		select {
		case <-m.Button():
			g.say("button")
			g.powerOff()
			return
		default:
		}
		g.look()
		if !g.over {
			g.wait(ctx)
		}
	}
}

// wait returns when there may be something to do.
func (g *guest) wait(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		g.Changed(ctx)
	}()
	select {
	case <-changed:
	case <-g.Button():
	}
	cancel()
	<-changed
}

func (g *guest) say(format string, args ...any) { Say(g.Machine, format, args...) }

// Say writes one line of the guest to its console.
func Say(console io.Writer, format string, args ...any) {
	fmt.Fprintf(console, Prefix+format+"\n", args...)
}

// look tells a change of the medium and obeys it.
func (g *guest) look() {
	sector, err := g.Medium()
	text := ""
	switch {
	case errors.Is(err, ErrNoMedium):
	case err != nil:
		g.say("trouble: read medium: %v", err)
		return
	default:
		line, _, _ := bytes.Cut(sector, []byte("\n"))
		text = string(bytes.TrimRight(line, "\x00"))
	}
	if text == g.last {
		return
	}
	g.last = text
	if text == "" {
		g.say("no medium")
		return
	}
	g.say("medium %s", text)
	g.obey(text)
}

func (g *guest) obey(order string) {
	verb, rest, _ := strings.Cut(order, " ")
	switch verb {
	case "power-off":
		g.powerOff()
	case "panic":
		g.over = true
		g.Panic()
	case "flood":
		g.flood()
	case "remember":
		g.recall()
		g.remembered = rest
	case "recall":
		g.recall()
	case "random":
		g.random()
	}
}

func (g *guest) recall() { g.say("remembered %s", g.remembered) }

// random tells the last of more bytes than any layer between the generator and here keeps in store: what was fetched
// before a machine was copied is the same in all copies.
func (g *guest) random() {
	const stored, told = 4096, 16
	p := make([]byte, stored+told)
	if err := g.Random(p); err != nil {
		g.say("trouble: randomness: %v", err)
		return
	}
	g.say("random %x", p[stored:])
}

// flood writes 64 KiB of numbered lines.
func (g *guest) flood() {
	const lines, width = 1024, 64
	for i := range lines {
		fmt.Fprintf(g, "%0*d\n", width-1, i)
	}
	g.say("flooded")
}

func (g *guest) powerOff() {
	g.over = true
	g.say("power-off")
	if err := g.PowerOff(); err != nil {
		g.say("trouble: power off: %v", err)
	}
}
