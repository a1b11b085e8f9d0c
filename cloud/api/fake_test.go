package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "AKIATESTTESTTESTTEST"
	testSecret = "a secret for tests and nothing else"
)

// identities knows one long-lived key and one session.
type identities struct{}

func (identities) Identify(_ context.Context, id, token string) (string, authn.Caller, error) {
	root := authn.Caller{
		Kind: authn.KindRoot, AccountID: "123456789012", ARN: "arn:aws:iam::123456789012:root", UserID: "123456789012",
	}
	switch {
	case id == testKey && token == "":
		return testSecret, root, nil
	case token == "expired":
		return "", authn.Caller{}, authn.Errorf(authn.CodeExpiredToken, "The security token is expired")
	case id == "AKIABROKEN":
		return "", authn.Caller{}, errors.New("the store is on fire")
	}
	return "", authn.Caller{}, authn.Errorf(authn.CodeUnknownKey,
		"The security token included in the request is invalid.")
}

// policyFake denies one action and remembers what it was asked.
type policyFake struct {
	mu    sync.Mutex
	deny  string
	asked []string
}

func (p *policyFake) Authorize(_ context.Context, c authn.Caller, action string, resources []string,
	conditions map[string][]string,
) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, action+" "+strings.Join(resources, ","))
	if c.SourceIP == "" || c.Transport == authn.TransportUnknown {
		return errors.New("the caller lacks what condition keys are made of")
	}
	if action == p.deny {
		return model.Errorf("AccessDenied", http.StatusForbidden,
			"User: %s is not authorized to perform: %s on resource: %s", c.ARN, action, resources[0])
	}
	return nil
}

type iamFake struct{ created time.Time }

func (f *iamFake) ListUsers(context.Context, *iammodel.ListUsersInput) (*iammodel.ListUsersOutput, error) {
	return &iammodel.ListUsersOutput{}, nil
}

func (f *iamFake) CreateUser(_ context.Context, in *iammodel.CreateUserInput) (*iammodel.CreateUserOutput, error) {
	if *in.UserName == "taken" {
		return nil, iammodel.ErrEntityAlreadyExists("User with name %s already exists.", *in.UserName)
	}
	return &iammodel.CreateUserOutput{User: &iammodel.User{
		UserName: in.UserName, Path: in.Path, Tags: in.Tags, CreateDate: &f.created, UserId: model.Ptr("AIDA1"),
		Arn: model.Ptr("arn:aws:iam::123456789012:user/" + *in.UserName),
	}}, nil
}

func (f *iamFake) DeleteUser(context.Context, *iammodel.DeleteUserInput) (*iammodel.DeleteUserOutput, error) {
	return nil, nil //nolint:nilnil // an operation without output
}

func (f *iamFake) UploadServerCertificate(_ context.Context, in *iammodel.UploadServerCertificateInput,
) (*iammodel.UploadServerCertificateOutput, error) {
	return &iammodel.UploadServerCertificateOutput{ServerCertificateMetadata: &iammodel.ServerCertificateMetadata{
		ServerCertificateName: in.ServerCertificateName, Path: model.Ptr("/"), ServerCertificateId: model.Ptr("ASCA1"),
		Arn: model.Ptr("arn:aws:iam::123456789012:server-certificate/" + *in.ServerCertificateName),
	}}, nil
}

func (f *iamFake) GetUser(context.Context, *iammodel.GetUserInput) (*iammodel.GetUserOutput, error) {
	return nil, errors.New("secret detail of our fault")
}

func (f *iamFake) GetRole(context.Context, *iammodel.GetRoleInput) (*iammodel.GetRoleOutput, error) {
	panic("secret detail of our panic")
}

type stsFake struct{}

func (stsFake) GetCallerIdentity(ctx context.Context, _ *stsmodel.GetCallerIdentityInput,
) (*stsmodel.GetCallerIdentityOutput, error) {
	c := authn.CallerFrom(ctx)
	return &stsmodel.GetCallerIdentityOutput{Account: &c.AccountID, Arn: &c.ARN, UserId: &c.UserID}, nil
}

type elbFake struct {
	mu   sync.Mutex
	last *elbmodel.CreateLoadBalancerInput
}

func (f *elbFake) CreateLoadBalancer(_ context.Context, in *elbmodel.CreateLoadBalancerInput,
) (*elbmodel.CreateLoadBalancerOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = in
	return &elbmodel.CreateLoadBalancerOutput{DNSName: model.Ptr("127.1.2.3")}, nil
}

func (f *elbFake) DescribeLoadBalancers(context.Context, *elbmodel.DescribeLoadBalancersInput,
) (*elbmodel.DescribeLoadBalancersOutput, error) {
	return &elbmodel.DescribeLoadBalancersOutput{LoadBalancerDescriptions: []elbmodel.LoadBalancerDescription{{
		LoadBalancerName: model.Ptr("web"),
	}}}, nil
}

func (f *elbFake) DescribeTags(context.Context, *elbmodel.DescribeTagsInput) (*elbmodel.DescribeTagsOutput, error) {
	return &elbmodel.DescribeTagsOutput{TagDescriptions: []elbmodel.TagDescription{{
		LoadBalancerName: model.Ptr("from-elb"),
	}}}, nil
}

type ec2Fake struct {
	mu   sync.Mutex
	last *ec2model.RunInstancesInput
	made string // the id of the next instance, i-1 when empty
}

