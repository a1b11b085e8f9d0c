package badinput

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// upload asks to keep a certificate that is right.
func upload() call {
	GinkgoHelper()
	ca, err := pki.NewAuthority("a CA")
	Expect(err).NotTo(HaveOccurred())
	pair, err := ca.Server(pki.P256, host)
	Expect(err).NotTo(HaveOccurred())
	return ask(iamService, "UploadServerCertificate", "ServerCertificateName", "new", "CertificateBody",
		string(pair.CertPEM), "PrivateKey", string(pair.KeyPEM), "CertificateChain", string(ca.PEM))
}

// selfSigned asks to keep a self-signed certificate of a key.
func selfSigned(key crypto.Signer, from, to time.Time) call {
	GinkgoHelper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, NotBefore: from,
		NotAfter: to, DNSNames: []string{host}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	private, err := x509.MarshalPKCS8PrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	return upload().without("CertificateChain").with("CertificateBody", encode("CERTIFICATE", der), "PrivateKey",
		encode("PRIVATE KEY", private))
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func rsaKey(bits int) *rsa.PrivateKey {
	GinkgoHelper()
	GinkgoT().Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	Expect(err).NotTo(HaveOccurred())
	return key
}

func ecKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	return key
}

// fieldOf takes a parameter out of another upload.
func fieldOf(name string) string { return upload().form.Get(name) }

var _ = Describe("A server certificate", func() {
	const day = 24 * time.Hour
	DescribeTable(
		"that cannot be kept is refused",
		func(spoil func() call, code, says string) {
			status := 400
			if code == "EntityAlreadyExists" {
				status = 409
			}
			expectRefused(spoil(), status, code, says)
		},
		Entry("no PEM", func() call { return upload().with("CertificateBody", "certificate") }, "MalformedCertificate",
			"CertificateBody"),
		Entry("PEM around nothing", func() call {
			return upload().with("CertificateBody", encode("CERTIFICATE", []byte("nothing")))
		}, "MalformedCertificate", "CertificateBody"),
		Entry("cut short", func() call {
			return upload().with("CertificateBody", fieldOf("CertificateBody")[:200])
		}, "MalformedCertificate", "CertificateBody"),
		Entry("bytes", func() call { return upload().with("CertificateBody", "\x00\x01\xff") }, "ValidationError",
			"certificateBody"),
		Entry("two", func() call {
			return upload().with("CertificateBody", fieldOf("CertificateBody")+fieldOf("CertificateBody"))
		}, "MalformedCertificate", "CertificateChain"),
		Entry("a key in its place", func() call { return upload().with("CertificateBody", fieldOf("PrivateKey")) },
			"MalformedCertificate", "CertificateBody"),
		Entry("key no PEM", func() call { return upload().with("PrivateKey", "key") }, "MalformedCertificate", "PrivateKey"),
		Entry("key PEM around nothing", func() call {
			return upload().with("PrivateKey", encode("PRIVATE KEY", []byte("nothing")))
		}, "MalformedCertificate", "PrivateKey"),
		Entry("key with a passphrase", func() call {
			return upload().with("PrivateKey", encode("ENCRYPTED PRIVATE KEY", []byte("sealed")))
		}, "MalformedCertificate", "passphrase"),
		Entry("another's key", func() call { return upload().with("PrivateKey", fieldOf("PrivateKey")) }, "KeyPairMismatch",
			"PrivateKey"),
		Entry("chain of another CA", func() call { return upload().with("CertificateChain", fieldOf("CertificateChain")) },
			"MalformedCertificate", "CertificateChain"),
		Entry("chain no PEM", func() call { return upload().with("CertificateChain", "chain") }, "MalformedCertificate",
			"CertificateChain"),
		Entry("chain out of order", func() call {
			c := upload()
			return c.with("CertificateChain", fieldOf("CertificateChain")+c.form.Get("CertificateChain"))
		}, "MalformedCertificate", "CertificateChain"),
		Entry("RSA of 1024 bits", func() call { return selfSigned(rsaKey(1024), time.Now(), time.Now().Add(day)) },
			"MalformedCertificate", "RSA keys must have 2048"),
		Entry("P-521", func() call { return selfSigned(ecKey(elliptic.P521()), time.Now(), time.Now().Add(day)) },
			"MalformedCertificate", "P-256 or P-384"),
		Entry("Ed25519", func() call {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			Expect(err).NotTo(HaveOccurred())
			return selfSigned(key, time.Now(), time.Now().Add(day))
		}, "MalformedCertificate", "P-256 or P-384"),
		Entry("expired", func() call {
			return selfSigned(ecKey(elliptic.P256()), time.Now().Add(-2*day), time.Now().Add(-day))
		}, "InvalidInput", "CertificateBody"),
		Entry("not valid yet", func() call {
			return selfSigned(ecKey(elliptic.P256()), time.Now().Add(day), time.Now().Add(2*day))
		}, "InvalidInput", "CertificateBody"),
		Entry("longer than any", func() call {
			return upload().with("CertificateBody", string(bytes.Repeat([]byte("x"), 20_000)))
		}, "ValidationError", "certificateBody"),
		Entry("name in use", func() call { return upload().with("ServerCertificateName", freeCert) }, "EntityAlreadyExists",
			freeCert),
		Entry("name in use, in another case", func() call {
			return upload().with("ServerCertificateName", strings.ToUpper(freeCert))
		}, "EntityAlreadyExists", strings.ToUpper(freeCert)),
		Entry("name in use, under another path", func() call {
			return upload().with("ServerCertificateName", freeCert, "Path", "/path/")
		}, "EntityAlreadyExists", freeCert),
		Entry("no name", func() call { return upload().with("ServerCertificateName", "") }, "ValidationError",
			"serverCertificateName"),
		Entry("name too long", func() call { return upload().with("ServerCertificateName", strings.Repeat("n", 129)) },
			"ValidationError", "serverCertificateName"),
		Entry("name with a space", func() call { return upload().with("ServerCertificateName", "a b") }, "ValidationError",
			"serverCertificateName"),
		Entry("name with a slash", func() call { return upload().with("ServerCertificateName", "a/b") }, "ValidationError",
			"serverCertificateName"),
		Entry("name with an underscore", func() call { return upload().with("ServerCertificateName", "a_b") },
			"ValidationError", "serverCertificateName"),
		Entry("name with an umlaut", func() call { return upload().with("ServerCertificateName", "zertifikät") },
			"ValidationError", "serverCertificateName"),
		Entry("name with a line", func() call { return upload().with("ServerCertificateName", "a\n") },
			"ValidationError", "serverCertificateName"),
		Entry("path without slashes", func() call { return upload().with("Path", "path") }, "ValidationError", "path"),
	)

	DescribeTable(
		"that is there is left alone",
		expectRefused,
		Entry("renamed to a name in use", ask(iamService, "UpdateServerCertificate", "ServerCertificateName", freeCert,
			"NewServerCertificateName", usedCert), 409, "EntityAlreadyExists", usedCert),
		Entry("renamed to a bad name", ask(iamService, "UpdateServerCertificate", "ServerCertificateName", freeCert,
			"NewServerCertificateName", "a b"), 400, "ValidationError", "newServerCertificateName"),
		Entry("deleted while a listener names it", ask(iamService, "DeleteServerCertificate", "ServerCertificateName",
			usedCert), 409, "DeleteConflict", aBalancer),
		Entry("another deleted", ask(iamService, "DeleteServerCertificate", "ServerCertificateName", "nowhere"), 404,
			"NoSuchEntity", "nowhere"),
		Entry("another renamed", ask(iamService, "UpdateServerCertificate", "ServerCertificateName", "nowhere",
			"NewServerCertificateName", "new"), 404, "NoSuchEntity", "nowhere"),
		Entry("another asked for", ask(iamService, "GetServerCertificate", "ServerCertificateName", "nowhere"), 404,
			"NoSuchEntity", "nowhere"),
	)
})

