// Package threats attacks the delivery of keys: one spec or more for each threat that the protocol's design lists, and
// further ones. An attacker is code of this package that speaks to the cloud over the wire and shares nothing with the
// cloud's side: its requests, its signatures and its reading of answers are its own (draft_test.go, sigv4_test.go,
// fixtures/delivery).
//
// Every attack on a request says what the caller may learn and for which typed reason the operator finds it refused
// with 'cloudtwin explain'; every record of the cloud is as it was, and a load balancer beside it goes on serving. Its
// control is the same request with the one altered thing put right, which is granted (attack_test.go).
//
// registry_test.go has the list of threats. The labels that begin with "guard-" name the check that a spec leans on:
// e2e/threats/mutate takes each check out of the program in turn and demands that one of its specs then fails.
package threats

import (
	"context"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
)

func TestThreats(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "threats")
}

const (
	host    = "www.example.test"
	tlsPort = 8443
)

// stage is where specs attack: a cloud with its records, and in it a victim, which is a load balancer that serves, and
// two parties, whose guests the specs play.
type stage struct {
	records      *twin.Records
	cloud        *twin.Twin
	victim       *twin.Client // nil where nobody serves
	served       *twin.Certificate
	node         *twin.Impostor
	mine, theirs *party
}

// The stage of the specs that are running: the suite's, but for a container that has one of its own.
var (
	world   stage
	records *twin.Records
	cloud   *twin.Twin
)

// enter makes a stage the present one.
func enter(s stage) { world, records, cloud = s, s.records, s.cloud }

func startStage() {
	GinkgoHelper()
	s := stage{records: twin.StartRecords()}
	s.cloud = twin.StartCloud(twin.Store(s.records.URL))
	enter(s)
}

var _ = BeforeSuite(func() {
	startStage()
	if cloud.Mode == node.GuestsSim {
		makeWorld()
	}
})

// The impostor is no real node, which would tell every few seconds that it lives.
var _ = BeforeEach(func() {
	if world.node != nil {
		world.node.Stay()
	}
})

func makeWorld() {
	GinkgoHelper()
	cloud.StartNode()
	world.served = cloud.Upload(pki.P256, host)
	lb := cloud.CreateLoadBalancer(cloud.Backends(1), twin.HTTPS(tlsPort, world.served.ARN))
	world.victim = lb.Listener(tlsPort, world.served.CA, host)
	Eventually(world.victim).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	makeParties()
}

func makeParties() {
	GinkgoHelper()
	world.node = cloud.Impostor()
	world.mine, world.theirs = newParty(), newParty()
	settle()
}

// settle waits until the cloud has nothing left to do by itself, so that what a spec sees change was changed by it.
func settle() {
	GinkgoHelper()
	Eventually(records.Quiet).WithTimeout(twin.ChangeTimeout).Should(BeTrue(), "the cloud's records come to rest")
}

// party is a load balancer with an HTTPS listener, and its guest in the spec's hands.
type party struct {
	*twin.Guest
	lb   *twin.LoadBalancer
	cert *twin.Certificate
}

// newParty makes a party for the suite or the spec.
func newParty() *party {
	GinkgoHelper()
	DeferCleanup(settle) // last: what the deletions set off is over before the next spec
	world.node.Stay()
	cert := cloud.Upload(pki.P256, host)
	lb := cloud.CreateLoadBalancer(nil, twin.HTTPS(tlsPort, cert.ARN))
	return &party{Guest: world.node.LBVM(lb), lb: lb, cert: cert}
}

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = twin.CheckMode()

// background is the context of calls that have a time limit of their own.
func background() context.Context { return context.Background() }
