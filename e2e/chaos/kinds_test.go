package chaos

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gomegatypes "github.com/onsi/gomega/types"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// with are a kind's parameters.
type with = map[string]string

// scenarios have a fault of each kind happen, look at what is to be seen of it, end it, and see that all is well again.
// A kind that is new in the catalogue needs one.
var scenarios = map[fault.Kind]func(ctx context.Context){
	fault.APILatency:  calls(fault.APILatency, with{"delay": "1m"}, MatchError(context.DeadlineExceeded)),
	fault.APIError:    calls(fault.APIError, with{"code": "Teapot", "status": "418"}, fails("Teapot")),
	fault.APIThrottle: calls(fault.APIThrottle, with{"perSecond": "0"}, fails("Throttling")),

	fault.StoreSlow:        writes(fault.StoreSlow, with{"delay": "1m"}, MatchError(context.DeadlineExceeded), false),
	fault.StoreUnavailable: writes(fault.StoreUnavailable, nil, fails("ServiceUnavailable"), false),
	fault.StoreFull:        writes(fault.StoreFull, nil, fails("ServiceUnavailable"), false),
	fault.StoreLeaderLost: func(ctx context.Context) {
		writes(fault.StoreLeaderLost, with{"committed": "false"}, HaveOccurred(), false)(ctx)
		writes(fault.StoreLeaderLost, with{"committed": "true"}, HaveOccurred(), true)(ctx)
	},

	fault.NodeKill:        nodeKilled,
	fault.NodeFreeze:      cut(fault.NodeFreeze, nil),
	fault.NodeClockSkew:   nodeClock,
	fault.NodeOutOfMemory: nodeMemory,
	fault.NodeOutOfDisk:   nodeDisk,

	fault.WireLoss:      cut(fault.WireLoss, nil),
	fault.WireDelay:     cut(fault.WireDelay, with{"delay": "30s"}),
	fault.WireJitter:    cut(fault.WireJitter, with{"jitter": "1m"}),
	fault.WireDuplicate: doubled,
	fault.WireReorder:   cut(fault.WireReorder, with{"delay": "30s"}),
	fault.WirePartition: cut(fault.WirePartition, nil),
	fault.WireBandwidth: cut(fault.WireBandwidth, with{"bytesPerSecond": "64"}),

	fault.MediumReadError: badMedium(fault.MediumReadError, with{"sector": "1"}, "the allocation tables differ"),
	fault.MediumEject:     ejected,
	fault.MediumSwap:      swapped,
	fault.MediumCorrupt:   badMedium(fault.MediumCorrupt, with{"bits": "5000"}, "floppy|medium"),

	fault.GuestKill:      replaced(fault.GuestKill, "powered off"),
	fault.GuestPause:     cut(fault.GuestPause, nil),
	fault.GuestNMI:       interrupted,
	fault.GuestPanic:     replaced(fault.GuestPanic, "Fatal machine check"),
	fault.GuestClockJump: guestClock,
	fault.GuestNoEntropy: badMedium(fault.GuestNoEntropy, nil, "entropy"),

	fault.CredentialExpire:  credentials,
	fault.CertificateExpire: identities,
}

var _ = Describe("Every kind of fault", Label(twin.NeedsSim), func() {
	It("has a scenario", func() {
		var listed, shown []fault.Kind
		for _, info := range fault.Catalogue() {
			listed = append(listed, info.Kind)
		}
		for kind := range scenarios {
			shown = append(shown, kind)
		}
		Expect(shown).To(ConsistOf(listed))
	})
	for _, info := range fault.Catalogue() {
		It(string(info.Kind)+" does what it says, and all is well afterwards", func(ctx context.Context) {
			scenarios[info.Kind](ctx)
		})
	}
})

// fails matches an AWS error by its code.
func fails(code string) gomegatypes.GomegaMatcher {
	return WithTransform(func(err error) string {
		if fault, ok := errors.AsType[smithy.APIError](err); ok {
			return fault.ErrorCode()
		}
		return ""
	}, Equal(code))
}

// quick makes a call that a user does not wait for longer than for somebody who is cut off.
func quick(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, cutOff)
	defer cancel()
	return call(ctx)
}

// over ends a fault that has happened.
func over(ctx context.Context, f fault.Fault) {
	GinkgoHelper()
	Expect(of(ctx, f)).To(HaveField("Applied", BeNumerically(">", 0)), "%s never happened", f.Kind)
	Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
}

func calls(kind fault.Kind, parameters with, seen gomegatypes.GomegaMatcher) func(context.Context) {
	return func(ctx context.Context) {
		list := func(ctx context.Context) error {
			_, err := cloud.IAM.ListUsers(ctx, &iam.ListUsersInput{})
			return err
		}
		f := cause(ctx, kind, "ListUsers", parameters)
		Expect(quick(ctx, list)).To(seen)
		_, err := cloud.IAM.ListRoles(ctx, &iam.ListRolesInput{})
		Expect(err).NotTo(HaveOccurred(), "a call that is not meant")
		over(ctx, f)
		Expect(list(ctx)).To(Succeed())
	}
}

