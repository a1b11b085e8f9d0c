package threats

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/go-jose/go-jose/v4"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

func parse(der []byte) *x509.Certificate {
	GinkgoHelper()
	cert, err := x509.ParseCertificate(der)
	Expect(err).NotTo(HaveOccurred())
	return cert
}

func marshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func addListener(p *party, port int32, arn string) {
	GinkgoHelper()
	_, err := cloud.ELB.CreateLoadBalancerListeners(background(), &elb.CreateLoadBalancerListenersInput{
		LoadBalancerName: aws.String(p.lb.Name), Listeners: []elbtypes.Listener{twin.HTTPS(port, arn)}})
	Expect(err).NotTo(HaveOccurred())
}

// sealTo seals a text as the protocol says, with the words of its protected header.
func sealTo(to crypto.PublicKey, words map[string]string, text []byte) string {
	GinkgoHelper()
	extra := map[jose.HeaderKey]any{}
	for name, value := range words {
		extra[jose.HeaderKey(name)] = value
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: to},
		&jose.EncrypterOptions{ExtraHeaders: extra})
	Expect(err).NotTo(HaveOccurred())
	object, err := encrypter.Encrypt(text)
	Expect(err).NotTo(HaveOccurred())
	out, err := object.CompactSerialize()
	Expect(err).NotTo(HaveOccurred())
	return out
}

// credential is what the cloud's record of an instance has for its node.
type credential struct {
	SealedKey, SealedCert string
	IAMCertPEM            []byte
	Profile               int
}

// scene is an instance whose credential is about to be sent to its node, by whoever can write the cloud's records.
type scene struct {
	id, node string
	nodeCert crypto.PublicKey
	by       issuer
}

// seal makes a credential of its own for the instance, sealed to the node's NODECERT with these words in the headers.
func (s scene) seal(node, instance, keyPurpose, certPurpose string) credential {
	GinkgoHelper()
	key := newECKey()
	text, err := marshalKey(key)
	Expect(err).NotTo(HaveOccurred())
	lbCert := s.by.sign(template(&party{Guest: &twin.Guest{InstanceID: s.id}}), key.Public())
	words := func(purpose string) map[string]string {
		return map[string]string{"purpose": purpose, "node": node, "instance": instance}
	}
	return credential{SealedKey: sealTo(s.nodeCert, words(keyPurpose), text),
		SealedCert: sealTo(s.nodeCert, words(certPurpose), lbCert), Profile: 2,
		IAMCertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.by.cert.Raw})}
}

