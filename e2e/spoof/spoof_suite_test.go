// Package spoof lets a real guest try on the wire what no guest may: it sends raw frames as somebody else, and gets
// neither another guest's traffic nor its role's credentials. Everything goes through the kernel's packet sockets of a
// QEMU guest (package station), so that nothing between a guest's driver and the node is left out; node/vnet's own
// tests have the same table without a machine.
//
// forged_test.go has the frames, metadata_test.go what concerns the metadata service, operator_test.go what the
// operator sees. All specs share one attacker, one victim, whose traffic goes on all the time, one web server and one
// load-balancer VM.
package spoof

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/vnet"
)

func TestSpoof(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "spoof")
}

const (
	host = "www.example.test"
	port = 8443
)

var (
	cloud   *twin.Twin
	network *vnet.Network
	// attacker is an ordinary guest. victim's metadata service wants tokens. server answers the victim; its tokens
	// travel three hops.
	attacker, victim, server *guest
	// balancer is the load-balancer VM, whose role can fetch a key.
	balancer *guest
	// steady is what the victim asks the server, balanced what clients outside ask the load balancer.
	steady, balanced *traffic
)

var _ = twin.CheckMode()

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = BeforeSuite(func(ctx context.Context) {
	const first = "github.com/cloudtwin/cloudtwin/e2e/spoof/guest"
	images := twin.BuildImages(map[string]string{"lbvm": first, "web": first})
	cloud = twin.StartCloud(twin.Guests(node.GuestsCold), twin.Images(images))
	network = cloud.StartNodeHere("").Network()
	cert := cloud.Upload(pki.P256, host)

	attacker = launch(ctx, "attacker", nil)
	victim = launch(ctx, "victim", &ec2types.InstanceMetadataOptionsRequest{HttpTokens: ec2types.HttpTokensStateRequired})
	server = launch(ctx, "server", &ec2types.InstanceMetadataOptionsRequest{
		HttpTokens: ec2types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(3)})
	lb := cloud.CreateLoadBalancer([]string{server.id}, twin.HTTPS(port, cert.ARN))
	client := lb.Listener(port, cert.CA, host)
	Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.PresentCertificate(cert))
	balancer = &guest{id: lb.Machine().ID}
	balancer.describe(ctx)
	for _, g := range []*guest{attacker, victim, server} {
		g.awaitServing(ctx)
	}
	Eventually(client).WithTimeout(cloud.BootTimeout()).Should(twin.BeServing())
	steady = startTraffic(20*time.Millisecond, words)
	balanced = startTraffic(500*time.Millisecond, func(ctx context.Context, _ int) error {
		_, err := client.Get(ctx, "/")
		return err
	})
})

// What a spec tries changes nothing for the others: the victim's requests are answered, all of them and still, and so
// are those through the load balancer.
var _ = BeforeEach(func(ctx context.Context) {
	for _, g := range []*guest{attacker, victim} {
		g.hear(ctx)
		g.heard = nil
	}
})

var _ = JustAfterEach(func(ctx context.Context) {
	if CurrentSpecReport().Failed() {
		return
	}
	done := steady.count()
	Eventually(steady.count).WithTimeout(twin.ChangeTimeout).Should(BeNumerically(">", done), "the victim's requests")
	Expect(steady.failures()).To(BeEmpty(), "requests of the victim that failed")
	Expect(balanced.failures()).To(BeEmpty(), "requests through the load balancer that failed")
	attacker.hear(ctx)
	Expect(attacker.overheard()).To(BeEmpty(), "frames that the attacker got and that are none of its own")
})
