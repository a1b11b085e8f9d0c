package twin

import (
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

// Mode is the kind of guests that the environment chooses (CLOUDTWIN_GUESTS), by default forked ones.
func Mode() node.GuestMode {
	ginkgo.GinkgoHelper()
	mode, err := local.GuestsFromEnvironment()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return mode
}

// CheckMode skips the specs whose labels do not go with the environment's kind of guests, and says so. The Makefile
// leaves them out beforehand, so a skip means that a spec was asked for that cannot be shown. It belongs in the
// suite's top level.
func CheckMode() bool {
	ginkgo.BeforeEach(func() {
		if missing := missingFor(Mode(), ginkgo.CurrentSpecReport().Labels()); missing != "" {
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
			return fmt.Sprintf("label %s: %s guests cannot show it; set %s to one of %v", need.label, mode,
				local.GuestsVariable, need.modes)
		}
	}
	return ""
}

// BootTimeout is how long guests of a kind may take from launch to serving, with a queue of others before them. It
// bounds how long a failure takes, not how fast anything is: a fork may fall back to a cold boot on a busy machine.
func BootTimeout(mode node.GuestMode) time.Duration {
	if mode == node.GuestsSim {
		return 30 * time.Second
	}
	return 90 * time.Second
}

// BootTimeout is that of this twin's guests.
func (t *Twin) BootTimeout() time.Duration { return BootTimeout(t.Mode) }

// Option changes how a twin is started.
type Option func(*Twin)

// Guests has the twin's guests come to life in another way than the environment says.
func Guests(mode node.GuestMode) Option { return func(t *Twin) { t.Mode = mode } }

// CloudFlags are further flags of 'cloudtwin up'.
func CloudFlags(flags ...string) Option { return func(t *Twin) { t.cloudFlags = flags } }

// NodeFlags are further flags of 'cloudtwin node'.
func NodeFlags(flags ...string) Option { return func(t *Twin) { t.nodeFlags = flags } }