var _ = Describe("A credential", Label(twin.NeedsSim), Ordered, func() {
	var (
		own   *twin.Twin
		store *twin.Records
	)
	twin.KeepEvidence(func() *twin.Twin { return own })

	BeforeAll(func() {
		store = twin.StartRecords()
		own = twin.StartCloud(twin.Store(store.URL))
		own.StartNode()
	})

	// change rewrites the credential in an instance's record.
	change := func(id string, to func(credential) credential) {
		GinkgoHelper()
		key := "ec2-instances/" + id
		resp, err := store.Client.Get(background(), key)
		Expect(err).NotTo(HaveOccurred())
		Expect(resp.Kvs).To(HaveLen(1))
		record := map[string]json.RawMessage{}
		Expect(json.Unmarshal(resp.Kvs[0].Value, &record)).To(Succeed())
		var was credential
		Expect(json.Unmarshal(record["Credential"], &was)).To(Succeed())
		record["Credential"], err = json.Marshal(to(was))
		Expect(err).NotTo(HaveOccurred())
		// A newer record, as the cloud counts them.
		var version uint64
		Expect(json.Unmarshal(record["Version"], &version)).To(Succeed())
		record["Version"] = json.RawMessage(strconv.FormatUint(version+1, 10))
		text, err := json.Marshal(record)
		Expect(err).NotTo(HaveOccurred())
		_, err = store.Client.Put(background(), key, string(text))
		Expect(err).NotTo(HaveOccurred())
	}
	// launch makes a load balancer whose LBVM waits for its node to come back.
	launch := func() (lb *twin.LoadBalancer, cert *twin.Certificate, id string) {
		GinkgoHelper()
		cert = own.Upload(pki.P256, host)
		lb = own.CreateLoadBalancer(nil, twin.HTTPS(tlsPort, cert.ARN))
		Eventually(func(g Gomega) {
			status, err := lb.Status(background())
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status.Instances).To(HaveLen(1))
			id = status.Instances[0]
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
		return lb, cert, id
	}
	sceneOf := func(id string) scene {
		GinkgoHelper()
		text, err := os.ReadFile(filepath.Join(own.NodeDir(), "node", "node.crt"))
		Expect(err).NotTo(HaveOccurred())
		return scene{id: id, node: "node-1", nodeCert: publicOf(text), by: stolenFrom(own, store, "authority")}
	}
	reasonOf := func(id string) string {
		GinkgoHelper()
		events, err := own.Events()
		Expect(err).NotTo(HaveOccurred())
		reason := ""
		for _, ev := range events {
			if ev.Subject == id {
				reason += ev.Attributes["reason"] + " "
			}
		}
		return reason
	}
	stages := func(id string) []string {
		GinkgoHelper()
		told, err := own.EventsOf("guest.milestone", id)
		Expect(err).NotTo(HaveOccurred())
		var stages []string
		for _, ev := range told {
			stages = append(stages, ev.Attributes["stage"])
		}
		return stages
	}

	DescribeTable(
		"that was not sealed for the node and the instance is refused by the node",
		func(forge func(s scene, was credential) credential) {
			own.KillNode()
			lb, cert, id := launch()
			change(id, func(was credential) credential { return forge(sceneOf(id), was) })
			own.StartNode()
			Eventually(own.State).WithContext(background()).WithArguments(id).WithTimeout(reaction).
				Should(Equal("terminated"))
			Expect(reasonOf(id)).To(ContainSubstring("credential of " + id))
			Expect(reasonOf(id)).To(ContainSubstring("cannot be opened"))
			Expect(stages(id)).NotTo(ContainElement("medium-read"), "life of the guest")
			Expect(deliveries(own, id)).To(BeZero())
			By("serving with the guest that comes in its place, whose credential nobody touched")
			Eventually(lb.Listener(tlsPort, cert.CA, host)).WithTimeout(own.BootTimeout()).
				Should(twin.PresentCertificate(cert))
		},
		Entry("for another node", repels(sealedForNode, "binding"), func(s scene, _ credential) credential {
			return s.seal("node-2", s.id, "lbpk", "lbcert")
		}),
		Entry("for another instance", repels(sealedForInstance, "binding"), func(s scene, _ credential) credential {
			return s.seal(s.node, "i-0123456789abcdef0", "lbpk", "lbcert")
		}),
		Entry("to another node's key", repels(sealedForNode), func(s scene, _ credential) credential {
			s.nodeCert = newECKey().Public()
			return s.seal(s.node, s.id, "lbpk", "lbcert")
		}),
		Entry("with key and certificate in each other's place", repels(sealedForInstance),
			func(_ scene, was credential) credential {
				was.SealedKey, was.SealedCert = was.SealedCert, was.SealedKey
				return was
			}),
		Entry("altered", repels(sealedForInstance), func(_ scene, was credential) credential {
			was.SealedKey = flip(was.SealedKey, len(was.SealedKey)-10)
			return was
		}),
	)

	It("of another LBVM of the node is refused by the node", repels(sealedForInstance, "binding"), func() {
		own.KillNode()
		first, cert1, id1 := launch()
		second, cert2, id2 := launch()
		var of1, of2 credential
		change(id1, func(was credential) credential { of1 = was; return was })
		change(id2, func(was credential) credential { of2 = was; return of1 })
		change(id1, func(credential) credential { return of2 })
		own.StartNode()
		for _, id := range []string{id1, id2} {
			Eventually(own.State).WithContext(background()).WithArguments(id).WithTimeout(reaction).
				Should(Equal("terminated"))
			Expect(reasonOf(id)).To(ContainSubstring("cannot be opened"))
			Expect(deliveries(own, id)).To(BeZero())
		}
		Eventually(first.Listener(tlsPort, cert1.CA, host)).WithTimeout(own.BootTimeout()).
			Should(twin.PresentCertificate(cert1))
		Eventually(second.Listener(tlsPort, cert2.CA, host)).WithTimeout(own.BootTimeout()).
			Should(twin.PresentCertificate(cert2))
	})

	It("that was made like those but with the right words is taken, so it is the words that count", func() {
		own.KillNode()
		_, _, id := launch()
		change(id, func(credential) credential {
			s := sceneOf(id)
			return s.seal(s.node, s.id, "lbpk", "lbcert")
		})
		own.StartNode()
		Eventually(stages).WithArguments(id).WithTimeout(own.BootTimeout()).Should(ContainElement("medium-read"))
		Expect(strings.Contains(reasonOf(id), "cannot be opened")).To(BeFalse())
	})
})
