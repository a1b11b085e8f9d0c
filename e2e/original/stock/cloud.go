package stock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	metadataURL = "http://169.254.169.254/latest/"
	timeout     = 10 * time.Second
	maxAnswer   = 1 << 20
)

// metadata reads an item without a token.
func metadata(ctx context.Context, item string) (string, error) {
	body, err := fetch(ctx, http.MethodGet, metadataURL+item, "", nil)
	return strings.TrimSpace(string(body)), err
}

// fetch makes one request; sign may sign it.
func fetch(ctx context.Context, method, target, body string, sign func(*http.Request) error) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	}
	if sign != nil {
		if err := sign(r); err != nil {
			return nil, err
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, r.URL.Path, resp.Status, text)
	}
	return text, err
}

// cloud is the cloud as the guest reaches it.
type cloud struct {
	balancing, identity string // URLs
	keys                aws.Credentials
}

// call makes a request that is signed with the role's credentials, for whichever service and region old clients put
// there.
func (c *cloud) call(ctx context.Context, method, target string, form url.Values, service, region string) (
	[]byte, error) {
	if time.Until(c.keys.Expires) < time.Minute {
		if err := c.renew(ctx); err != nil {
			return nil, err
		}
	}
	body := ""
	if method == http.MethodGet {
		target += "?" + form.Encode()
	} else {
		body = form.Encode()
	}
	digest := sha256.Sum256([]byte(body))
	return fetch(ctx, method, target, body, func(r *http.Request) error {
		return v4.NewSigner().SignHTTP(ctx, c.keys, r, hex.EncodeToString(digest[:]), service, region, time.Now())
	})
}

func (c *cloud) renew(ctx context.Context) error {
	const path = "meta-data/iam/security-credentials/"
	role, err := metadata(ctx, path)
	if err != nil {
		return err
	}
	text, err := metadata(ctx, path+role)
	if err != nil {
		return err
	}
	var k struct {
		AccessKeyID, SecretAccessKey, Token string
		Expiration                          time.Time
	}
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return fmt.Errorf("credentials of %s are no JSON", role)
	}
	c.keys = aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.Token,
		CanExpire: true, Expires: k.Expiration}
	return nil
}

func (c *cloud) download(ctx context.Context, form url.Values) ([]byte, error) {
	return c.call(ctx, http.MethodPost, c.identity, form, "euare", "us-east-1")
}

// description is what the guest is to serve.
type description struct {
	Balancers []balancer `xml:"DescribeLoadBalancersByServoResult>LoadBalancerDescriptions>member"`
	Interval  int        `xml:"ServoResponseMetadata>GetLBInterval"`
}

type balancer struct {
	Listeners []wanted  `xml:"ListenerDescriptions>member"`
	Backends  []backend `xml:"BackendInstances>member"`
	Target    string    `xml:"HealthCheck>Target"`
}

type wanted struct {
	Protocol    string `xml:"Listener>Protocol"`
	Port        int    `xml:"Listener>LoadBalancerPort"`
	BackendPort int    `xml:"Listener>InstancePort"`
	ARN         string `xml:"Listener>SSLCertificateId"`
}

type backend struct {
	ID string `xml:"InstanceId"`
	IP string `xml:"InstanceIpAddress"`
}

func (c *cloud) describe(ctx context.Context, instance string) (*description, error) {
	text, err := c.call(ctx, http.MethodGet, c.balancing, url.Values{"Action": {"DescribeLoadBalancersByServo"},
		"Version": {"2012-06-01"}, "InstanceId": {instance}}, "elasticloadbalancing", "undefined-region")
	if err != nil {
		return nil, err
	}
	var d description
	if err := xml.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read what to serve: %w", err)
	}
	return &d, nil
}

// report sends one kind of states.
func (c *cloud) report(ctx context.Context, instance string, fields url.Values) error {
	fields.Set("Action", "PutServoStates")
	fields.Set("Version", "2012-06-01")
	fields.Set("InstanceId", instance)
	_, err := c.call(ctx, http.MethodGet, c.balancing, fields, "elasticloadbalancing", "us-east-1")
	return err
}

// reportHealth tells which backends answer.
func (c *cloud) reportHealth(ctx context.Context, instance string, healthy map[string]bool) error {
	fields, n := url.Values{}, 0
	for id, up := range healthy {
		n++
		state := ":OutOfService"
		if up {
			state = ":InService"
		}
		fields.Set(fmt.Sprintf("Instances.member.%d.InstanceId", n), id+state)
	}
	if n == 0 {
		return nil
	}
	return c.report(ctx, instance, fields)
}

// reportNumbers tells how many requests were answered since the last time.
func (c *cloud) reportNumbers(ctx context.Context, instance string, answered int) error {
	return c.report(ctx, instance, url.Values{"MetricData.member.1.MetricName": {"RequestCount"},
		"MetricData.member.1.Unit": {"Count"}, "MetricData.member.1.Value": {strconv.Itoa(answered)}})
}
