// Package chaos has things go wrong on purpose and looks at what a user then sees: that they do go wrong, for the
// reason that the fault has, and that all is well again when the fault is over. Random faults are the command chaos's.
package chaos

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestChaos(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "chaos")
}

var cloud *twin.Twin

var _ = BeforeSuite(func() { cloud = twin.Start() })

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

// recoverTimeout is how long a load balancer may take to serve after its fault: a VM that was lost is replaced after a
// pause.
func recoverTimeout() time.Duration { return cloud.BootTimeout() + twin.ChangeTimeout }

// cause adds a fault, which the spec's end clears.
func cause(ctx context.Context, kind fault.Kind, target string, with map[string]string) fault.Fault {
	GinkgoHelper()
	f, err := cloud.Operator.FaultAdd(ctx, fault.Fault{Kind: kind, Target: target, With: with})
	Expect(err).NotTo(HaveOccurred(), "add %s", kind)
	DeferCleanup(func() { Expect(cloud.Operator.FaultClear(context.Background(), "")).To(Succeed()) })
	return f
}

// of is what became of a fault.
func of(ctx context.Context, f fault.Fault) (play.Status, error) {
	list, err := cloud.Operator.Faults(ctx)
	for _, s := range list {
		if s.ID == f.ID {
			return s, err
		}
	}
	return play.Status{}, err
}
