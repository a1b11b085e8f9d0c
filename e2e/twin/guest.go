package twin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/lbvm-image/builder"
	"github.com/cloudtwin/cloudtwin/node"
)

// Guest is a load-balancer VM whose part the spec plays, with its identity and its role. A spec may mix the parts of
// two guests.
type Guest struct {
	InstanceID string
	Identity   keydelivery.Identity
	IAMCert    []byte
	Role       *nodelink.RoleCredentialsResponse
	twin       *Twin
}

// Attempt is what came of asking for a key.
type Attempt struct {
	Status    int // HTTP
	Body      string
	RequestID string
	Key       keydelivery.Secret // what could be opened, or nil
	Reason    keydelivery.Reason // from the cloud's journal, empty when granted
	Detail    string
}

// Told returns what of the denial's reason the caller could read, which must be nothing.
func (a *Attempt) Told() string {
	for _, word := range []string{string(a.Reason), a.Detail} {
		if word != "" && strings.Contains(a.Body, word) {
			return word
		}
	}
	return ""
}

// String describes the attempt in failures.
func (a *Attempt) String() string {
	return fmt.Sprintf("attempt %s: HTTP %d, key %t, reason %q (%s), body %s", a.RequestID, a.Status, a.Key != nil,
		a.Reason, a.Detail, a.Body)
}

// Download asks for the key behind an ARN as the protocol says. Each alter changes the request's form before it is
// signed and sent.
func (g *Guest) Download(arn string, alter ...func(url.Values)) *Attempt {
	ginkgo.GinkgoHelper()
	request, err := keydelivery.NewRequest(arn, g.Identity, time.Now())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	form := request.Form()
	for _, change := range alter {
		change(form)
	}
	a := g.send("/services/Euare/", form)
	if answer, err := keydelivery.ParseAnswer([]byte(a.Body)); err == nil {
		if opened, err := request.Open(answer, g.IAMCert, g.Identity); err == nil {
			a.Key = opened.Key
		}
	}
	g.lookUp(a)
	return a
}

// send posts a form signed with the guest's role credentials.
func (g *Guest) send(path string, form url.Values) *Attempt {
	ginkgo.GinkgoHelper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	body := []byte(form.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.twin.baseURL+path, bytes.NewReader(body))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: g.Role.GetAccessKeyId(),
		SecretAccessKey: g.Role.GetSecretAccessKey(), SessionToken: g.Role.GetToken()}, req,
		hex.EncodeToString(sum[:]), "euare", "us-east-1", time.Now())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	resp, err := http.DefaultClient.Do(req)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return &Attempt{Status: resp.StatusCode, Body: string(text), RequestID: resp.Header.Get("x-amzn-RequestId")}
}

// lookUp finds in the journal why the attempt was denied.
func (g *Guest) lookUp(a *Attempt) {
	ginkgo.GinkgoHelper()
	events, err := g.twin.Events()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	for _, ev := range events {
		if ev.Kind == "delivery.denied" && ev.Attributes["requestId"] == a.RequestID {
			a.Reason, a.Detail = keydelivery.Reason(ev.Attributes["reason"]), ev.Attributes["detail"]
		}
	}
}

// imageDigests are what a node with this twin's images would report.
func (t *Twin) imageDigests() map[string]string {
	ginkgo.GinkgoHelper()
	dir := t.images
	switch {
	case t.Mode == node.GuestsSim:
		dir = local.Layout(t.StateDir).SimImages()
	case dir == "":
		dir = local.DefaultImages()
	}
	images, err := builder.List(dir)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	digests := map[string]string{}
	for _, image := range images {
		digests[image.Name] = image.Digest
	}
	gomega.Expect(digests).NotTo(gomega.BeEmpty(), "images in %s; build them with 'cloudtwin image build'", dir)
	return digests
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