func (f *ec2Fake) RunInstances(_ context.Context, in *ec2model.RunInstancesInput) (*ec2model.RunInstancesOutput,
	error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = in
	return &ec2model.RunInstancesOutput{
		ReservationId: model.Ptr("r-1"), Instances: []ec2model.Instance{ec2Instance(cmp.Or(f.made, "i-1"))},
	}, nil
}

func (f *ec2Fake) DescribeInstances(_ context.Context, in *ec2model.DescribeInstancesInput,
) (*ec2model.DescribeInstancesOutput, error) {
	out := &ec2model.DescribeInstancesOutput{}
	for _, id := range in.InstanceIds {
		if id == "i-gone" {
			return nil, model.Errorf("InvalidInstanceID.NotFound", http.StatusBadRequest,
				"The instance ID '%s' does not exist", id)
		}
		out.Reservations = append(out.Reservations,
			ec2model.Reservation{Instances: []ec2model.Instance{ec2Instance(id)}})
	}
	return out, nil
}

func (f *ec2Fake) DescribeTags(context.Context, *ec2model.DescribeTagsInput) (*ec2model.DescribeTagsOutput, error) {
	return &ec2model.DescribeTagsOutput{Tags: []ec2model.TagDescription{{ResourceId: model.Ptr("from-ec2")}}}, nil
}

func (f *ec2Fake) CreateTags(context.Context, *ec2model.CreateTagsInput) (*ec2model.CreateTagsOutput, error) {
	return &ec2model.CreateTagsOutput{}, nil
}

func ec2Instance(id string) ec2model.Instance {
	return ec2model.Instance{
		InstanceId: &id, PrivateIpAddress: model.Ptr("10.64.0.2"), LaunchTime: model.Ptr(time.Unix(1700000000, 0)),
		State: &ec2model.InstanceState{Code: model.Ptr(int64(16)), Name: model.Ptr("running")},
		Tags:  []ec2model.Tag{{Key: model.Ptr("a<b"), Value: model.Ptr("c&d")}},
	}
}

// twin is a front door with fake services behind it.
type twin struct {
	url     string
	handler http.Handler
	policy  *policyFake
	elb     *elbFake
	ec2     *ec2Fake
	journal *journal.Journal
	lines   *syncBuffer
	logged  *syncBuffer
}

func newTwin(t testing.TB, changes ...func(*Config)) *twin {
	t.Helper()
	tw := &twin{policy: &policyFake{}, elb: &elbFake{}, ec2: &ec2Fake{}, lines: &syncBuffer{}, logged: &syncBuffer{}}
	tw.journal = journal.New(tw.lines)
	c := Config{
		Identity: identities{}, Authorizer: tw.policy, Journal: tw.journal,
		Logger: slog.New(slog.NewTextHandler(tw.logged, nil)),
		Services: []Binding{
			{
				Service: iammodel.Service(), Operations: iammodel.Operations(),
				Handlers: iammodel.Handlers(&iamFake{created: time.Unix(1700000000, 0)}),
				Raw: map[string]RawHandler{"DownloadServerCertificate": func(ctx context.Context, f url.Values,
				) (string, []byte, error) {
					if f.Get("CertificateArn") == "" {
						return "", nil, iammodel.ErrNoSuchEntity("no such certificate")
					}
					return "text/xml", []byte("<raw>" + authn.CallerFrom(ctx).ARN + "</raw>"), nil
				}},
			},
			{
				Service: stsmodel.Service(), Operations: stsmodel.Operations(), Handlers: stsmodel.Handlers(stsFake{}),
				SelfAuthorized: map[string]bool{"GetCallerIdentity": true},
			},
			{
				Service: ec2model.Service(), Operations: ec2model.Operations(), Handlers: ec2model.Handlers(tw.ec2),
			},
			{
				Service: elbmodel.Service(), Operations: elbmodel.Operations(), Handlers: elbmodel.Handlers(tw.elb),
				Resources: func(_ context.Context, _ string, c authn.Caller, in any) ([]string, error) {
					if create, ok := in.(*elbmodel.CreateLoadBalancerInput); ok {
						return []string{"arn:aws:elasticloadbalancing:us-east-1:" + c.AccountID + ":loadbalancer/" +
							*create.LoadBalancerName}, nil
					}
					return nil, nil
				},
			},
		},
	}
	for _, change := range changes {
		change(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tw.handler = h
	server := httptest.NewUnstartedServer(nil)
	server.Config = Server(h, c.Logger)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	tw.url = server.URL
	return tw
}

func (tw *twin) config(secret string) aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: &tw.url,
		Credentials: credentials.NewStaticCredentialsProvider(testKey, secret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// events returns the journal's records.
func (tw *twin) events(t testing.TB) []journal.Event {
	t.Helper()
	var events []journal.Event
	d := json.NewDecoder(strings.NewReader(tw.lines.String()))
	for {
		var e journal.Event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return events
		} else if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

// signed makes a signed form request.
func signed(t testing.TB, target string, form url.Values, scope string, change func(*http.Request)) *http.Request {
	t.Helper()
	body := form.Encode()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", formType)
	if change != nil {
		change(r)
	}
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r,
		hex.EncodeToString(sum[:]), scope, "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send returns status and body of an answer.
func send(t testing.TB, r *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if response.Header.Get(requestIDHeader) == "" {
		t.Error("the answer has no request id")
	}
	return response.StatusCode, string(body)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
