package demo

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

const loadBalancerName = "demo"

// pollInterval is how often something that has no event is looked at again.
const pollInterval = 50 * time.Millisecond

// maxBody bounds a backend's answer.
const maxBody = 1 << 20

func (j *job) runBackends(ctx context.Context) (string, error) {
	images, err := j.aws.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{})
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(images.Images, func(i ec2types.Image) bool { return aws.ToString(i.Name) == "web" })
	if at < 0 {
		return "", errors.New("no image is called web; build the images with 'cloudtwin image build'")
	}
	for n := range 2 {
		name := "backend-" + strconv.Itoa(n+1)
		out, err := j.aws.ec2.RunInstances(ctx, &ec2.RunInstancesInput{
			ImageId: images.Images[at].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			UserData: aws.String(userData("hello from " + name)),
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance,
				Tags: []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String(name)}}}},
		})
		if err != nil {
			return "", err
		}
		j.backs = append(j.backs, aws.ToString(out.Instances[0].InstanceId))
	}
	return j.backs[0] + " " + j.backs[1], nil
}

func (j *job) upload(ctx context.Context) (string, error) {
	out, err := j.aws.iam.UploadServerCertificate(ctx, &iam.UploadServerCertificateInput{
		ServerCertificateName: aws.String(j.cfg.Hostname), CertificateBody: aws.String(string(j.pair.CertPEM)),
		PrivateKey: aws.String(string(j.pair.KeyPEM)), CertificateChain: aws.String(string(j.ca.PEM)),
	})
	clear(j.pair.KeyPEM) // the SDK has its own copy, which goes with this process
	if err != nil {
		return "", err
	}
	j.report.CertificateARN = aws.ToString(out.ServerCertificateMetadata.Arn)
	return j.report.CertificateARN, nil
}

func (j *job) createLoadBalancer(ctx context.Context) (string, error) {
	if _, err := j.aws.elb.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
		LoadBalancerName: aws.String(loadBalancerName), AvailabilityZones: []string{"us-east-1a"},
		Listeners: []types.Listener{{Protocol: aws.String("HTTPS"), LoadBalancerPort: 443,
			InstanceProtocol: aws.String("HTTP"), InstancePort: aws.Int32(80),
			SSLCertificateId: aws.String(j.report.CertificateARN)}},
	}); err != nil {
		return "", err
	}
	if _, err := j.aws.elb.ConfigureHealthCheck(ctx, &elasticloadbalancing.ConfigureHealthCheckInput{
		LoadBalancerName: aws.String(loadBalancerName),
		HealthCheck: &types.HealthCheck{Target: aws.String("HTTP:80/health"), Interval: aws.Int32(5),
			Timeout: aws.Int32(2), HealthyThreshold: aws.Int32(2), UnhealthyThreshold: aws.Int32(2)},
	}); err != nil {
		return "", err
	}
	var instances []types.Instance
	for _, id := range j.backs {
		instances = append(instances, types.Instance{InstanceId: aws.String(id)})
	}
	register := &elasticloadbalancing.RegisterInstancesWithLoadBalancerInput{
		LoadBalancerName: aws.String(loadBalancerName), Instances: instances,
	}
	if _, err := j.aws.elb.RegisterInstancesWithLoadBalancer(ctx, register); err != nil {
		return "", err
	}
	err := j.poll(ctx, func() (bool, error) {
		status, err := j.cloud.Status(ctx)
		if err != nil {
			return false, err
		}
		at := slices.IndexFunc(status.LoadBalancers, func(lb operator.LoadBalancer) bool {
			return lb.Name == loadBalancerName && len(lb.Instances) > 0
		})
		if at < 0 {
			return false, errors.New("no LBVM was launched for it yet")
		}
		j.lb = status.LoadBalancers[at]
		return true, nil
	})
	if err != nil {
		return "", err
	}
	j.track.instance, j.report.LBVM = j.lb.Instances[0], j.lb.Instances[0]
	j.report.LoadBalancer, j.report.Address = loadBalancerName, j.lb.Listeners[0].HostAddress
	return "LBVM " + j.report.LBVM, nil
}

// handshake makes the first verified TLS connection, as a client outside.
func (j *job) handshake(ctx context.Context) (string, error) {
	err := j.poll(ctx, func() (bool, error) {
		dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: j.tlsConfig()}
		conn, err := dialer.DialContext(ctx, "tcp", j.report.Address)
		if err != nil {
			return false, err
		}
		state := conn.(*tls.Conn).ConnectionState()
		j.report.setServed(state.PeerCertificates)
		j.report.TLS = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
		return true, conn.Close()
	})
	if err != nil {
		return "", err
	}
	if j.report.ServedFingerprint != j.report.UploadedFingerprint {
		return "", fmt.Errorf("another certificate is served: %s, uploaded was %s", j.report.ServedFingerprint,
			j.report.UploadedFingerprint)
	}
	return j.report.Address, nil
}

func (j *job) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: j.ca.Pool(), ServerName: j.cfg.Hostname, MinVersion: tls.VersionTLS12}
}

// askBackends asks for pages until both backends have answered.
func (j *job) askBackends(ctx context.Context) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: j.tlsConfig(), DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, j.report.Address)
		},
	}}
	err := j.poll(ctx, func() (bool, error) {
		answer, err := ask(ctx, client, "https://"+j.cfg.Hostname+"/")
		if err != nil {
			return false, err
		}
		known := slices.ContainsFunc(j.report.Answers, func(a Answer) bool { return a.InstanceID == answer.InstanceID })
		if !known {
			j.report.Answers = append(j.report.Answers, answer)
		}
		return len(
				j.report.Answers,
			) == len(
				j.backs,
			), fmt.Errorf(
				"%d of %d backends answered",
				len(j.report.Answers),
				len(j.backs),
			)
	})
	return "", err
}

func ask(ctx context.Context, client *http.Client, url string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Answer{}, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	var page struct {
		InstanceID string `json:"instance"`
		Text       string `json:"text"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&page); err != nil {
		return Answer{}, fmt.Errorf("GET %s: read the page: %w", url, err)
	}
	return Answer{InstanceID: page.InstanceID, Status: resp.Status, Text: page.Text}, nil
}

// poll calls try until it says true; when time runs out its last error is the reason.
func (j *job) poll(ctx context.Context, try func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, j.cfg.StepTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, err := try()
		if done {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// userData encodes user data as RunInstances wants it.
func userData(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
