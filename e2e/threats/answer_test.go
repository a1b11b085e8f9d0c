package threats

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func errorAs[T any](err error, into *T) bool { return errors.As(err, into) }

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// asked is a request that the agent's own code made, with the cloud's answer to it.
type asked struct {
	party   *party
	request *keydelivery.Request
	answer  keydelivery.Answer
}

// relay is somebody between a guest and the cloud: the guest's request goes through, the answer is in his hands.
func relay(p *party, arn string) asked {
	GinkgoHelper()
	request, err := keydelivery.NewRequest(arn, p.Identity, time.Now())
	Expect(err).NotTo(HaveOccurred())
	a := honest(p).post(request.Form())
	answer, err := keydelivery.ParseAnswer([]byte(a.body))
	Expect(err).NotTo(HaveOccurred(), "%s", a)
	return asked{p, request, *answer}
}

// open is what the guest makes of an answer. A guest serves nothing but what comes of it.
func (a asked) open() (*keydelivery.ServerCertificate, error) {
	return a.request.Open(&a.answer, a.party.IAMCert, a.party.Identity)
}

// sign has the answer signed anew, for the request, with another's IAMPK.
func (a *asked) sign(by crypto.Signer) {
	GinkgoHelper()
	digest := sha256.Sum256([]byte(strings.Join([]string{"2", a.answer.CertificateARN, a.request.Nonce,
		a.answer.ServerCertificate, a.answer.ServerPk}, "&")))
	signature, err := by.Sign(rand.Reader, digest[:], crypto.SHA256)
	Expect(err).NotTo(HaveOccurred())
	a.answer.Signature = base64.StdEncoding.EncodeToString(signature)
}

// header has a word of the sealed key's protected header replaced.
func header(jwe, was, by string) string {
	GinkgoHelper()
	parts := strings.Split(jwe, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[0])
	Expect(err).NotTo(HaveOccurred())
	Expect(string(text)).To(ContainSubstring(was))
	parts[0] = base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(text, []byte(was), []byte(by)))
	return strings.Join(parts, ".")
}

func flip(text string, at int) string {
	other := byte('A')
	if text[at] == other {
		other = 'B'
	}
	return text[:at] + string(other) + text[at+1:]
}

var _ = Describe("An answer", Label(twin.NeedsSim), func() {
	// mine is what the guest waits for; the others are what an attacker has beside it.
	DescribeTable(
		"that is not the cloud's to the very request is refused by the guest",
		func(alter func(mine *asked)) {
			mine := relay(world.mine, world.mine.cert.ARN)
			untouched := mine
			alter(&mine)
			opened, err := mine.open()
			Expect(err).To(MatchError(keydelivery.ErrAnswer))
			Expect(err.Error()).To(Equal(keydelivery.ErrAnswer.Error()), "what tells steps apart")
			Expect(opened).To(BeNil())
			By("taking it as it was")
			opened, err = untouched.open()
			Expect(err).NotTo(HaveOccurred())
			Expect(strings.TrimSpace(string(opened.Key))).To(Equal(strings.TrimSpace(string(world.mine.cert.KeyPEM))))
		},
		Entry("certificate altered", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.answer.ServerCertificate = base64Of(string(world.mine.cert.CertPEM) + " ")
		}),
		Entry("certificate of another", repels(answerSwapped, "answer-signature"), func(mine *asked) {
			mine.answer.ServerCertificate = relay(world.theirs, world.theirs.cert.ARN).answer.ServerCertificate
		}),
		Entry("sealed key altered", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.answer.ServerPk = flip(mine.answer.ServerPk, len(mine.answer.ServerPk)-30)
		}),
		Entry("header of the sealed key altered", repels(answerAltered), func(mine *asked) {
			mine.answer.ServerPk = header(mine.answer.ServerPk, mine.request.Nonce, otherNonce(""))
		}),
		Entry("header of the sealed key altered, and signed by IAMPK", repels(answerAltered), func(mine *asked) {
			mine.answer.ServerPk = header(mine.answer.ServerPk, world.mine.InstanceID, world.theirs.InstanceID)
			mine.sign(stolen().key)
		}),
		Entry("signature altered", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.answer.Signature = flip(mine.answer.Signature, 40)
		}),
		Entry("signature stripped", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.answer.Signature = " "
		}),
		Entry("signed by another IAM", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.sign(impostor().key)
		}),
		Entry("signed by the guest itself", repels(answerAltered, "answer-signature"), func(mine *asked) {
			mine.sign(privateKey(world.mine.Identity.Key))
		}),
		Entry("another LBVM's", repels(answerSwapped, "answer-signature"), func(mine *asked) {
			mine.answer = relay(world.theirs, world.theirs.cert.ARN).answer
		}),
		Entry("another LBVM's under this ARN", repels(answerSwapped, "answer-signature"), func(mine *asked) {
			mine.answer = relay(world.theirs, world.theirs.cert.ARN).answer
			mine.answer.CertificateARN = world.mine.cert.ARN
		}),
		Entry("of an earlier request", repels(answerReplayed, "answer-signature"), func(mine *asked) {
			mine.answer = relay(world.mine, world.mine.cert.ARN).answer
		}),
		Entry("of an earlier request, signed anew by IAMPK", repels(answerReplayed, "answer-binding"), func(mine *asked) {
			mine.answer = relay(world.mine, world.mine.cert.ARN).answer
			mine.sign(stolen().key)
		}),
		Entry("a key that is not the certificate's, sealed and signed by IAMPK", repels(answerSwapped, "answer-pair"),
			func(mine *asked) {
				other := stolen()
				text, err := marshalKey(newECKey())
				Expect(err).NotTo(HaveOccurred())
				mine.answer.ServerPk = sealTo(publicOf(world.mine.Identity.CertPEM), map[string]string{
					"purpose": "userpk", "instance": world.mine.InstanceID, "arn": mine.request.ARN,
					"nonce": mine.request.Nonce,
				}, text)
				mine.sign(other.key)
			}),
	)

	It("of another ARN of the same guest is refused for this one", repels(answerSwapped, "answer-signature"), func() {
		p := newParty()
		second := cloud.Upload("P-256", "other.example.test")
		addListener(p, tlsPort+1, second.ARN)
		mine, other := relay(p, p.cert.ARN), relay(p, second.ARN)
		_, err := mine.open()
		Expect(err).NotTo(HaveOccurred())
		_, err = other.open()
		Expect(err).NotTo(HaveOccurred())
		mine.answer, other.answer = other.answer, mine.answer
		for _, swapped := range []asked{mine, other} {
			_, err := swapped.open()
			Expect(err).To(MatchError(keydelivery.ErrAnswer))
			swapped.answer.CertificateARN = swapped.request.ARN
			_, err = swapped.open()
			Expect(err).To(MatchError(keydelivery.ErrAnswer))
		}
	})
})

// publicOf is the key of a PEM certificate.
func publicOf(text []byte) crypto.PublicKey {
	GinkgoHelper()
	block, _ := pem.Decode(text)
	Expect(block).NotTo(BeNil())
	return parse(block.Bytes).PublicKey
}
