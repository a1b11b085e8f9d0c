package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/invariant"
	"github.com/cloudtwin/cloudtwin/e2e/leakscan"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const (
	hostname = "www.example.test"
	// loadBalancers and users are how many names the workload uses.
	loadBalancers = 3
	users         = 4
	// callTimeout bounds each request: one that takes longer may or may not have been carried out.
	callTimeout = 5 * time.Second
)

// verb is what a step does.
type verb string

const (
	createLB   verb = "create load balancer"
	deleteLB   verb = "delete load balancer"
	createUser verb = "create user"
	deleteUser verb = "delete user"
	look       verb = "describe"
	swapCert   verb = "change certificate"
)

// step is one request of the workload.
type step struct {
	at   time.Duration
	verb verb
	name string
}

func lbName(n int) string { return "chaos-" + strconv.Itoa(n+1) }

// plan draws the workload of a seed: it depends on nothing but its arguments. It begins with a load balancer.
func plan(seed uint64, length time.Duration) []step {
	const everyStep = 100 * time.Millisecond
	chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret: it is to be the same again
	steps := []step{{verb: createLB, name: lbName(0)}, {verb: createUser, name: "user-1"}}
	verbs := []verb{createLB, createLB, deleteLB, createUser, createUser, deleteUser, look, swapCert}
	for at := everyStep; at < length; at += everyStep {
		s := step{at: at, verb: verbs[chance.IntN(len(verbs))]}
		switch s.verb {
		case createUser, deleteUser:
			s.name = "user-" + strconv.Itoa(1+chance.IntN(users))
		default:
			s.name = lbName(chance.IntN(loadBalancers))
		}
		steps = append(steps, s)
	}
	return steps
}

// client makes the workload's requests, and keeps the ledger of them.
type client struct {
	elb    *elasticloadbalancing.Client
	iam    *iam.Client
	ec2    *ec2.Client
	ca     *pki.Authority
	arns   []string // of two certificates
	keys   [][]byte // of those, PEM
	ledger invariant.Ledger
	lanes  map[string]*sync.Mutex // requests about one thing come one after the other
}

// newClient uploads what the workload needs, before anything goes wrong.
func newClient(ctx context.Context, endpoint string, keys operator.Credentials, transport http.RoundTripper) (
	*client, error) {
	config := func(attempts int, rt http.RoundTripper) aws.Config {
		return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(endpoint), RetryMaxAttempts: attempts,
			HTTPClient:  &http.Client{Transport: rt},
			Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")}
	}
	cfg := config(1, transport)
	c := &client{elb: elasticloadbalancing.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg),
		lanes: map[string]*sync.Mutex{}}
	c.ledger.List = c.list
	for n := range loadBalancers {
		c.lanes[lbName(n)] = &sync.Mutex{}
	}
	for n := range users {
		c.lanes["user-"+strconv.Itoa(n+1)] = &sync.Mutex{}
	}
	var err error
	if c.ca, err = pki.NewAuthority("chaos CA"); err != nil {
		return nil, err
	}
	for _, name := range []string{"first", "second"} {
		pair, err := c.ca.Server(pki.P256, hostname)
		if err != nil {
			return nil, err
		}
		out, err := c.iam.UploadServerCertificate(ctx, &iam.UploadServerCertificateInput{
			ServerCertificateName: aws.String(name), CertificateBody: aws.String(string(pair.CertPEM)),
			PrivateKey: aws.String(string(pair.KeyPEM)), CertificateChain: aws.String(string(c.ca.PEM))})
		c.keys = append(c.keys, pair.KeyPEM)
		if err != nil {
			return nil, fmt.Errorf("upload certificate: %w", err)
		}
		c.arns = append(c.arns, aws.ToString(out.ServerCertificateMetadata.Arn))
	}
	return c, nil
}

// userKeys are the USERPKs, to look for.
func (c *client) userKeys() (keys []leakscan.Key, err error) {
	for i, text := range c.keys {
		key, err := leakscan.NewKey("USERPK of "+c.arns[i], text)
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// run makes the requests at their times and returns when all have ended.
func (c *client) run(ctx context.Context, steps []step) {
	begun := time.Now()
	var under sync.WaitGroup
	for i, s := range steps {
		timer := time.NewTimer(time.Until(begun.Add(s.at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			under.Wait()
			return
		}
		under.Go(func() {
			lane := c.lanes[s.name]
			lane.Lock()
			defer lane.Unlock()
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			c.do(ctx, s, c.arns[i%len(c.arns)])
		})
	}
	under.Wait()
}

// do makes one request. That it fails is no matter: faults are played.
func (c *client) do(ctx context.Context, s step, arn string) {
	name := aws.String(s.name)
	switch s.verb {
	case createLB:
		c.write(s.name, true, func() error {
			_, err := c.elb.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
				LoadBalancerName: name, AvailabilityZones: []string{"us-east-1a"},
				Listeners: []types.Listener{{Protocol: aws.String("HTTPS"), LoadBalancerPort: 443,
					InstanceProtocol: aws.String("HTTP"), InstancePort: aws.Int32(80), SSLCertificateId: aws.String(arn)}}})
			return err
		})
	case deleteLB:
		c.write(s.name, false, func() error {
			_, err := c.elb.DeleteLoadBalancer(ctx, &elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: name})
			return err
		})
	case createUser:
		c.write(s.name, true, func() error {
			_, err := c.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
			return err
		})
	case deleteUser:
		c.write(s.name, false, func() error {
			_, err := c.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: name})
			return err
		})
	case swapCert:
		_, _ = c.elb.SetLoadBalancerListenerSSLCertificate(ctx,
			&elasticloadbalancing.SetLoadBalancerListenerSSLCertificateInput{
				LoadBalancerName: name, LoadBalancerPort: 443, SSLCertificateId: aws.String(arn)})
	case look:
		_, _ = c.elb.DescribeLoadBalancers(ctx, &elasticloadbalancing.DescribeLoadBalancersInput{})
		_, _ = c.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	}
}

// write makes a request that the ledger remembers.
func (c *client) write(name string, there bool, request func() error) {
	ended := c.ledger.Begin(name, there)
	ended(request())
}

// list is what the cloud has of what the workload made.
func (c *client) list(ctx context.Context) (map[string]bool, error) {
	there := map[string]bool{}
	all, err := c.elb.DescribeLoadBalancers(ctx, &elasticloadbalancing.DescribeLoadBalancersInput{})
	if err != nil {
		return nil, err
	}
	for _, lb := range all.LoadBalancerDescriptions {
		there[aws.ToString(lb.LoadBalancerName)] = true
	}
	people, err := c.iam.ListUsers(ctx, &iam.ListUsersInput{})
	if err != nil {
		return nil, err
	}
	for _, u := range people.Users {
		there[aws.ToString(u.UserName)] = true
	}
	return there, nil
}
