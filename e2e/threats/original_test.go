package threats

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// rsaOf is a party's LBPK in profile 1.
func rsaOf(p *party) *rsa.PrivateKey { return privateKey(p.Identity.Key).(*rsa.PrivateKey) }

// wrapped is a USERPK as profile 1 has it, with one thing wrong: what stands for the session key under LBPK, and the
// text in CBC with its padding.
func wrapped(to *rsa.PublicKey, session []byte, text []byte) string {
	GinkgoHelper()
	key, err := rsa.EncryptPKCS1v15(rand.Reader, to, session) //nolint:staticcheck // what the protocol says
	Expect(err).NotTo(HaveOccurred())
	return base64.StdEncoding.EncodeToString(key) + "\n" + base64.StdEncoding.EncodeToString(inCBC(session, text))
}

func inCBC(session, text []byte) []byte {
	GinkgoHelper()
	if len(session) != 32 {
		session = make([]byte, 32)
	}
	block, err := aes.NewCipher(session)
	Expect(err).NotTo(HaveOccurred())
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	out := make([]byte, len(text)/aes.BlockSize*aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, text[:len(out)])
	return append(iv, out...)
}

// padded is a text with PKCS#7's padding, the last byte of which is last when that is not 0.
func padded(text string, last byte) []byte {
	n := aes.BlockSize - len(text)%aes.BlockSize
	out := append([]byte(text), strings.Repeat(string(rune(n)), n)...)
	if last != 0 {
		out[len(out)-1] = last
	}
	return out
}

