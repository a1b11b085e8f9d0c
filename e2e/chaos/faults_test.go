package chaos

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const (
	port = 8443
	host = "www.example.test"
)

// lost are the reasons of VMs that ended.
func lost() (reasons []string, err error) {
	events, err := cloud.Events()
	for _, ev := range events {
		if ev.Kind == "instance.state" && ev.Attributes["state"] != "running" && ev.Attributes["reason"] != "" {
			reasons = append(reasons, ev.Attributes["reason"])
		}
	}
	return reasons, err
}

// badMedium is for faults that keep a guest from reading its medium.
func badMedium(kind fault.Kind, parameters map[string]string, why string) func(context.Context) {
	return func(ctx context.Context) {
		cloud.Allow(why)
		f := cause(ctx, kind, "lb:*", parameters)
		cert := cloud.Upload(pki.P256, host)
		lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
		Eventually(of).WithContext(ctx).WithArguments(f).WithTimeout(cloud.BootTimeout()).
			Should(HaveField("Applied", BeNumerically(">", 0)))
		Eventually(lost).WithTimeout(cloud.BootTimeout()).Should(ContainElement(MatchRegexp(why)))
		Expect(lb.Listener(port, cert.CA, host).Refused(ctx)).To(BeTrue())
		Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
		Eventually(lb.Listener(port, cert.CA, host)).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
	}
}

// replaced is for faults that end a guest.
func replaced(kind fault.Kind, why string) func(context.Context) {
	return func(ctx context.Context) {
		cloud.Allow(why)
		lb, client, cert := serving(ctx)
		before := lb.Machine().ID
		f := cause(ctx, kind, "lb:"+lb.Name, nil)
		Eventually(of).WithContext(ctx).WithArguments(f).Should(HaveField("Applied", 1))
		Eventually(lost).WithTimeout(twin.ChangeTimeout).Should(ContainElement(MatchRegexp(why)))
		Eventually(lb.Status).WithContext(ctx).WithTimeout(recoverTimeout()).
			Should(HaveField("Instances", And(HaveLen(1), Not(ContainElement(before)))))
		Eventually(client).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
	}
}

// What is to be seen on real guests too; kinds_test.go has all kinds, on simulated ones.
var _ = Describe("A real guest", func() {
	DescribeTable("suffers from a fault, and all is well afterwards",
		func(ctx context.Context, scenario func(context.Context)) { scenario(ctx) },
		Entry("that spoils its medium", Label("fork"),
			badMedium(fault.MediumReadError, map[string]string{"sector": "1"}, "the allocation tables differ")),
		Entry("that spoils its medium's files", Label("slow", twin.NeedsKernel),
			badMedium(fault.MediumReadError, map[string]string{"sector": "33", "sectors": "4"}, "medium")),
		Entry("of its wire", Label("fork"), cut(fault.WirePartition, nil)),
		Entry("of its clock", Label("fork"), guestClock),
		Entry("that has it stand still", Label("slow", twin.NeedsKernel), cut(fault.GuestPause, nil)),
		Entry("that has its kernel panic", Label("slow", twin.NeedsKernel),
			replaced(fault.GuestPanic, "Fatal machine check")),
	)
})

// cutOff is how long a client waits for somebody who is cut off.
const cutOff = 500 * time.Millisecond
