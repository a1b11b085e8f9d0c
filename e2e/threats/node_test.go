package threats

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// candidate is somebody who would like to be a node.
type candidate struct {
	name, token string
	key         *ecdsa.PrivateKey
	asks        string // common name of its certificate request
}

func newCandidate(name string) *candidate {
	GinkgoHelper()
	newToken() // made now, so that enrol itself writes nothing that the cloud does not
	token, err := cloud.Operator.NewNodeToken(background())
	Expect(err).NotTo(HaveOccurred())
	return &candidate{name: name, token: token, key: newECKey(), asks: name}
}

// enrol asks for a NODECERT.
func (c *candidate) enrol() (*nodelink.EnrolResponse, error) {
	GinkgoHelper()
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: c.asks}}, c.key)
	Expect(err).NotTo(HaveOccurred())
	// The pin of the cloud's CA in the token does not matter to the cloud: its own is taken.
	pin := newToken()
	conn, err := nodelink.Dial(cloud.NodeLink(), nodelink.EnrolTLS(pin))
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(background(), 10*time.Second)
	defer cancel()
	return nodelink.NewEnrolmentClient(conn).Enrol(ctx,
		&nodelink.EnrolRequest{Token: c.token, NodeId: c.name, CsrDer: csr}, grpc.WaitForReady(true))
}

var pinned nodelink.Token

// newToken is a token by which the cloud's CA is known; nobody enrols with it.
func newToken() nodelink.Token {
	GinkgoHelper()
	if pinned.ID == "" {
		text, err := cloud.Operator.NewNodeToken(background())
		Expect(err).NotTo(HaveOccurred())
		pinned, err = nodelink.ParseToken(text)
		Expect(err).NotTo(HaveOccurred())
	}
	return pinned
}

// connection calls the cloud as the holder of a certificate, nil for none.
func connection(cert *tls.Certificate) nodelink.NodeLinkClient {
	GinkgoHelper()
	config := nodelink.EnrolTLS(newToken())
	if cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := nodelink.Dial(cloud.NodeLink(), config)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(conn.Close)
	return nodelink.NewNodeLinkClient(conn)
}

func (c *candidate) pair(answer *nodelink.EnrolResponse) *tls.Certificate {
	GinkgoHelper()
	block, _ := pem.Decode(answer.GetNodeCertPem())
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: c.key}
}

// roleOf asks for an instance's role credentials.
func askRole(client nodelink.NodeLinkClient, instance string) error {
	ctx, cancel := context.WithTimeout(background(), 5*time.Second)
	defer cancel()
	_, err := client.RoleCredentials(ctx, &nodelink.RoleCredentialsRequest{InstanceId: instance})
	return err
}

// bystander is another node, to which no instance comes.
func bystander() *twin.Impostor {
	GinkgoHelper()
	second := cloud.Impostor()
	second.Claim(0)
	settle()
	return second
}

// denial finds the last event of a kind about a node.
func denial(kind, node string) map[string]string {
	GinkgoHelper()
	events, err := cloud.Events()
	Expect(err).NotTo(HaveOccurred())
	for _, ev := range slices.Backward(events) {
		if ev.Kind == kind && ev.Subject == node {
			return ev.Attributes
		}
	}
	return nil
}

