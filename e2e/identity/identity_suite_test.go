// Package identity proves the life of a load-balancer VM's identity (LBCERT and LBPK): it is renewed by a floppy in the
// running guest, ends the guest when nothing renewed it, and can be withdrawn. renew_test.go and revoke_test.go show it
// on any kind of guests, expiry_test.go with LBCERTs that live half a minute; the other files' guests are impostors.
package identity

import (
	"context"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestIdentity(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "identity")
}

// The suite's cloud and two backends.
var (
	cloud    *twin.Twin
	backends []string
)

var _ = BeforeSuite(func() {
	cloud = twin.Start()
	backends = cloud.Backends(2)
})

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.KeepInvariants(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

const host = "www.example.test"

// happened waits for an event of the journal about an instance and returns the first.
func happened(of *twin.Twin, kind, instance string) journal.Event {
	GinkgoHelper()
	var events []journal.Event
	Eventually(func(g Gomega) {
		var err error
		events, err = of.EventsOf(kind, instance)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(events).NotTo(BeEmpty(), "%s of %s", kind, instance)
	}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
	return events[0]
}

// deliveredTo returns the serial number of the LBCERT to which a certificate's key was delivered last.
func deliveredTo(of *twin.Twin, instance, arn string) func() (string, error) {
	return func() (string, error) {
		events, err := of.EventsOf("delivery.granted", instance)
		serial := ""
		for _, ev := range events {
			if ev.Attributes["arn"] == arn {
				serial = ev.Attributes["lbcertSerial"]
			}
		}
		return serial, err
	}
}

// run expects a command to succeed and returns what it printed.
func run(ctx context.Context, of *twin.Twin, args ...string) string {
	GinkgoHelper()
	code, stdout, stderr := of.Command(ctx, args...)
	Expect(code).To(BeZero(), "%v: %s", args, stderr)
	return stdout
}
