package cloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/explain"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/fixtures/delivery"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// original is a cloud whose LBVM image is registered as profile 1, with an HTTPS load balancer and the guest that the
// cloud launched for it: a stock one, as far as the network shows.
type original struct {
	cloud  *Cloud
	arn    string
	inst   ec2.Instance
	keys   aws.Credentials
	client *delivery.Client1
	userPK string
}

func newOriginal(t *testing.T) *original {
	t.Helper()
	dir := t.TempDir()
	c, err := Start(t.Context(), Config{Dir: dir, Journal: filepath.Join(dir, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: lbvmImage, DeliveryProfile: keydelivery.Profile1}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	o := &original{cloud: c}
	nodeKey := o.addNode(t)
	o.createLoadBalancer(t)
	for deadline := time.Now().Add(time.Minute); ; {
		if list := c.ec2.Instances(); len(list) == 1 && list[0].Credential != nil {
			o.inst = list[0]
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no LBVM was launched")
		}
		<-time.After(10 * time.Millisecond)
	}
	identity, err := o.inst.Credential.Open(nodeKey, "node-1", o.inst.ID)
	if err != nil {
		t.Fatal(err)
	}
	o.client, err = delivery.NewClient1(&delivery.Credential{LBCert: identity.CertPEM, LBKey: identity.Key,
		IAMCert: o.inst.Credential.IAMCertPEM, Token: "NULL"})
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.iam.InstanceCredentials(t.Context(), SystemAccountID, o.inst.RoleName, o.inst.ID)
	if err != nil {
		t.Fatal(err)
	}
	o.keys = aws.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey,
		SessionToken: session.Token}
	return o
}

func (o *original) addNode(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: "node-1"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := o.cloud.NewNodeToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.cloud.placement.Enrol(t.Context(), token, "node-1", csr); err != nil {
		t.Fatal(err)
	}
	if err := o.cloud.placement.Report(t.Context(), "node-1", &placement.Status{MemoryMBTotal: 8192, MemoryMBFree: 8192,
		Cores: 2, Accelerator: "tcg", Images: map[string]string{lbvmImage: "sha256:aa"}}); err != nil {
		t.Fatal(err)
	}
	return key
}

func (o *original) createLoadBalancer(t *testing.T) {
	t.Helper()
	id, secret, err := o.cloud.iam.EnsureRootKey(t.Context(), UserAccountID)
	if err != nil {
		t.Fatal(err)
	}
	secret.Wipe()
	_, root, err := o.cloud.iam.Identify(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := authn.WithCaller(t.Context(), root)
	ca, err := pki.NewAuthority("test CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(pki.P256, "www.example.test")
	if err != nil {
		t.Fatal(err)
	}
	o.userPK = string(pair.KeyPEM)
	uploaded, err := o.cloud.iam.UploadServerCertificate(ctx, &iammodel.UploadServerCertificateInput{
		ServerCertificateName: model.Ptr("www"), CertificateBody: model.Ptr(string(pair.CertPEM)),
		PrivateKey: model.Ptr(o.userPK)})
	if err != nil {
		t.Fatal(err)
	}
	o.arn = *uploaded.ServerCertificateMetadata.Arn
	if _, err := o.cloud.elb.CreateLoadBalancer(ctx, &elbmodel.CreateLoadBalancerInput{
		LoadBalancerName: model.Ptr("shop"), AvailabilityZones: []string{"us-east-1a"},
		Listeners: []elbmodel.Listener{{Protocol: model.Ptr("HTTPS"), LoadBalancerPort: model.Ptr(int64(443)),
			InstanceProtocol: model.Ptr("HTTP"), InstancePort: model.Ptr(int64(80)),
			SSLCertificateId: model.Ptr(o.arn)}}}); err != nil {
		t.Fatal(err)
	}
}

// call sends a request as old clients sign it and returns status, body and the request's id.
func (o *original) call(t *testing.T, method, path string, form url.Values, service, region string) (
	status int, text []byte, requestID string) {
	t.Helper()
	target, body := o.cloud.Endpoint()+path, ""
	if method == http.MethodGet {
		target += "?" + form.Encode()
	} else {
		body = form.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	}
	digest := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), o.keys, r, hex.EncodeToString(digest[:]), service, region,
		time.Now()); err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err = io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, text, answer.Header.Get("x-amzn-RequestId")
}

// TestOriginalGuest goes a stock guest's way: its user data, what it is to serve, the key, its two kinds of report.
func TestOriginalGuest(t *testing.T) {
	o := newOriginal(t)
	want := "elb_service_url=169.254.169.253;euare_service_url=169.254.169.253;loadbalancer_owner_account=" +
		UserAccountID + ";webservice_port=8773;"
	if got := string(o.inst.UserData); got != want {
		t.Errorf("user data is %q, want %q", got, want)
	}
	status, body, _ := o.call(t, http.MethodGet, "/services/LoadBalancing/", url.Values{
		"Action": {"DescribeLoadBalancersByServo"}, "Version": {"2012-06-01"}, "InstanceId": {o.inst.ID}},
		"elasticloadbalancing", "undefined-region")
	if status != http.StatusOK {
		t.Fatalf("describe: %d %s", status, body)
	}
	elements := elementsOf(t, body)
	for _, name := range strings.Fields("LoadBalancerDescriptions LoadBalancerName DNSName ListenerDescriptions " +
		"Listener Protocol LoadBalancerPort InstanceProtocol InstancePort SSLCertificateId PolicyNames PolicyDescriptions " +
		"BackendServerDescriptions AvailabilityZones BackendInstances HealthCheck Target Interval Timeout " +
		"UnhealthyThreshold HealthyThreshold CreatedTime Scheme LoadBalancerAttributes CrossZoneLoadBalancing AccessLog " +
		"ConnectionDraining ConnectionSettings IdleTimeout ServoResponseMetadata GetLBInterval PutMetricInterval " +
		"PutInstanceHealthInterval") {
		if !elements[name] {
			t.Errorf("the description has no element %s:\n%s", name, body)
		}
	}
	for _, signedFor := range [][2]string{{"euare", "us-east-1"}, {"iam", "us-east-1"}, {"169", "254"}, {"127", "0"}} {
		form, err := o.client.Request(o.arn, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		status, body, _ = o.call(t, http.MethodPost, "/services/Euare/", form, signedFor[0], signedFor[1])
		if status != http.StatusOK {
			t.Fatalf("download signed for %v: %d %s", signedFor, status, body)
		}
		opened, err := o.client.Open(body, o.arn)
		if err != nil || strings.TrimSpace(string(opened.Key)) != strings.TrimSpace(o.userPK) {
			t.Errorf("download signed for %v: %v", signedFor, err)
		}
	}
	for name, fields := range map[string]url.Values{
		"health": {"Instances.member.1.InstanceId": {"i-0123456789abcdef0:InService"}},
		"metrics": {"MetricData.member.1.MetricName": {"Latency"}, "MetricData.member.1.Unit": {"Milliseconds"},
			"MetricData.member.1.Value": {"12.5"}, "MetricData.member.2.MetricName": {"HTTPCode_Backend_2XX"},
			"MetricData.member.2.Unit": {"Count"}, "MetricData.member.2.Value": {"3"}},
	} {
		fields.Set("Action", "PutServoStates")
		fields.Set("Version", "2012-06-01")
		fields.Set("InstanceId", o.inst.ID)
		status, body, _ := o.call(t, http.MethodGet, "/services/LoadBalancing/", fields, "elasticloadbalancing", "us-east-1")
		if status != http.StatusOK || !elementsOf(t, body)["GetLBInterval"] {
			t.Errorf("report of %s: %d %s", name, status, body)
		}
	}
}

// elementsOf returns the names of a document's elements.
func elementsOf(t *testing.T, body []byte) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for decoder := xml.NewDecoder(strings.NewReader(string(body))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			names[start.Name.Local] = true
		}
	}
}

