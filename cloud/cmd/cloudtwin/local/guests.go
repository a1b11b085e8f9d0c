package local

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

// Guests says how a node's guests come to life; the zero value is usable.
type Guests struct {
	Mode node.GuestMode // empty means DefaultGuests
	// Pool is how many forks are kept ready, paused, for the next guests of each image.
	Pool int
	// Capture keeps the headers of each guest's latest frames.
	Capture bool
	// Displays names the images whose guests get a display.
	Displays []string
	// Lifecycle is how simulated guests boot and fail; the zero value boots at once and never fails. Seed decides about
	// its chances.
	Lifecycle sim.Lifecycle
	Seed      uint64
	// Templates is the folder of what forks are copies of; empty means the one that all nodes of this user share.
	Templates string
}

// DefaultGuests is how guests come to life where nobody chooses.
const DefaultGuests = node.GuestsFork

// GuestsVariable names the environment variable that chooses where no flag does.
const GuestsVariable = "CLOUDTWIN_GUESTS"

// AllGuests are the ways to choose from, from the fastest to the one with the least between a guest and its kernel.
func AllGuests() []node.GuestMode {
	return []node.GuestMode{node.GuestsSim, node.GuestsFork, node.GuestsCold}
}

// ParseGuests reads a way by its name; empty means the default.
func ParseGuests(name string) (node.GuestMode, error) {
	if name == "" {
		return DefaultGuests, nil
	}
	if !slices.Contains(AllGuests(), node.GuestMode(name)) {
		var names []string
		for _, g := range AllGuests() {
			names = append(names, string(g))
		}
		return "", fmt.Errorf("%q: want one of %s", name, strings.Join(names, ", "))
	}
	return node.GuestMode(name), nil
}

// GuestsFromEnvironment is what GuestsVariable chooses.
func GuestsFromEnvironment() (node.GuestMode, error) {
	g, err := ParseGuests(os.Getenv(GuestsVariable))
	if err != nil {
		return "", fmt.Errorf("%s: %w", GuestsVariable, err)
	}
	return g, nil
}