var users int

// writes is for faults of the store; kept says that a write which fails is there all the same.
func writes(kind fault.Kind, parameters with, seen gomegatypes.GomegaMatcher, kept bool) func(context.Context) {
	return func(ctx context.Context) {
		create := func(ctx context.Context) error {
			users++
			_, err := cloud.IAM.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("user-" + strconv.Itoa(users))})
			return err
		}
		f := cause(ctx, kind, "write", parameters)
		Expect(quick(ctx, create)).To(seen)
		name := aws.String("user-" + strconv.Itoa(users))
		over(ctx, f)
		_, err := cloud.IAM.GetUser(ctx, &iam.GetUserInput{UserName: name})
		if kept {
			Expect(err).NotTo(HaveOccurred(), "the write was carried out")
		} else {
			Expect(err).To(fails("NoSuchEntity"))
		}
		Expect(create(ctx)).To(Succeed())
	}
}

// serving makes a load balancer and waits until it serves.
func serving(ctx context.Context) (*twin.LoadBalancer, *twin.Client, *twin.Certificate) {
	GinkgoHelper()
	cert := cloud.Upload(pki.P256, host)
	lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
	client := lb.Listener(port, cert.CA, host)
	Eventually(client).WithContext(ctx).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
	return lb, client, cert
}

// targetOf is what a fault happens to that a load balancer suffers from: its VMs, or the suite's one node.
func targetOf(kind fault.Kind, lb *twin.LoadBalancer) string {
	if info, _ := fault.InfoOf(kind); info.Scope == fault.Nodes {
		return "*"
	}
	return "lb:" + lb.Name
}

// cut is for faults that keep a guest from everybody.
func cut(kind fault.Kind, parameters with) func(context.Context) {
	return func(ctx context.Context) {
		lb, client, cert := serving(ctx)
		before := lb.Machine().ID
		f := cause(ctx, kind, targetOf(kind, lb), parameters)
		Expect(quick(ctx, func(ctx context.Context) error {
			_, err := client.Certificate(ctx)
			return err
		})).NotTo(Succeed())
		if kind == fault.NodeFreeze {
			Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
		} else {
			over(ctx, f)
		}
		Eventually(client).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
		Expect(lb.Machine().ID).To(Equal(before), "by the same VM")
	}
}

func doubled(ctx context.Context) {
	lb, client, cert := serving(ctx)
	f := cause(ctx, fault.WireDuplicate, "lb:"+lb.Name, nil)
	Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(cert), "every frame comes twice")
	over(ctx, f)
	Eventually(client).WithTimeout(twin.ChangeTimeout).Should(twin.PresentCertificate(cert))
}

func nodeKilled(ctx context.Context) {
	_, client, cert := serving(ctx)
	begun := time.Now()
	cause(ctx, fault.NodeKill, "*", nil)
	Eventually(eventsSince).WithArguments(begun, "node.disconnected").WithTimeout(twin.ChangeTimeout).ShouldNot(BeEmpty())
	cloud.StartNode()
	Eventually(client).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
}

// eventsSince are those of a kind.
func eventsSince(begun time.Time, kind string) (found []journal.Event, err error) {
	all, err := cloud.Events()
	for _, ev := range all {
		if ev.Kind == kind && ev.Time.After(begun) {
			found = append(found, ev)
		}
	}
	return found, err
}

