package twin

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"time"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/node"
)

// The labels of specs that do not go with every kind of guest. Those without one run with all.
const (
	// NeedsKernel marks what a simulated guest has not: a kernel, a process of its own, a life after its node's.
	NeedsKernel = "kernel"
	// NeedsFork marks what only copies of a template have.
	NeedsFork = "fork"
	// NeedsSim marks what only simulated guests do.
	NeedsSim = "sim"
)

// guestsFlag is a flag of every suite: ginkgo ./e2e/mainjob -- --guests sim.
var guestsFlag = flag.String("guests", "", "how guests come to life: sim, fork, cold; without the flag "+
	local.GuestsVariable+" chooses, or else "+string(local.DefaultGuests))

// Mode is the kind of guests that the suite's flag --guests chooses, or the environment (CLOUDTWIN_GUESTS); by default
// forked ones.
func Mode() node.GuestMode {
	ginkgo.GinkgoHelper()
	mode, err := chosenMode(*guestsFlag)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return mode
}

// chosenMode is what the flag says, or the environment when it says nothing.
func chosenMode(flagged string) (node.GuestMode, error) {
	if flagged == "" {
		return local.GuestsFromEnvironment()
	}
	mode, err := local.ParseGuests(flagged)
	if err != nil {
		return "", fmt.Errorf("--guests: %w", err)
	}
	return mode, nil
}

// CheckMode skips the specs whose labels do not go with the chosen kind of guests, and says so. The Makefile
// leaves them out beforehand, so a skip means that a spec was asked for that cannot be shown. It belongs in the
// suite's top level.
func CheckMode() bool {
	ginkgo.BeforeEach(func() {
		labels := ginkgo.CurrentSpecReport().Labels()
		if missing := cmp.Or(missingFor(Mode(), labels), machineLacks(labels)); missing != "" {
			ginkgo.Skip(missing)
		}
	})
	return true
}

// missingFor says why specs with these labels cannot be shown in a mode; empty when they can.
func missingFor(mode node.GuestMode, labels []string) string {
	for _, need := range []struct {
		label string
		modes []node.GuestMode
	}{
		{NeedsKernel, []node.GuestMode{node.GuestsFork, node.GuestsCold}},
		{NeedsFork, []node.GuestMode{node.GuestsFork}},
		{NeedsSim, []node.GuestMode{node.GuestsSim}},
	} {
		if slices.Contains(labels, need.label) && !slices.Contains(need.modes, mode) {
			return fmt.Sprintf("label %s: %s guests cannot show it; choose one of %v by --guests or %s",
				need.label, mode, need.modes, local.GuestsVariable)
		}
	}
	return ""
}

// quietStart is how long guests may take that start at the machine's own speed.
const quietStart = 60 * time.Second

// BootTimeout is how long guests of a kind may take to serve: the Timeout of their class.
func BootTimeout(mode node.GuestMode) time.Duration { return ClassOf(mode).Timeout() }

// BootTimeout is that of this twin's guests.
func (t *Twin) BootTimeout() time.Duration { return BootTimeout(t.Mode) }

// Option changes how a twin is started.
type Option func(*Twin)

// Guests has the twin's guests come to life in another way than Mode says.
func Guests(mode node.GuestMode) Option { return func(t *Twin) { t.Mode = mode } }

// CloudFlags are further flags of 'cloudtwin up'.
func CloudFlags(flags ...string) Option {
	return func(t *Twin) { t.cloudFlags = append(t.cloudFlags, flags...) }
}

// Store has the cloud keep its records in an external etcd.
func Store(url string) Option {
	return func(t *Twin) { t.store, t.cloudFlags = []string{url}, append(t.cloudFlags, "--store", url) }
}

// NodeFlags are further flags of 'cloudtwin node'.
func NodeFlags(flags ...string) Option {
	return func(t *Twin) { t.nodeFlags = append(t.nodeFlags, flags...) }
}
