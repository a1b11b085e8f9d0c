package spoof

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/spoof/station"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// guest is a station, or the load-balancer VM, with what the cloud says of it.
type guest struct {
	*station.Client
	id, role string
	ip       netip.Addr
	mac      net.HardwareAddr
	heard    []gopacket.Packet // of this spec, as far as it was asked
}

// launch starts a web guest with a role of its own.
func launch(ctx context.Context, name string, metadata *ec2types.InstanceMetadataOptionsRequest) *guest {
	GinkgoHelper()
	role := name + "-role"
	_, err := cloud.IAM.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String(role),
		AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow",` +
			`"Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}`)})
	Expect(err).NotTo(HaveOccurred())
	_, err = cloud.IAM.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(name)})
	Expect(err).NotTo(HaveOccurred())
	_, err = cloud.IAM.AddRoleToInstanceProfile(ctx,
		&iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(role)})
	Expect(err).NotTo(HaveOccurred())
	images, err := cloud.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{"web"}}}})
	Expect(err).NotTo(HaveOccurred())
	Expect(images.Images).To(HaveLen(1))
	out, err := cloud.EC2.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), MetadataOptions: metadata,
		InstanceType:       ec2types.InstanceTypeT3Micro, // the suite's own image is too large for less
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String(name)}})
	Expect(err).NotTo(HaveOccurred(), "run %s", name)
	g := &guest{id: aws.ToString(out.Instances[0].InstanceId), role: role}
	g.describe(ctx)
	g.Client = station.NewClient(func(ctx context.Context) (net.Conn, error) {
		return network.Dial(ctx, g.id, station.Port)
	})
	DeferCleanup(g.Close)
	return g
}

// describe asks the operator for the guest's address. Its card's follows from that.
func (g *guest) describe(ctx context.Context) {
	GinkgoHelper()
	status, err := cloud.Operator.Status(ctx)
	Expect(err).NotTo(HaveOccurred())
	for _, i := range status.Instances {
		if i.ID == g.id {
			g.ip, err = netip.ParseAddr(i.PrivateIP)
			Expect(err).NotTo(HaveOccurred())
			g.mac = append(net.HardwareAddr{2, 0}, g.ip.AsSlice()...)
		}
	}
	Expect(g.mac).NotTo(BeNil(), "address of %s", g.id)
}

// awaitServing returns when the guest takes orders and its card is the one that the cloud gave it.
func (g *guest) awaitServing(ctx context.Context) {
	GinkgoHelper()
	var token string
	Eventually(func(check Gomega) {
		var err error
		token, err = g.token(ctx)
		check.Expect(err).NotTo(HaveOccurred())
	}).WithTimeout(cloud.BootTimeout()).Should(Succeed(), "orders of %s", g.id)
	Expect(g.metadata(ctx, "mac", tokenHeader, token).Body).To(Equal(g.mac.String()))
	Eventually(cloud.Stage).WithContext(ctx).WithArguments(g.id).WithTimeout(cloud.BootTimeout()).Should(Equal("serving"))
}

// hear takes in the frames that have come to the guest.
func (g *guest) hear(ctx context.Context) {
	GinkgoHelper()
	h, err := g.Heard(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(h.Lost).To(BeZero(), "frames that %s had no room for", g.role)
	for _, frame := range h.Frames {
		g.heard = append(g.heard, gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy))
	}
}

// awaitFrame returns when the guest has heard what it is asked for.
func (g *guest) awaitFrame(ctx context.Context, what string, is func(gopacket.Packet) bool) {
	GinkgoHelper()
	Eventually(func(check Gomega) {
		g.hear(ctx)
		check.Expect(g.has(is)).To(BeTrue())
	}).WithTimeout(twin.ChangeTimeout).Should(Succeed(), "%s heard by %s", what, g.role)
}

func (g *guest) has(is func(gopacket.Packet) bool) bool {
	for _, p := range g.heard {
		if is(p) {
			return true
		}
	}
	return false
}

// overheard tells the frames that are not for the guest, or that hold the victim's words.
func (g *guest) overheard() []string {
	var found []string
	for _, p := range g.heard {
		ether, _ := p.LinkLayer().(*layers.Ethernet)
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		arp, isARP := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		own := ether != nil && ether.DstMAC.String() == g.mac.String() &&
			(isIP && (ip.DstIP.Equal(g.ip.AsSlice()) || ip.DstIP.Equal(net.IPv4bcast)) ||
				isARP && net.IP(arp.DstProtAddress).Equal(g.ip.AsSlice()))
		if !own || strings.Contains(string(p.Data()), secret) {
			found = append(found, p.String())
		}
	}
	return found
}

// secret is in each request of the victim.
const secret = "words-of-the-victim"

// traffic is requests without end.
type traffic struct {
	mu   sync.Mutex
	good int
	bad  []string
}

// startTraffic makes a request every so often until the suite ends. n counts them.
func startTraffic(every time.Duration, request func(ctx context.Context, n int) error) *traffic {
	t := &traffic{}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		pace := time.NewTicker(every)
		defer pace.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			t.note(n, request(context.WithoutCancel(ctx), n))
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	})
	DeferCleanup(func() {
		cancel()
		work.Wait()
	})
	return t
}

// words has the victim ask the server for a page, with its secret in the request.
func words(ctx context.Context, n int) error {
	path := fmt.Sprintf("/%s/%d", secret, n)
	a, err := victim.Ask(ctx, station.Question{Method: "GET", URL: "http://" + server.ip.String() + path})
	if err == nil && (a.Status != 200 || !strings.Contains(a.Body, path)) {
		err = fmt.Errorf("status %d, %s", a.Status, a.Error)
	}
	return err
}

func (t *traffic) note(n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.good++
		return
	}
	t.bad = append(t.bad, fmt.Sprint("request ", n, ": ", err))
}

func (t *traffic) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.good
}

func (t *traffic) failures() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bad
}
