package badinput

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// call is a request before it is signed. Specs make it wrong in one place.
type call struct {
	service string
	form    url.Values
	method  string
	path    string
	kind    string // content type
	body    string // instead of form
	at      time.Duration
	keys    *aws.Credentials // the first account's root user when nil
	// alter changes what is about to be signed, tamper what was signed.
	alter, tamper []func(*http.Request)
}

// The services, as signatures name them.
const (
	iamService = "iam"
	stsService = "sts"
	elbService = "elasticloadbalancing"
	ec2Service = "ec2"
)

func version(service string) string {
	return map[string]string{
		iamService: "2010-05-08", stsService: "2011-06-15", elbService: "2012-06-01", ec2Service: "2016-11-15",
	}[service]
}

// ask makes a request of names and values.
func ask(service, action string, pairs ...string) call {
	c := call{service: service, method: http.MethodPost, path: "/", kind: "application/x-www-form-urlencoded",
		form: url.Values{"Action": {action}, "Version": {version(service)}}}
	return c.with(pairs...)
}

// with sets parameters. An empty value is sent as such; without takes one out.
func (c call) with(pairs ...string) call {
	form := url.Values{}
	for name, values := range c.form {
		form[name] = values
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	c.form = form
	return c
}

func (c call) without(name string) call {
	c = c.with()
	c.form.Del(name)
	return c
}

func (c call) raw(kind, body string) call { c.kind, c.body = kind, body; return c }

func (c call) to(method, path string) call { c.method, c.path = method, path; return c }

func (c call) signedAt(off time.Duration) call { c.at = off; return c }

func (c call) as(id, secret, token string) call {
	c.keys = &aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}
	return c
}

func (c call) altered(f func(*http.Request)) call { c.alter = append(c.alter, f); return c }

func (c call) tampered(f func(*http.Request)) call { c.tamper = append(c.tamper, f); return c }

// answer is what came back.
type answer struct {
	Status    int
	Code      string
	Message   string
	RequestID string
	Body      string
}

// String describes the answer in failures.
func (a answer) String() string { return fmt.Sprintf("HTTP %d: %.2000s", a.Status, a.Body) }

// errorBody is an error of the query protocol or of EC2's.
type errorBody struct {
	Code       string `xml:"Error>Code"`
	Message    string `xml:"Error>Message"`
	RequestID  string `xml:"RequestId"`
	EC2Code    string `xml:"Errors>Error>Code"`
	EC2Message string `xml:"Errors>Error>Message"`
	EC2Request string `xml:"RequestID"`
}

// send signs and sends the request and reads the answer.
func (c call) send() answer {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp, err := http.DefaultClient.Do(c.request(ctx))
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	Expect(err).NotTo(HaveOccurred())
	a := answer{Status: resp.StatusCode, Body: string(text), RequestID: resp.Header.Get("x-amzn-RequestId")}
	var body errorBody
	if xml.Unmarshal(text, &body) == nil && a.Status != http.StatusOK {
		a.Code, a.Message = body.Code+body.EC2Code, body.Message+body.EC2Message
		Expect(body.RequestID+body.EC2Request).To(Equal(a.RequestID), "request id of header and body")
	}
	return a
}

func (c call) request(ctx context.Context) *http.Request {
	GinkgoHelper()
	body := c.body
	if body == "" {
		body = c.form.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, c.method, aws.ToString(cloud.Config.BaseEndpoint)+c.path,
		bytes.NewReader([]byte(body)))
	Expect(err).NotTo(HaveOccurred())
	if c.kind != "" {
		req.Header.Set("Content-Type", c.kind)
	}
	for _, f := range c.alter {
		f(req)
	}
	sum := sha256.Sum256([]byte(body))
	Expect(v4.NewSigner().SignHTTP(ctx, c.credentials(ctx), req, hex.EncodeToString(sum[:]), c.service, "us-east-1",
		time.Now().Add(c.at))).To(Succeed())
	for _, f := range c.tamper {
		f(req)
	}
	return req
}

func (c call) credentials(ctx context.Context) aws.Credentials {
	GinkgoHelper()
	if c.keys != nil {
		return *c.keys
	}
	keys, err := cloud.Config.Credentials.Retrieve(ctx)
	Expect(err).NotTo(HaveOccurred())
	return keys
}

// expectRefused sends a request and expects AWS's code for what is wrong with it, words that name the place, and a
// cloud that is as it was.
func expectRefused(c call, status int, code, says string) {
	GinkgoHelper()
	before := records.Snapshot()
	a := c.send()
	Expect(a.Status).To(Equal(status), "%s", a)
	Expect(a.Code).To(Equal(code), "%s", a)
	Expect(a.Message).To(ContainSubstring(says), "%s", a)
	Expect(a.Body).NotTo(ContainSubstring("PRIVATE KEY"))
	Expect(cmp.Diff(before, records.Snapshot())).To(BeEmpty(), "records that were written")
	expectRecorded(a)
}

// expectDone sends a request that is right.
func expectDone(c call) answer {
	GinkgoHelper()
	a := c.send()
	Expect(a.Status).To(Equal(http.StatusOK), "%s", a)
	return a
}

// expectRecorded finds the answer in the cloud's journal.
func expectRecorded(a answer) {
	GinkgoHelper()
	events, err := cloud.Events()
	Expect(err).NotTo(HaveOccurred())
	for _, ev := range events {
		if ev.Attributes["requestId"] == a.RequestID && ev.Kind == "api.request" {
			Expect(ev.Attributes).To(And(HaveKeyWithValue("code", a.Code),
				HaveKeyWithValue("status", fmt.Sprint(a.Status))))
			return
		}
	}
	Fail("the journal does not know request " + a.RequestID)
}