var _ = Describe("A user", func() {
	DescribeTable(
		"that cannot be kept is refused",
		expectRefused,
		Entry("name in use", ask(iamService, "CreateUser", "UserName", aUser), 409, "EntityAlreadyExists", aUser),
		Entry("name in use, in another case", ask(iamService, "CreateUser", "UserName", strings.ToUpper(aUser)), 409,
			"EntityAlreadyExists", strings.ToUpper(aUser)),
		Entry("no name", ask(iamService, "CreateUser", "UserName", ""), 400, "ValidationError", "userName"),
		Entry("name with a space", ask(iamService, "CreateUser", "UserName", "a b"), 400, "ValidationError", "userName"),
		Entry("name too long", ask(iamService, "CreateUser", "UserName", strings.Repeat("n", 65)), 400, "ValidationError",
			"userName"),
		Entry("path", ask(iamService, "CreateUser", "UserName", "new", "Path", "p"), 400, "ValidationError", "path"),
		Entry("tag without a value", ask(iamService, "CreateUser", "UserName", "new", "Tags.member.1.Key", "k"), 400,
			"ValidationError", "value"),
		Entry("another deleted", ask(iamService, "DeleteUser", "UserName", "nowhere"), 404, "NoSuchEntity", "nowhere"),
		Entry("another's key", ask(iamService, "CreateAccessKey", "UserName", "nowhere"), 404, "NoSuchEntity", "nowhere"),
		Entry("policy that is no JSON", ask(iamService, "PutUserPolicy", "UserName", aUser, "PolicyName", "p",
			"PolicyDocument", "{"), 400, "MalformedPolicyDocument", ""),
		Entry("policy with an unknown element", ask(iamService, "PutUserPolicy", "UserName", aUser, "PolicyName", "p",
			"PolicyDocument", `{"Version":"2012-10-17","Statement":[{"Effect":"Perhaps","Action":"*","Resource":"*"}]}`), 400,
			"MalformedPolicyDocument", "Effect"),
		Entry("role that trusts nobody", ask(iamService, "CreateRole", "RoleName", "new", "AssumeRolePolicyDocument",
			"nobody"), 400, "MalformedPolicyDocument", ""),
	)
})
