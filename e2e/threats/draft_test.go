package threats

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
)

// draft is a request for a key before it is signed and sent. Attacks alter one thing of it.
type draft struct {
	cloud   *twin.Twin
	path    string
	arn     string
	time    time.Time
	stamp   string // Timestamp, when it is not time's
	nonce   string
	profile string
	cert    []byte // LBCERT as it is sent
	key     crypto.Signer
	keys    keys
	iamCert []byte
	// forge changes Signature's bytes, form the fields once they are signed.
	forge func([]byte) []byte
	form  func(url.Values)
	// sign changes how HTTP is signed, wire what was signed.
	sign func(*signer)
	wire func(*http.Request)
}

const timestampForm = "2006-01-02T15:04:05Z"

// honest is the request that a party's guest is to make for its own certificate.
func honest(p *party) *draft {
	GinkgoHelper()
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	d := &draft{
		cloud: cloud, path: "/services/Euare/", arn: p.cert.ARN, time: time.Now(), cert: p.Identity.CertPEM,
		key: privateKey(p.Identity.Key), keys: roleOf(p), iamCert: p.IAMCert,
	}
	if _, old := d.key.(*rsa.PrivateKey); !old {
		d.profile, d.nonce = "2", base64.StdEncoding.EncodeToString(nonce)
	}
	return d
}

// roleOf are the role credentials that a party's guest has from its metadata service.
func roleOf(p *party) keys {
	return keys{p.Role.GetAccessKeyId(), p.Role.GetSecretAccessKey(), p.Role.GetToken()}
}

func privateKey(text []byte) crypto.Signer {
	GinkgoHelper()
	block, _ := pem.Decode(text)
	Expect(block).NotTo(BeNil())
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	Expect(err).NotTo(HaveOccurred())
	return key.(*ecdsa.PrivateKey)
}

// fields signs the draft with LBPK and returns the request's form.
func (d *draft) fields() url.Values {
	GinkgoHelper()
	stamp := d.stamp
	if stamp == "" {
		stamp = d.time.UTC().Format(timestampForm)
	}
	text := d.arn + "&" + stamp
	if d.profile == "2" {
		text = "2&" + text + "&" + d.nonce
	}
	digest := sha256.Sum256([]byte(text))
	signature, err := d.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	Expect(err).NotTo(HaveOccurred())
	if d.forge != nil {
		signature = d.forge(signature)
	}
	form := url.Values{
		"Action": {"DownloadServerCertificate"}, "Version": {"2010-05-08"}, "CertificateArn": {d.arn},
		"DelegationCertificate": {base64.StdEncoding.EncodeToString(d.cert)}, "AuthSignature": {"NULL"},
		"Timestamp": {stamp}, "Signature": {base64.StdEncoding.EncodeToString(signature)},
	}
	if d.profile != "" {
		form.Set("Profile", d.profile)
		form.Set("Nonce", d.nonce)
	}
	if d.form != nil {
		d.form(form)
	}
	return form
}

// answer is what came back.
type answer struct {
	form      url.Values // that was asked
	status    int
	code      string
	message   string
	requestID string
	body      string
}

// String describes the answer in failures.
func (a *answer) String() string {
	return fmt.Sprintf("request %s: HTTP %d: %.1000s", a.requestID, a.status, a.body)
}

// send signs and sends the draft.
func (d *draft) send() *answer {
	GinkgoHelper()
	return d.post(d.fields())
}

// post sends a form as the draft's caller.
func (d *draft) post(form url.Values) *answer {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(background(), 10*time.Second)
	defer cancel()
	body := []byte(form.Encode())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.cloud.Endpoint()+d.path, bytes.NewReader(body))
	Expect(err).NotTo(HaveOccurred())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s := signer{keys: d.keys, region: "us-east-1", service: "euare", at: time.Now()}
	if d.sign != nil {
		d.sign(&s)
	}
	s.sign(r, body)
	if d.wire != nil {
		d.wire(r)
	}
	a := exchange(r)
	a.form = form
	return a
}

// exchange sends a request that is signed already.
func exchange(r *http.Request) *answer {
	GinkgoHelper()
	resp, err := http.DefaultClient.Do(r)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	Expect(err).NotTo(HaveOccurred())
	a := &answer{status: resp.StatusCode, body: string(text), requestID: resp.Header.Get("x-amzn-RequestId")}
	var fault struct {
		Code      string `xml:"Error>Code"`
		Message   string `xml:"Error>Message"`
		RequestID string `xml:"RequestId"`
	}
	if a.status != http.StatusOK && xml.Unmarshal(text, &fault) == nil {
		a.code, a.message = fault.Code, fault.Message
		Expect(fault.RequestID).To(Equal(a.requestID), "request id of header and body")
	}
	return a
}

// open opens an answer with the reference client of its profile, as the identity that asked.
func (d *draft) open(a *answer, identity []byte) (*delivery.Opened, error) {
	c := &delivery.Credential{LBCert: d.cert, LBKey: identity, IAMCert: d.iamCert, Token: "NULL"}
	if d.profile == "" {
		client, err := delivery.NewClient1(c)
		if err != nil {
			return nil, err
		}
		return client.Open([]byte(a.body), d.arn)
	}
	client, err := delivery.NewClient2(c)
	if err != nil {
		return nil, err
	}
	return client.Open([]byte(a.body), a.form)
}

// without is an answer's text less what is its request's alone.
func (a *answer) without() string { return strings.ReplaceAll(a.body, a.requestID, "REQUEST") }
