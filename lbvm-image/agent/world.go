package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/sshd"
)

// DefaultMetadataURL is where the instance metadata service answers in a guest's network.
const DefaultMetadataURL = "http://169.254.169.254"

// World is everything of a machine that the agent may touch. A real guest makes it from its kernel (agent/guest), a
// simulated one from the floppy's bytes and the virtual network.
type World struct {
	// Medium is where the sealed identity comes from. Needed by RunLBVM; RunWeb uses it when Become is set.
	Medium MediumSource
	// Dial opens a connection from the guest. Needed. It must end when ctx ends. Addresses are numeric.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens a port of the guest; address is ":PORT". Needed.
	Listen func(network, address string) (net.Listener, error)
	// Now is the guest's wall clock, by which requests are signed and validity is judged. Needed. Durations
	// (timeouts, intervals) are measured by the Go runtime instead, which a change of the wall clock leaves alone.
	Now func() time.Time
	// SetClock sets the wall clock. It is called at most once, and only when Now is far from the time the metadata
	// service tells. Nil: the clock is taken as it is.
	SetClock func(time.Time) error
	// Entropy mixes a seed into the machine's random number generator before the agent uses any randomness. The
	// seed belongs to the caller and is wiped after the call. Nil: nothing is mixed in.
	Entropy func(seed []byte) error
	// Become makes the machine the one that its medium is for: it is called once, after Entropy and before the
	// network is used, and returns when the guest has its clock, its card's address, its IP address and its name. A
	// machine that was copied from a running one needs it. Nil: the machine is all that already.
	Become func(ctx context.Context, boot keydelivery.Boot) error
	// Console takes the milestones. Nil: they are dropped.
	Console Console
	// Logger takes what is worth reading but no milestone. Nil: dropped.
	Logger *slog.Logger
	// Terminal is the console for text that is no milestone, each in one Write call. Nil: it is dropped.
	Terminal io.Writer
	// Shell runs what people who log in want to have run; only a web guest lets anybody in. Nil: the few commands of
	// package shell.
	Shell sshd.Run
	// PowerOff switches the machine off. It is the last thing the agent does, after the milestone "power-off", and
	// it may not return. Nil: the agent just returns.
	PowerOff func()
	// Connections bounds the clients that each listener serves at once; further ones wait. Default 256, for which the
	// smallest instance type has the memory.
	Connections int
	// MetadataURL is the base of the instance metadata service, without a trailing slash. Default DefaultMetadataURL.
	MetadataURL string
}

// MediumSource gives the files of the removable medium.
type MediumSource interface {
	// Open waits until a medium that has not been opened before is there and returns its files. It returns an error
	// only when ctx ends or the device itself is unusable; a medium that cannot be read shows in the files' errors.
	// After a failed read the agent opens again, and then the same medium may be returned once more.
	// When the file system is also an io.Closer, the agent closes it as soon as it has read what it wants.
	Open(ctx context.Context) (fs.FS, error)
	// Changed receives a value each time another medium was put in after one had been opened: the agent then opens
	// it and renews its identity. A nil channel means that this never happens.
	Changed() <-chan struct{}
}

// Console takes milestones, the one-line progress marks that the node reads from the guest's serial console.
type Console interface {
	// Milestone reports that a stage was reached. Attributes are text and must hold no secret.
	// It may be called from several goroutines.
	Milestone(stage string, attrs ...slog.Attr)
}

// Validate reports everything that RunLBVM needs and that is missing.
func (w World) Validate() error {
	return errors.Join(w.validateNetwork(), w.validateMedium())
}

func (w World) validateMedium() error {
	if w.Medium == nil {
		return errors.New("world has no medium source")
	}
	return nil
}

func (w World) validateNetwork() error {
	var errs []error
	if w.Dial == nil {
		errs = append(errs, errors.New("world has no dialer"))
	}
	if w.Listen == nil {
		errs = append(errs, errors.New("world has no listener"))
	}
	if w.Now == nil {
		errs = append(errs, errors.New("world has no clock"))
	}
	return errors.Join(errs...)
}

// withDefaults fills what may be left out, so that the rest of the agent need not ask.
func (w World) withDefaults() World {
	if w.Console == nil {
		w.Console = quietConsole{}
	}
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	if w.MetadataURL == "" {
		w.MetadataURL = DefaultMetadataURL
	}
	if w.PowerOff == nil {
		w.PowerOff = func() {}
	}
	return w
}

type quietConsole struct{}

func (quietConsole) Milestone(string, ...slog.Attr) {}