var _ = Describe("A node", Label(twin.NeedsSim), func() {
	It("that asks for an instance of another gets nothing", repels(othersInstance, "owner"), func() {
		second := bystander()
		before := look()
		_, err := second.AskRoleCredentials(world.mine.InstanceID)
		Expect(status.Code(err)).To(Equal(codes.PermissionDenied))
		Expect(status.Convert(err).Message()).To(Equal("not an instance of this node"))
		Expect(denial("node.denied", second.ID())).To(And(HaveKeyWithValue("call", "RoleCredentials"),
			HaveKeyWithValue("instance", world.mine.InstanceID),
			HaveKeyWithValue("reason", "the instance is not this node's")))
		_, err = second.AskRoleCredentials("i-0123456789abcdef0")
		Expect(status.Convert(err).Message()).To(Equal("not an instance of this node"), "what tells that there is one")
		Expect(look()).To(Equal(before))
		_, err = world.node.AskRoleCredentials(world.mine.InstanceID)
		Expect(err).NotTo(HaveOccurred())
		expectGranted(world.mine, honest(world.mine))
	})

	It("that speaks of an instance of another is not believed", repels(falseNode, "report-owner"), func() {
		second := bystander()
		before := look()
		second.Tell(&nodelink.InstanceStatus{InstanceId: world.mine.InstanceID, State: "failed", Reason: "so I say",
			Milestones: []*nodelink.Milestone{{Stage: "medium-wiped", Attributes: map[string]string{"reason": "read"}}}})
		Eventually(func() map[string]string { return denial("node.report_refused", second.ID()) }).
			WithTimeout(reaction).Should(And(HaveKeyWithValue("instance", world.mine.InstanceID),
			HaveKeyWithValue("reason", "the instance is not this node's")))
		Expect(look()).To(Equal(before))
		Expect(cloud.State(background(), world.mine.InstanceID)).To(Equal("pending"))
		By("believing the instance's own node")
		p := newParty()
		world.node.Tell(&nodelink.InstanceStatus{InstanceId: p.InstanceID, State: "running"})
		Eventually(cloud.State).WithContext(background()).WithArguments(p.InstanceID).WithTimeout(reaction).
			Should(Equal("running"))
	})

	DescribeTable(
		"that was not enrolled is nobody",
		func(cert func() *tls.Certificate) {
			newToken()
			before := look()
			err := askRole(connection(cert()), world.mine.InstanceID)
			Expect(status.Code(err)).To(BeElementOf(codes.Unauthenticated, codes.Unavailable), "%v", err)
			Expect(look()).To(Equal(before))
			By("knowing one that was")
			c := newCandidate("node-of-" + strings.ToLower(world.mine.lb.Name) + "-" + hexSum(serial())[:8])
			answer, err := c.enrol()
			Expect(err).NotTo(HaveOccurred())
			Expect(status.Code(askRole(connection(c.pair(answer)), world.mine.InstanceID))).To(Equal(codes.PermissionDenied))
		},
		Entry("without a certificate", repels(falseNode), func() *tls.Certificate { return nil }),
		Entry("with a certificate of its own making", repels(falseNode, "node-ca"), func() *tls.Certificate {
			key := newECKey()
			t := &x509.Certificate{SerialNumber: template(world.mine).SerialNumber, Subject: pkix.Name{CommonName: "node-1"},
				NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day),
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
			der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
			Expect(err).NotTo(HaveOccurred())
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		}),
		Entry("with an LBCERT", repels(falseNode, "node-ca"), func() *tls.Certificate {
			block, _ := pem.Decode(world.mine.Identity.CertPEM)
			return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: privateKey(world.mine.Identity.Key)}
		}),
	)

	It("whose name has another NODECERT by now is nobody, and neither is one that is not on record", repels(falseNode,
		"node-current"), func() {
		c := newCandidate("moved")
		answer, err := c.enrol()
		Expect(err).NotTo(HaveOccurred())
		client, key := connection(c.pair(answer)), "placement-nodes/"+c.name
		// Known, and told that the instance is not its own.
		Expect(status.Convert(askRole(client, world.mine.InstanceID)).Message()).To(Equal("not an instance of this node"))
		resp, err := records.Client.Get(background(), key)
		Expect(err).NotTo(HaveOccurred())
		Expect(resp.Kvs).To(HaveLen(1))
		record := map[string]json.RawMessage{}
		Expect(json.Unmarshal(resp.Kvs[0].Value, &record)).To(Succeed())
		var version uint64
		Expect(json.Unmarshal(record["Version"], &version)).To(Succeed())
		record["Version"] = json.RawMessage(strconv.FormatUint(version+1, 10))
		block, _ := pem.Decode(world.mine.Identity.CertPEM)
		record["CertificateDER"], err = json.Marshal(block.Bytes)
		Expect(err).NotTo(HaveOccurred())
		text, err := json.Marshal(record)
		Expect(err).NotTo(HaveOccurred())
		_, err = records.Client.Put(background(), key, string(text))
		Expect(err).NotTo(HaveOccurred())
		refused := "the node's certificate is not one that is in use"
		message := func() string { return status.Convert(askRole(client, world.mine.InstanceID)).Message() }
		Eventually(message).WithTimeout(reaction).Should(Equal(refused))
		Expect(denial("node.denied", c.name)).To(HaveKeyWithValue("reason", "nodecert-replaced"))
		_, err = records.Client.Delete(background(), key)
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() map[string]string {
			Expect(message()).To(Equal(refused))
			return denial("node.denied", c.name)
		}).WithTimeout(reaction).Should(HaveKeyWithValue("reason", "node-unknown"))
	})

	It("is no caller of the API by its NODECERT", repels(falseNode), func() {
		c := newCandidate("node-at-the-api")
		answer, err := c.enrol()
		Expect(err).NotTo(HaveOccurred())
		roots := x509.NewCertPool()
		Expect(roots.AppendCertsFromPEM(answer.GetCloudCaPem())).To(BeTrue())
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots,
			Certificates: []tls.Certificate{*c.pair(answer)}, MinVersion: tls.VersionTLS12}}}
		before := look()
		d := honest(world.mine)
		resp, err := client.PostForm("https://"+world.node.Services().GetApiAddress()+"/services/Euare/", d.fields())
		Expect(err).NotTo(HaveOccurred())
		Expect(resp.Body.Close()).To(Succeed())
		Expect(resp.StatusCode).To(Equal(http.StatusForbidden))
		Expect(look()).To(Equal(before))
		expectGranted(world.mine, honest(world.mine))
	})
})

