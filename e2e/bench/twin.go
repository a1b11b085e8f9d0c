package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	cloudec2 "github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

const (
	hostname     = "www.example.test"
	pollInterval = 5 * time.Millisecond
	dialTimeout  = 10 * time.Second
)

// twin is a cloud with a node and guests, in a process of its own as a user would start it.
type twin struct {
	*program
	operator *operator.Client
	elb      *elasticloadbalancing.Client
	ca       *pki.Authority
	pair     *pki.Pair
	arn      string // of the uploaded certificate
	backends []string
	events   *watcher
	unwatch  context.CancelFunc
	made     int // load balancers so far
}

// startTwin starts a twin with further flags of 'cloudtwin up', uploads a certificate and starts backends; it returns
// when they serve.
func startTwin(ctx context.Context, s *suite, backends int32, flags ...string) (*twin, error) {
	running, status, err := startProgram(ctx, s, flags...)
	if err != nil {
		return nil, err
	}
	t := &twin{program: running, operator: operator.NewClient(running.layout.OperatorSocket())}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.unwatch, t.events = stop, watch(follow(following, t.operator))
	if err := t.furnish(ctx, status, backends); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// follow turns the operator's events into a channel, which is closed after the last.
func follow(ctx context.Context, client *operator.Client) <-chan journal.Event {
	events := make(chan journal.Event, 1)
	go func() {
		defer close(events)
		_ = client.Follow(ctx, func(ev journal.Event) bool { // whoever waits learns that it ended
			select {
			case events <- ev:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	return events
}

func (t *twin) close() error {
	t.unwatch()
	return t.program.close()
}

// door is what hands out the keys of a cloud's first account.
type door interface {
	Credentials(ctx context.Context) (operator.Credentials, error)
}

func clientConfig(ctx context.Context, d door, endpoint string) (aws.Config, error) {
	keys, err := d.Credentials(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(endpoint), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")}, nil
}

func (t *twin) furnish(ctx context.Context, status operator.Status, backends int32) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cfg, err := clientConfig(ctx, t.operator, status.Endpoint)
	if err != nil {
		return err
	}
	t.elb = elasticloadbalancing.NewFromConfig(cfg)
	if t.ca, err = pki.NewAuthority("benchmark CA"); err != nil {
		return err
	}
	if t.pair, err = t.ca.Server(pki.P256, hostname); err != nil {
		return err
	}
	uploaded, err := iam.NewFromConfig(cfg).UploadServerCertificate(ctx, &iam.UploadServerCertificateInput{
		ServerCertificateName: aws.String(hostname), CertificateBody: aws.String(string(t.pair.CertPEM)),
		PrivateKey: aws.String(string(t.pair.KeyPEM)), CertificateChain: aws.String(string(t.ca.PEM))})
	if err != nil {
		return err
	}
	t.arn = aws.ToString(uploaded.ServerCertificateMetadata.Arn)
	if backends == 0 {
		return nil
	}
	started, err := ec2.NewFromConfig(cfg).RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: aws.String(cloudec2.ImageID("web")), MinCount: &backends, MaxCount: &backends})
	if err != nil {
		return err
	}
	for _, i := range started.Instances {
		t.backends = append(t.backends, aws.ToString(i.InstanceId))
	}
	for _, id := range t.backends {
		if err := t.events.await(ctx, id, milestone(agent.StageServing)); err != nil {
			return fmt.Errorf("start backends: %w", err)
		}
	}
	return nil
}

// create makes a load balancer with one HTTPS listener.
func (t *twin) create(ctx context.Context, name string) error {
	_, err := t.elb.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
		LoadBalancerName: aws.String(name), AvailabilityZones: []string{"us-east-1a"},
		Listeners: []types.Listener{{Protocol: aws.String("HTTPS"), LoadBalancerPort: 443,
			InstanceProtocol: aws.String("HTTP"), InstancePort: aws.Int32(80), SSLCertificateId: aws.String(t.arn)}}})
	return err
}

// serve registers the backends and returns, with the LBVM's id, when a client outside has made a verified handshake.
func (t *twin) serve(ctx context.Context, name string) (instance string, err error) {
	var instances []types.Instance
	for _, id := range t.backends {
		instances = append(instances, types.Instance{InstanceId: aws.String(id)})
	}
	if _, err := t.elb.RegisterInstancesWithLoadBalancer(ctx,
		&elasticloadbalancing.RegisterInstancesWithLoadBalancerInput{LoadBalancerName: aws.String(name),
			Instances: instances}); err != nil {
		return "", err
	}
	var lb operator.LoadBalancer
	if err := t.poll(ctx, func(status operator.Status) error {
		at := slices.IndexFunc(status.LoadBalancers, func(lb operator.LoadBalancer) bool {
			return lb.Name == name && len(lb.Instances) > 0
		})
		if at < 0 {
			return errors.New("it has no LBVM yet")
		}
		lb = status.LoadBalancers[at]
		return nil
	}); err != nil {
		return "", fmt.Errorf("load balancer %s: %w", name, err)
	}
	instance = lb.Instances[0]
	// Clients that knock earlier would cost the guest time, and a connection that is lost then a second.
	if err := t.events.await(ctx, instance, milestone(agent.StageServing)); err != nil {
		return "", fmt.Errorf("load balancer %s: %w", name, err)
	}
	return instance, t.poll(ctx, func(operator.Status) error {
		return t.handshake(ctx, lb.Listeners[0].HostAddress)
	})
}

// handshake makes one verified handshake and checks that it is the uploaded certificate that is served.
func (t *twin) handshake(ctx context.Context, address string) error {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout},
		Config: &tls.Config{RootCAs: t.ca.Pool(), ServerName: hostname, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if got := pki.Fingerprint(conn.(*tls.Conn).ConnectionState().PeerCertificates[0]); got != t.pair.Fingerprint() {
		return fmt.Errorf("another certificate is served: %s", got)
	}
	return nil
}

// remove deletes a load balancer and waits until its guest is gone and the twin idle again.
func (t *twin) remove(ctx context.Context, name, instance string) error {
	if _, err := t.elb.DeleteLoadBalancer(ctx,
		&elasticloadbalancing.DeleteLoadBalancerInput{LoadBalancerName: aws.String(name)}); err != nil {
		return err
	}
	if err := t.poll(ctx, func(status operator.Status) error {
		for _, i := range status.Instances {
			if i.ID == instance && i.State != "terminated" {
				return fmt.Errorf("%s is still %s", instance, i.State)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return t.idle(ctx)
}

// poll asks the cloud for its status until try is satisfied.
func (t *twin) poll(ctx context.Context, try func(operator.Status) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		status, err := t.operator.Status(ctx)
		if err != nil {
			return err
		}
		err = try(status)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}