// nodeClock looks at the times that the node notes of its guests.
func nodeClock(ctx context.Context) {
	ahead := func() time.Duration {
		m := cloud.Launch("web", "")
		m.WaitForMilestone("serving")
		var off time.Duration
		Eventually(func(g Gomega) {
			told, err := cloud.Milestones(m.ID, "machine-started")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(told).NotTo(BeEmpty())
			at, err := time.Parse(time.RFC3339Nano, told[0].Attributes["at"])
			g.Expect(err).NotTo(HaveOccurred())
			off = at.Sub(told[0].Time)
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
		return off
	}
	f := cause(ctx, fault.NodeClockSkew, "*", with{"offset": "2h"})
	Expect(ahead()).To(BeNumerically(">", time.Hour))
	Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
	Expect(ahead()).To(BeNumerically("<", time.Hour))
}

// nodeMemory has a guest wait for memory on a node that had some when it was chosen.
func nodeMemory(ctx context.Context) {
	f := cause(ctx, fault.NodeOutOfMemory, "*", nil)
	m := cloud.Launch("web", "")
	started := func() ([]journal.Event, error) { return cloud.Milestones(m.ID, "machine-started") }
	Consistently(started).WithContext(ctx).WithTimeout(cutOff).Should(BeEmpty())
	Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
	m.WaitForMilestone("serving")
}

func nodeDisk(ctx context.Context) {
	cloud.Allow("no space left")
	f := cause(ctx, fault.NodeOutOfDisk, "*", nil)
	cloud.Launch("web", "").WaitForState("terminated")
	Expect(lost()).To(ContainElement(ContainSubstring("no space left")))
	Expect(cloud.Operator.FaultClear(ctx, f.ID)).To(Succeed())
	cloud.Launch("web", "").WaitForMilestone("serving")
}

func ejected(ctx context.Context) {
	f := cause(ctx, fault.MediumEject, "lb:*", nil)
	cert := cloud.Upload(pki.P256, host)
	lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
	Eventually(of).WithContext(ctx).WithArguments(f).WithTimeout(cloud.BootTimeout()).
		Should(HaveField("Applied", BeNumerically(">", 0)))
	client, before := lb.Listener(port, cert.CA, host), lb.Machine().ID
	Consistently(client.Refused).WithContext(ctx).WithTimeout(cutOff).Should(BeTrue())
	over(ctx, f)
	Eventually(client).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
	Expect(lb.Machine().ID).To(Equal(before), "by the VM that had no medium")
}

func swapped(ctx context.Context) {
	const why = "medium is for another instance"
	cloud.Allow(why)
	f := cause(ctx, fault.MediumSwap, "lb:*", with{"with": "lb:*"})
	cert := cloud.Upload(pki.P256, host)
	one := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
	two := cloud.CreateLoadBalancer(nil, twin.HTTPS(port, cert.ARN))
	Eventually(lost).WithTimeout(recoverTimeout()).Should(ContainElement(ContainSubstring(why)))
	over(ctx, f)
	for _, lb := range []*twin.LoadBalancer{one, two} {
		Eventually(lb.Listener(port, cert.CA, host)).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
	}
}

func interrupted(ctx context.Context) {
	m := cloud.Launch("web", "")
	m.WaitForMilestone("serving")
	f := cause(ctx, fault.GuestNMI, m.ID, nil)
	m.WaitForConsole("NMI received for unknown reason")
	Expect(of(ctx, f)).To(HaveField("Applied", 1))
	Expect(m.Run("hostname").Stdout).NotTo(BeEmpty(), "it goes on")
}

// guestClock has guests' media tell them a time that is an hour off. They compare their clocks with the metadata
// service's before they sign anything, set them, and so get their keys all the same.
func guestClock(ctx context.Context) {
	const said = `msg="clock set" off=`
	for offset, back := range map[string]string{"1h": "-(1h0m|59m)", "-1h": "(1h0m|59m)"} {
		f := cause(ctx, fault.GuestClockJump, "lb:*", with{"offset": offset})
		lb, _, _ := serving(ctx)
		lb.Machine().WaitForConsole(said + back)
		over(ctx, f)
	}
	lb, _, _ := serving(ctx)
	Expect(lb.Machine().Console()).NotTo(ContainSubstring(said), "its clock is right")
}

// credentials has a guest get role credentials that end soon: it asks for others and goes on.
func credentials(ctx context.Context) {
	const life = 2 * time.Second
	begun := time.Now()
	f := cause(ctx, fault.CredentialExpire, "lb:*", with{"life": life.String()})
	lb, _, _ := serving(ctx)
	Eventually(func() time.Duration { return time.Since(begun) }).Should(BeNumerically(">", life), "they end")
	second := cloud.Upload(pki.P256, host)
	lb.SetCertificate(port, second.ARN)
	Eventually(lb.Listener(port, second.CA, host)).WithTimeout(twin.ChangeTimeout).
		Should(twin.PresentCertificate(second), "with other credentials")
	Expect(of(ctx, f)).To(HaveField("Applied", BeNumerically(">", 1)), "credentials are asked for again")
	over(ctx, f)
	third := cloud.Upload(pki.P256, host)
	lb.SetCertificate(port, third.ARN)
	Eventually(lb.Listener(port, third.CA, host)).WithTimeout(twin.ChangeTimeout).
		Should(twin.PresentCertificate(third))
}

// identities has a guest get an LBCERT that ends soon: it is renewed, and lives as long as others afterwards.
func identities(ctx context.Context) {
	f := cause(ctx, fault.CertificateExpire, "lb:*", with{"life": "5s"})
	lb, client, cert := serving(ctx)
	end := func() (time.Time, error) {
		vm, err := cloud.Instance(ctx, lb.Machine().ID)
		if err != nil || vm.Identity == nil {
			return time.Time{}, err
		}
		return vm.Identity.NotAfter, nil
	}
	first, err := end()
	Expect(err).NotTo(HaveOccurred())
	Expect(first).To(BeTemporally("<", time.Now().Add(time.Minute)))
	over(ctx, f)
	Eventually(end).WithTimeout(recoverTimeout()).Should(BeTemporally(">", time.Now().Add(time.Hour)))
	Eventually(client).WithTimeout(recoverTimeout()).Should(twin.PresentCertificate(cert))
}