func serial() []byte { return template(world.mine).SerialNumber.Bytes() }

var _ = Describe("An enrolment", Label(twin.NeedsSim), func() {
	// refused expects that the cloud makes no node of a candidate.
	refused := func(c *candidate, code codes.Code) {
		GinkgoHelper()
		before := records.Snapshot()
		_, err := c.enrol()
		Expect(status.Code(err)).To(Equal(code), "%v", err)
		Expect(denial("node.enrolment_refused", c.name)).NotTo(BeEmpty())
		Expect(records.Snapshot()).To(Equal(before))
	}
	granted := func(c *candidate) {
		GinkgoHelper()
		_, err := c.enrol()
		Expect(err).NotTo(HaveOccurred())
	}

	It("with a token that was used is refused", repels(enrolmentForged, "token-used"), func() {
		first := newCandidate("twice-1")
		granted(first)
		second := newCandidate("twice-2")
		own := second.token
		second.token = first.token
		refused(second, codes.PermissionDenied)
		second.token = own
		granted(second)
	})

	It("with a token that was altered is refused", repels(enrolmentForged, "token-secret"), func() {
		c := newCandidate("altered")
		own := c.token
		parts := strings.Split(own, ".")
		last := parts[2][len(parts[2])-1:]
		parts[2] = parts[2][:len(parts[2])-1] + map[bool]string{true: "1", false: "0"}[last == "0"]
		c.token = strings.Join(parts, ".")
		refused(c, codes.PermissionDenied)
		c.token = "ctn1." + hexSum(serial())[:16] + "." + parts[2] + "." + parts[3]
		refused(c, codes.PermissionDenied)
		c.token = own
		granted(c)
	})

	It("with a token that has ended is refused", repels(enrolmentForged, "token-expiry"), func() {
		c := newCandidate("ended")
		key := "placement-tokens/" + strings.Split(c.token, ".")[1]
		resp, err := records.Client.Get(background(), key)
		Expect(err).NotTo(HaveOccurred())
		Expect(resp.Kvs).To(HaveLen(1))
		expires := func(at time.Time) {
			record := map[string]any{}
			Expect(json.Unmarshal(resp.Kvs[0].Value, &record)).To(Succeed())
			record["Expires"] = at
			text, err := json.Marshal(record)
			Expect(err).NotTo(HaveOccurred())
			_, err = records.Client.Put(background(), key, string(text))
			Expect(err).NotTo(HaveOccurred())
		}
		expires(time.Now().Add(-time.Second))
		refused(c, codes.PermissionDenied)
		expires(time.Now().Add(time.Minute))
		granted(c)
	})

	It("under the name of a node that there is is refused", repels(enrolmentForged, "node-exists"), func() {
		c := newCandidate("node-1")
		refused(c, codes.AlreadyExists)
		c.name, c.asks = "another-name", "another-name"
		granted(c)
	})

	It("by a request for another name is refused", repels(enrolmentForged, "csr-name"), func() {
		c := newCandidate("modest")
		c.asks = "node-1"
		refused(c, codes.InvalidArgument)
		c.asks = c.name
		granted(c)
	})
})