var _ = Describe("In profile 1", Label(twin.NeedsSim), Ordered, func() {
	var suites stage

	BeforeAll(func() {
		suites = stage{}
		before := world
		dir := GinkgoT().TempDir()
		Expect(local.Register(dir, "lbvm", local.Registration{DeliveryProfile: keydelivery.Profile1})).To(Succeed())
		GinkgoT().Setenv("CLOUDTWIN_IMAGES", dir)
		DeferCleanup(func() { enter(before) })
		startStage()
		makeParties()
		suites = world
	})
	BeforeEach(func() { Expect(world).To(Equal(suites)) })

	DescribeTable(
		"a request is refused",
		expectRepelled,
		Entry("with another ARN", repels(alteredARN, "signature"),
			set("CertificateArn", func(string) string { return world.theirs.cert.ARN }), nil,
			because(keydelivery.ReasonSignature)),
		Entry("with another timestamp", repels(alteredTimestamp, "signature"), set("Timestamp", later), nil,
			because(keydelivery.ReasonSignature)),
		Entry("11 minutes old", repels(stale, "timestamp-old"), signedAt(-11*time.Minute), signedAt(-9*time.Minute),
			because(keydelivery.ReasonTimestamp)),
		Entry("of another LBVM with this role", repels(anotherLBCert, "instance"), change(func(d *draft) {
			d.cert, d.key = world.theirs.Identity.CertPEM, rsaOf(world.theirs)
		}), nil, because(keydelivery.ReasonInstanceMismatch)),
		Entry("for another LBVM's ARN", repels(anotherLB, "policy"), change(func(d *draft) {
			d.arn = world.theirs.cert.ARN
		}), nil, because(keydelivery.ReasonPolicy)),
		Entry("with another LBVM's signature", repels(requestAltered, "signature"), change(func(d *draft) {
			d.key = rsaOf(world.theirs)
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("with a signature that is as good modulo N", repels(requestAltered), change(func(d *draft) {
			key := rsaOf(world.mine)
			d.forge = func(s []byte) []byte { return new(big.Int).Add(new(big.Int).SetBytes(s), key.N).Bytes() }
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("as profile 2", repels(downgrade, "key-kind"), change(func(d *draft) {
			d.form = func(form url.Values) {
				form["Profile"], form["Nonce"] = []string{"2"}, []string{otherNonce("")}
			}
		}), nil, because(keydelivery.ReasonCertificateMalformed)),
	)

	DescribeTable(
		"what is wrong with a signature's padding tells nothing",
		expectRepelled,
		Entry("PSS", repels(paddingProbes, "signature"), pads(func(digest []byte) []byte {
			s, err := rsa.SignPSS(rand.Reader, rsaOf(world.mine), crypto.SHA256, digest, nil)
			Expect(err).NotTo(HaveOccurred())
			return s
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("none", repels(paddingProbes, "signature"), pads(func(digest []byte) []byte {
			return private(append(make([]byte, 256-len(digest)), digest...))
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("one byte of it", repels(paddingProbes, "signature"), pads(func(digest []byte) []byte {
			return private(block(digest, func(b []byte) { b[5] = 0xfe }))
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("its length", repels(paddingProbes, "signature"), pads(func(digest []byte) []byte {
			return private(block(digest, func(b []byte) { b[100] = 0 }))
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("another hash's name", repels(paddingProbes, "signature"), pads(func(digest []byte) []byte {
			return private(block(digest, func(b []byte) { b[len(b)-32-5] ^= 1 }))
		}), nil, because(keydelivery.ReasonSignature)),
	)

	DescribeTable(
		"what is wrong with a key's padding tells nothing, even of an answer that IAMPK signed",
		func(serverPk func() string) {
			ask := func() asked { return relay(world.mine, world.mine.cert.ARN) }
			attack := ask()
			attack.answer.ServerPk = serverPk()
			_, err := attack.open()
			Expect(err).To(MatchError(keydelivery.ErrAnswer), "not signed")
			digest := sha256.Sum256([]byte(attack.answer.ServerCertificate + "&" + attack.answer.ServerPk))
			signature, err := stolenFrom(cloud, records, "authority-rsa").key.Sign(rand.Reader, digest[:], crypto.SHA256)
			Expect(err).NotTo(HaveOccurred())
			attack.answer.Signature = base64.StdEncoding.EncodeToString(signature)
			opened, err := attack.open()
			Expect(opened).To(BeNil())
			Expect(err).To(MatchError(keydelivery.ErrAnswer))
			Expect(err.Error()).To(Equal(keydelivery.ErrAnswer.Error()), "what tells steps apart")
			_, err = ask().open()
			Expect(err).NotTo(HaveOccurred())
		},
		Entry("session key under no padding", repels(paddingProbes), func() string {
			raw := make([]byte, 256)
			raw[255] = 1
			return base64.StdEncoding.EncodeToString(raw) + "\n" +
				base64.StdEncoding.EncodeToString(inCBC(make([]byte, 32), padded("key", 0)))
		}),
		Entry("session key too short", repels(paddingProbes), func() string {
			return wrapped(&rsaOf(world.mine).PublicKey, make([]byte, 16), padded("key", 0))
		}),
		Entry("padding of no length", repels(paddingProbes), func() string {
			return wrapped(&rsaOf(world.mine).PublicKey, make([]byte, 32), padded("key", 17))
		}),
		Entry("padding that is not all alike", repels(paddingProbes), func() string {
			return wrapped(&rsaOf(world.mine).PublicKey, make([]byte, 32), padded("key", 2))
		}),
		Entry("padding as it should be around no key", repels(paddingProbes, "answer-pair"), func() string {
			return wrapped(&rsaOf(world.mine).PublicKey, make([]byte, 32), padded("bm8ga2V5", 0))
		}),
		Entry("half a block", repels(paddingProbes), func() string {
			text := wrapped(&rsaOf(world.mine).PublicKey, make([]byte, 32), padded("key", 0))
			return text[:len(text)-4]
		}),
	)

	It("a request is answered again to the session that sent it, and to no other", repels(replayed,
		"replay-session"), func() {
		d := honest(world.mine)
		form := d.fields()
		expectOpens(world.mine, d, d.post(form))
		again := world.node.RoleCredentials(world.mine.InstanceID)
		other := *d
		other.keys = keys{again.GetAccessKeyId(), again.GetSecretAccessKey(), again.GetToken()}
		expectUnchanged(func() *answer { return other.post(form) }, because(keydelivery.ReasonReplay))
		expectOpens(world.mine, d, d.post(form))
	})

	It("a request is not answered again after a minute", Label("slow"), repels(replayed, "replay"), func() {
		d := honest(world.mine)
		form := d.fields()
		expectOpens(world.mine, d, d.post(form))
		Eventually(func() int { return d.post(form).status }).WithTimeout(75 * time.Second).WithPolling(5 * time.Second).
			Should(Equal(http.StatusForbidden))
		expectUnchanged(func() *answer { return d.post(form) }, because(keydelivery.ReasonReplay))
		expectGranted(world.mine, honest(world.mine))
	})
})

// pads has the request signed in another way.
func pads(sign func(digest []byte) []byte) change {
	return func(d *draft) {
		digest := sha256.Sum256([]byte(d.arn + "&" + d.time.UTC().Format(timestampForm)))
		d.forge = func([]byte) []byte { return sign(digest[:]) }
	}
}

// private is RSA's operation by LBPK alone.
func private(block []byte) []byte {
	key := rsaOf(world.mine)
	return new(big.Int).Exp(new(big.Int).SetBytes(block), key.D, key.N).FillBytes(make([]byte, 256))
}

// block is what PKCS#1 v1.5 signs for a SHA-256 digest, altered.
func block(digest []byte, alter func([]byte)) []byte {
	name := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
		0x04, 0x20}
	out := make([]byte, 256)
	for i := range out {
		out[i] = 0xff
	}
	out[0], out[1], out[256-len(digest)-len(name)-1] = 0, 1, 0
	copy(out[256-len(digest)-len(name):], append(name, digest...))
	alter(out)
	return out
}