// TestExplainDenials has requests denied at several steps and asks the cloud why.
func TestExplainDenials(t *testing.T) {
	o := newOriginal(t)
	good := o.keys
	explained := func(id string) explain.Explanation {
		events, err := o.cloud.Request(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		e, err := explain.Of(events)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, tt := range []struct {
		name, arn, check, reason string
		alter                    func(form url.Values)
	}{
		{name: "signed with another secret", check: "HTTP signature (check 1 of a delivery)", reason: "SignatureDoesNotMatch",
			alter: func(url.Values) { o.keys.SecretAccessKey += "x" }},
		{name: "stale", check: "check 5 of 9", reason: "timestamp",
			alter: func(f url.Values) { f.Set("Timestamp", "2020-01-01T00:00:00Z") }},
		{name: "altered", check: "check 6 of 9", reason: "signature",
			alter: func(f url.Values) { f.Set("CertificateArn", o.arn+"2") }},
		{name: "not granted", arn: "arn:aws:iam::123456789012:server-certificate/other", check: "check 8 of 9",
			reason: "policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arn := o.arn
			if tt.arn != "" {
				arn = tt.arn
			}
			form, err := o.client.Request(arn, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if tt.alter != nil {
				tt.alter(form)
			}
			status, body, id := o.call(t, http.MethodPost, "/services/Euare/", form, "euare", "us-east-1")
			o.keys = good
			if status != http.StatusForbidden || strings.Contains(string(body), "check") {
				t.Errorf("answer %d %s", status, body)
			}
			e := explained(id)
			if !e.Denied || e.Check != tt.check || e.Reason != tt.reason || e.Found == "" || e.Wanted == "" {
				t.Errorf("explained as %+v", e)
			}
			if last := explained(""); last.RequestID != id {
				t.Errorf("the last denied is %s, want %s", last.RequestID, id)
			}
			var text strings.Builder
			if err := e.Write(&text); err != nil || !strings.Contains(text.String(), "would pass") ||
				strings.Contains(text.String(), good.SecretAccessKey) {
				t.Errorf("text:\n%s", &text)
			}
		})
	}
	form, err := o.client.Request(o.arn, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, _, id := o.call(t, http.MethodPost, "/services/Euare/", form, "euare", "us-east-1")
	if e := explained(id); e.Denied || e.Status != "200" {
		t.Errorf("a delivery is explained as %+v", e)
	}
}

func TestProfilesThatContradict(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Journal: "journal", MinDeliveryProfile: keydelivery.Profile2,
		Images: []ec2.ImageInfo{{Name: lbvmImage, DeliveryProfile: keydelivery.Profile1}}}
	want := "image lbvm is registered as delivery profile 1"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v", err)
	}
	cfg.MinDeliveryProfile = 0
	if err := cfg.Validate(); err != nil {
		t.Errorf("control: %v", err)
	}
}
