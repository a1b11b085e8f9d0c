package threats

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

const day = 24 * time.Hour

// issuer signs LBCERTs: IAMCERT with IAMPK, or somebody who would like to be it.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// stolen is the cloud's own IAMCERT with IAMPK, from the store with the root key: what it signs shows each rule of
// LBCERTs by itself.
func stolen() issuer { return stolenFrom(cloud, records, "authority") }

func stolenFrom(cloud *twin.Twin, records *twin.Records, name string) issuer {
	GinkgoHelper()
	resp, err := records.Client.Get(background(), "iam-keys/"+name)
	Expect(err).NotTo(HaveOccurred())
	Expect(resp.Kvs).To(HaveLen(1))
	var record struct{ CertPEM, Sealed string }
	Expect(json.Unmarshal(resp.Kvs[0].Value, &record)).To(Succeed())
	root, err := os.ReadFile(filepath.Join(cloud.StateDir, "cloud", "root.key"))
	Expect(err).NotTo(HaveOccurred())
	sealed, err := jose.ParseEncryptedCompact(record.Sealed, []jose.KeyAlgorithm{jose.DIRECT},
		[]jose.ContentEncryption{jose.A256GCM})
	Expect(err).NotTo(HaveOccurred())
	text, err := sealed.Decrypt(root)
	Expect(err).NotTo(HaveOccurred())
	block, _ := pem.Decode([]byte(record.CertPEM))
	cert, err := x509.ParseCertificate(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return issuer{cert, privateKey(text)}
}

// impostor is somebody with IAMCERT's name and another key.
func impostor() issuer {
	GinkgoHelper()
	was := stolen().cert
	key := newECKey()
	template := &x509.Certificate{SerialNumber: was.SerialNumber, Subject: was.Subject, NotBefore: was.NotBefore,
		NotAfter: was.NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: was.KeyUsage,
		SubjectKeyId: was.SubjectKeyId}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	cert, err := x509.ParseCertificate(der)
	Expect(err).NotTo(HaveOccurred())
	return issuer{cert, key}
}

// template is an LBCERT of a party's instance as the cloud makes it, under another serial number.
func template(p *party) *x509.Certificate {
	GinkgoHelper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	Expect(err).NotTo(HaveOccurred())
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: p.InstanceID},
		NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func (i issuer) sign(t *x509.Certificate, public crypto.PublicKey) []byte {
	GinkgoHelper()
	der, err := x509.CreateCertificate(rand.Reader, t, i.cert, public, i.key)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// bears gives a draft an LBCERT that an issuer signed, altered, and its LBPK.
func bears(by func() issuer, alter func(*x509.Certificate)) change {
	return func(d *draft) {
		t := template(world.mine)
		// The serial number of the instance's own: what knows LBCERTs by it finds nothing wrong with this one.
		block, _ := pem.Decode(d.cert)
		own, err := x509.ParseCertificate(block.Bytes)
		Expect(err).NotTo(HaveOccurred())
		t.SerialNumber = own.SerialNumber
		alter(t)
		d.cert = by().sign(t, d.key.Public())
	}
}

func unaltered(*x509.Certificate) {}

var _ = Describe("An LBCERT", Label(twin.NeedsSim), func() {
	DescribeTable(
		"that is not the cloud's for the instance is refused",
		expectRepelled,
		Entry("self-signed", repels(certSelfSigned, "issuer"), change(func(d *draft) {
			t := template(world.mine)
			d.cert = issuer{t, d.key}.sign(t, d.key.Public())
		}), nil, because(keydelivery.ReasonIssuer)),
		Entry("signed by another key under IAMCERT's name and serial number", repels(certIssuer, "issuer"),
			bears(impostor, unaltered), nil, because(keydelivery.ReasonIssuer)),
		Entry("signed by another LBCERT", repels(certIssuer, "issuer"), change(func(d *draft) {
			block, _ := pem.Decode(world.theirs.Identity.CertPEM)
			cert, err := x509.ParseCertificate(block.Bytes)
			Expect(err).NotTo(HaveOccurred())
			d.cert = issuer{cert, privateKey(world.theirs.Identity.Key)}.sign(template(world.mine), d.key.Public())
		}), nil, because(keydelivery.ReasonIssuer)),
		Entry("CA:TRUE", repels(certCA, "kind-ca"), bears(stolen, func(t *x509.Certificate) {
			t.IsCA = true
		}), nil, because(keydelivery.ReasonCertificateKind)),
		Entry("IAMCERT itself", repels(certCA, "kind-ca"), change(func(d *draft) {
			iam := stolen()
			d.key, d.cert = iam.key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: iam.cert.Raw})
		}), nil, because(keydelivery.ReasonCertificateKind)),
		Entry("without constraints", repels(certOtherwise, "kind-constraints"), bears(stolen, func(t *x509.Certificate) {
			t.BasicConstraintsValid = false
		}), nil, because(keydelivery.ReasonCertificateKind)),
		Entry("for servers", repels(certOtherwise, "kind-extended"), bears(stolen, func(t *x509.Certificate) {
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), nil, because(keydelivery.ReasonCertificateKind)),
		Entry("not for signatures", repels(certOtherwise, "kind-usage"), bears(stolen, func(t *x509.Certificate) {
			t.KeyUsage = x509.KeyUsageKeyEncipherment
		}), nil, because(keydelivery.ReasonCertificateKind)),
		Entry("that ended a minute ago", repels(certExpired, "validity-end"), bears(stolen, func(t *x509.Certificate) {
			t.NotAfter = time.Now().Add(-time.Minute)
		}), nil, because(keydelivery.ReasonValidity)),
		Entry("that begins in a minute", repels(certExpired, "validity-begin"), bears(stolen, func(t *x509.Certificate) {
			t.NotBefore = time.Now().Add(time.Minute)
		}), nil, because(keydelivery.ReasonValidity)),
		Entry("of another instance", repels(anotherLBCert, "instance"), bears(stolen, func(t *x509.Certificate) {
			t.Subject.CommonName = "i-0123456789abcdef0"
		}), nil, refusal{403, "NotAuthorized", string(keydelivery.ReasonRevoked), "check 3 of 9"}),
		Entry("that IAMPK signed and the cloud never gave to the instance", repels(certRevoked, "revoked"),
			bears(stolen, func(t *x509.Certificate) { t.SerialNumber = template(world.mine).SerialNumber }), nil,
			because(keydelivery.ReasonRevoked)),
		Entry("with an RSA key", repels(certOtherwise, "key-kind"), change(func(d *draft) {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			Expect(err).NotTo(HaveOccurred())
			d.key, d.cert = key, stolen().sign(template(world.mine), key.Public())
		}), nil, because(keydelivery.ReasonCertificateMalformed)),
	)

	DescribeTable(
		"that cannot be read is refused",
		expectRepelled,
		Entry("two of them", repels(certOtherwise), change(func(d *draft) { d.cert = bytes.Repeat(d.cert, 2) }), nil,
			because(keydelivery.ReasonCertificateMalformed)),
		Entry("no PEM", repels(certOtherwise), change(func(d *draft) { d.cert = []byte("LBCERT") }), nil,
			because(keydelivery.ReasonCertificateMalformed)),
		Entry("cut short", repels(certOtherwise), change(func(d *draft) { d.cert = d.cert[:len(d.cert)/2] }), nil,
			because(keydelivery.ReasonCertificateMalformed)),
		Entry("a key in its place", repels(certOtherwise), change(func(d *draft) { d.cert = world.mine.Identity.Key }), nil,
			because(keydelivery.ReasonCertificateMalformed)),
		Entry("PEM around nothing", repels(certOtherwise), change(func(d *draft) {
			d.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nothing")})
		}), nil, because(keydelivery.ReasonCertificateMalformed)),
		Entry("no base64", repels(certOtherwise), set("DelegationCertificate", is("%%%")), nil,
			because(keydelivery.ReasonCertificateMalformed)),
		Entry("longer than any", repels(oversize), change(func(d *draft) { d.cert = bytes.Repeat(d.cert, 200) }), nil,
			because(keydelivery.ReasonMalformed)),
	)

	It("of an instance that has ended is refused, with a role that goes on", repels(certRevoked, "revoked",
		"owner-live"), func() {
		p := newParty()
		expectGranted(p, honest(p))
		ended := p.InstanceID
		world.node.Tell(&nodelink.InstanceStatus{InstanceId: ended, State: "stopped", Reason: "taken away"})
		Eventually(cloud.State).WithContext(background()).WithArguments(ended).WithTimeout(twin.ChangeTimeout).
			Should(Equal("terminated"))
		By("granting the key to the guest that has taken its place")
		var next *twin.Guest
		Eventually(func(g Gomega) {
			now, err := p.lb.Status(background())
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(now.Instances).NotTo(BeEmpty())
			g.Expect(now.Instances[0]).NotTo(Equal(ended))
			g.Expect(world.node.Instances()).To(HaveKey(now.Instances[0]))
		}).WithTimeout(twin.ChangeTimeout).Should(Succeed())
		next = world.node.LBVM(p.lb)
		successor := &party{Guest: next, lb: p.lb, cert: p.cert}
		expectGranted(successor, honest(successor))
		settle()
		expectRefused(honest(p), because(keydelivery.ReasonRevoked))
		By("giving its node no more role credentials for it, but for the one that lives")
		_, err := world.node.AskRoleCredentials(ended)
		Expect(status.Code(err)).To(Equal(codes.PermissionDenied))
		Expect(denial("node.denied", world.node.ID())).To(HaveKeyWithValue("reason", "the instance has ended"))
		_, err = world.node.AskRoleCredentials(next.InstanceID)
		Expect(err).NotTo(HaveOccurred())
	})
})
