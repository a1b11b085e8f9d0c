package threats

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/url"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func signedAt(off time.Duration) change { return func(d *draft) { d.time = d.time.Add(off) } }

// set changes a field of the form that is signed already.
func set(name string, value func(was string) string) change {
	return func(d *draft) {
		d.form = func(form url.Values) { form.Set(name, value(form.Get(name))) }
	}
}

func is(value string) func(string) string { return func(string) string { return value } }

// later is a timestamp that is good, but not the one that was signed.
func later(was string) string {
	at, err := time.Parse(timestampForm, was)
	Expect(err).NotTo(HaveOccurred())
	return at.Add(-time.Second).Format(timestampForm)
}

func nonceOf(size int, encoding *base64.Encoding) string {
	nonce := make([]byte, size)
	_, _ = rand.Read(nonce)
	return encoding.EncodeToString(nonce)
}

func otherNonce(string) string { return nonceOf(32, base64.StdEncoding) }

func signed(nonce func() string) change { return func(d *draft) { d.nonce = nonce() } }

func forged(f func([]byte) []byte) change { return func(d *draft) { d.forge = f } }

var _ = Describe("A request", Label(twin.NeedsSim), func() {
	DescribeTable(
		"of another time is refused",
		expectRepelled,
		Entry("11 minutes old", repels(stale, "timestamp-old"), signedAt(-11*time.Minute), signedAt(-9*time.Minute),
			because(keydelivery.ReasonTimestamp)),
		Entry("a year old", repels(stale), signedAt(-365*24*time.Hour), nil, because(keydelivery.ReasonTimestamp)),
		Entry("2 minutes ahead", repels(future, "timestamp-ahead"), signedAt(2*time.Minute), signedAt(30*time.Second),
			because(keydelivery.ReasonTimestamp)),
		Entry("in the year 9999", repels(future), change(func(d *draft) { d.stamp = "9999-12-31T23:59:59Z" }), nil,
			because(keydelivery.ReasonTimestamp)),
		Entry("in another form", repels(alteredTimestamp, "timestamp-form"), change(func(d *draft) {
			d.stamp = d.time.UTC().Format(time.RFC3339Nano)
		}), nil, because(keydelivery.ReasonTimestamp)),
		Entry("in another time zone", repels(alteredTimestamp), change(func(d *draft) {
			d.stamp = d.time.In(time.FixedZone("", 3600)).Format(time.RFC3339)
		}), nil, because(keydelivery.ReasonTimestamp)),
	)

	DescribeTable(
		"that was altered on the way is refused",
		expectRepelled,
		Entry("ARN of another listener's certificate", repels(alteredARN, "signature"),
			set("CertificateArn", func(string) string { return world.theirs.cert.ARN }), nil,
			because(keydelivery.ReasonSignature)),
		Entry("ARN in another account", repels(alteredARN), set("CertificateArn", is(
			"arn:aws:iam::999999999999:server-certificate/x")), nil, because(keydelivery.ReasonSignature)),
		Entry("timestamp", repels(alteredTimestamp, "signature"), set("Timestamp", later), nil,
			because(keydelivery.ReasonSignature)),
		Entry("nonce", repels(alteredNonce, "signature"), set("Nonce", otherNonce), nil,
			because(keydelivery.ReasonSignature)),
		Entry("profile 2 named 1", repels(downgrade, "profile"), set("Profile", is("1")), nil,
			because(keydelivery.ReasonProfile)),
		Entry("profile left out", repels(downgrade, "profile"), change(func(d *draft) {
			d.form = func(form url.Values) { form.Del("Profile"); form.Del("Nonce") }
		}), nil, because(keydelivery.ReasonProfile)),
	)

	DescribeTable(
		"whose signature is not LBPK's over it is refused",
		expectRepelled,
		Entry("one bit of it", repels(requestAltered, "signature"), forged(func(s []byte) []byte {
			s[len(s)-1] ^= 1
			return s
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("cut short", repels(requestAltered), forged(func(s []byte) []byte { return s[:len(s)-1] }), nil,
			because(keydelivery.ReasonSignature)),
		Entry("something after it", repels(requestAltered), forged(func(s []byte) []byte { return append(s, 0) }), nil,
			because(keydelivery.ReasonSignature)),
		Entry("another key's", repels(requestAltered, "signature"), change(func(d *draft) { d.key = newECKey() }), nil,
			because(keydelivery.ReasonSignature)),
		Entry("another LBVM's", repels(requestAltered, "signature"), change(func(d *draft) {
			d.key = privateKey(world.theirs.Identity.Key)
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("of zeros", repels(requestAltered), forged(func([]byte) []byte {
			return encode(big.NewInt(0), big.NewInt(0))
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("of the curve's order", repels(requestAltered), forged(func([]byte) []byte {
			return encode(elliptic.P256().Params().N, elliptic.P256().Params().N)
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("in padded DER", repels(requestAltered), forged(func(s []byte) []byte {
			// A length in two bytes where one is enough: BER, not DER.
			return append([]byte{s[0], 0x81, s[1]}, s[2:]...)
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("r and s side by side", repels(requestAltered), forged(func(s []byte) []byte {
			r, v := decode(s)
			return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
		}), nil, because(keydelivery.ReasonSignature)),
		Entry("none but a space", repels(requestAltered), set("Signature", is(" ")), nil,
			because(keydelivery.ReasonSignature)),
	)

	DescribeTable(
		"whose form is wrong is refused by the field's name",
		expectRepelled,
		Entry("nonce of 31 bytes", repels(alteredNonce, "nonce-size"),
			signed(func() string { return nonceOf(31, base64.StdEncoding) }), nil, because(keydelivery.ReasonMalformed)),
		Entry("nonce of 33 bytes", repels(alteredNonce, "nonce-size"),
			signed(func() string { return nonceOf(33, base64.StdEncoding) }), nil, because(keydelivery.ReasonMalformed)),
		Entry("nonce in another alphabet", repels(alteredNonce),
			signed(func() string { return "-_" + nonceOf(32, base64.URLEncoding)[2:] }), nil,
			because(keydelivery.ReasonMalformed)),
		Entry("nonce with a line end", repels(alteredNonce, "nonce-spelling"),
			signed(func() string { return nonceOf(32, base64.StdEncoding) + "\n" }), nil,
			because(keydelivery.ReasonMalformed)),
		Entry("no nonce", repels(alteredNonce, "nonce-size"), signed(func() string { return "" }), nil,
			because(keydelivery.ReasonMalformed)),
		Entry("no timestamp", repels(alteredTimestamp), set("Timestamp", is("")), nil,
			because(keydelivery.ReasonMalformed)),
		Entry("profile 3", repels(downgrade), set("Profile", is("3")), nil, because(keydelivery.ReasonMalformed)),
		Entry("signature longer than any", repels(oversize), set("Signature", func(was string) string {
			for len(was) < 128<<10 {
				was += was
			}
			return was
		}), nil, because(keydelivery.ReasonMalformed)),
	)

	It("is answered once", repels(replayed, "replay"), func() {
		d := honest(world.mine)
		form := d.fields()
		expectOpens(world.mine, d, d.post(form))
		expectUnchanged(func() *answer { return d.post(form) }, because(keydelivery.ReasonReplay))
		By("granting one with another nonce")
		expectGranted(world.mine, honest(world.mine))
	})

	It("is answered once whoever of the instance's sessions sends it", repels(replayed, "replay"), func() {
		d := honest(world.mine)
		form := d.fields()
		expectOpens(world.mine, d, d.post(form))
		again := world.node.RoleCredentials(world.mine.InstanceID)
		other := *d
		other.keys = keys{again.GetAccessKeyId(), again.GetSecretAccessKey(), again.GetToken()}
		Expect(other.keys.id).NotTo(Equal(d.keys.id))
		expectUnchanged(func() *answer { return other.post(form) }, because(keydelivery.ReasonReplay))
		By("granting that session one of its own")
		own := honest(world.mine)
		own.keys = other.keys
		expectGranted(world.mine, own)
	})

	It("with a nonce that was used is refused with a new signature", repels(replayed, "replay"), func() {
		first := honest(world.mine)
		expectGranted(world.mine, first)
		second := honest(world.mine)
		second.nonce = first.nonce
		expectRefused(second, because(keydelivery.ReasonReplay))
		expectGranted(world.mine, honest(world.mine))
	})

	It("whose signature has its twin is still the same request", repels(replayed, "replay"), func() {
		d := honest(world.mine)
		form := d.fields()
		expectOpens(world.mine, d, d.post(form))
		raw, err := base64.StdEncoding.DecodeString(form.Get("Signature"))
		Expect(err).NotTo(HaveOccurred())
		r, s := decode(raw)
		// (r, n-s) is another valid signature over the same text: the nonce, not the signature, tells requests apart.
		twin := encode(r, new(big.Int).Sub(elliptic.P256().Params().N, s))
		form.Set("Signature", base64.StdEncoding.EncodeToString(twin))
		expectUnchanged(func() *answer { return d.post(form) }, because(keydelivery.ReasonReplay))
		By("granting one whose signature is such a twin from the beginning")
		control := honest(world.mine)
		control.forge = func(raw []byte) []byte {
			r, s := decode(raw)
			return encode(r, new(big.Int).Sub(elliptic.P256().Params().N, s))
		}
		expectGranted(world.mine, control)
	})
})

func newECKey() *ecdsa.PrivateKey {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	return key
}

func decode(signature []byte) (r, s *big.Int) {
	GinkgoHelper()
	var v struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(signature, &v)
	Expect(err).NotTo(HaveOccurred())
	return v.R, v.S
}

func encode(r, s *big.Int) []byte {
	GinkgoHelper()
	out, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	Expect(err).NotTo(HaveOccurred())
	return out
}
