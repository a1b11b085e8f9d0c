// Package control makes the guest's signed calls to the cloud: its listeners and reports (elb) and the delivery of a
// certificate's key (iam).
//
// It signs, sends and reads answers, bounded in size and time. When to call, and what an answer means for a listener,
// is decided by package agent; the messages themselves are cloud/keydelivery's.
package control

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

const (
	defaultTimeout = 15 * time.Second
	maxDescription = 4 << 20
	maxAnswer      = 256 << 10
	maxOther       = 64 << 10

	// The names by which requests are signed.
	serviceIAM = "iam"
	serviceELB = "elasticloadbalancing"
)

// CredentialSource gives the credentials that sign requests.
type CredentialSource interface {
	// Credentials returns credentials that are valid now.
	Credentials(ctx context.Context) (metadata.Credentials, error)
	// Invalidate says that the cloud refused them.
	Invalidate()
}

// Config of a Client.
type Config struct {
	// IAM and ELB are the services' endpoints, https URLs. Needed.
	IAM, ELB string
	// Region by which requests are signed. Default us-east-1.
	Region string
	// CAPEM is what signed the endpoints' certificates. Needed.
	CAPEM []byte
	// Dial opens connections. Needed.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the wall clock. Needed.
	Now func() time.Time
	// Credentials sign the requests. Needed.
	Credentials CredentialSource
	// Timeout of one call, beside the time it asks the cloud to wait. Default 15 s.
	Timeout time.Duration
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	for name, endpoint := range map[string]string{"iam": c.IAM, "elb": c.ELB} {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("%s endpoint %.100q is no https URL", name, endpoint))
		}
	}
	if c.Dial == nil || c.Now == nil || c.Credentials == nil {
		errs = append(errs, errors.New("dialer, clock and credentials are needed"))
	}
	return errors.Join(errs...)
}

// Client calls one cloud. It may be used from several goroutines.
type Client struct {
	cfg    Config
	http   *http.Client
	signer *v4.Signer
}

// New makes a client. Close it when done.
func New(cfg Config) (*Client, error) {
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure control client: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cfg.CAPEM) {
		return nil, errors.New("configure control client: no certificate in the cloud's CA")
	}
	transport := &http.Transport{
		DialContext: cfg.Dial,
		TLSClientConfig: &tls.Config{
			RootCAs:    roots,
			MinVersion: tls.VersionTLS12,
			Time:       cfg.Now,
			// A handshake is dear in a software-emulated guest; a connection lost is resumed cheaply.
			ClientSessionCache: tls.NewLRUClientSessionCache(4),
		},
		// One connection carries the long poll and all other calls, so the guest makes one handshake at start.
		ForceAttemptHTTP2: true,
		// A connection that died without a word is found by these and not by the next call's timeout.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: cfg.Timeout, PingTimeout: cfg.Timeout},
		TLSHandshakeTimeout:    cfg.Timeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxOther,
		IdleConnTimeout:        2 * time.Minute,
	}
	client := &http.Client{
		Transport: transport,
		// A signed request is meant for one endpoint.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{cfg: cfg, http: client, signer: v4.NewSigner()}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Describe returns what instanceID is to serve: at once when revision is empty or old, else when it changes or after
// wait, whichever is first.
func (c *Client) Describe(
	ctx context.Context, instanceID, revision string, wait time.Duration,
) (*servo.Description, error) {
	form := servo.DescribeForm(instanceID, revision, wait)
	body, err := c.call(ctx, call{serviceELB, c.cfg.ELB, form, maxDescription, wait})
	if err != nil {
		return nil, fmt.Errorf("describe load balancers: %w", err)
	}
	description, err := servo.ParseDescription(body)
	if err != nil {
		return nil, fmt.Errorf("describe load balancers: %w: %w", ErrMalformed, err)
	}
	return description, nil
}

// PutStates reports what instanceID sees of its backends.
func (c *Client) PutStates(ctx context.Context, instanceID string, states *servo.States) error {
	if _, err := c.call(ctx, call{serviceELB, c.cfg.ELB, states.Form(instanceID), maxOther, 0}); err != nil {
		return fmt.Errorf("put states: %w", err)
	}
	return nil
}

// Download sends a delivery's request and returns the answer, not yet verified.
func (c *Client) Download(ctx context.Context, request *keydelivery.Request) (*keydelivery.Answer, error) {
	body, err := c.call(ctx, call{serviceIAM, c.cfg.IAM, request.Form(), maxAnswer, 0})
	if err != nil {
		return nil, fmt.Errorf("download server certificate: %w", err)
	}
	answer, err := keydelivery.ParseAnswer(body)
	if err != nil {
		return nil, fmt.Errorf("download server certificate: %w: %w", ErrMalformed, err)
	}
	return answer, nil
}

// call is one request: where, what, how much may come back, and how long the cloud was asked to wait.
type call struct {
	service  string
	endpoint string
	form     url.Values
	limit    int64
	wait     time.Duration
}

// call sends a request. Credentials that the cloud no longer takes are replaced once: it may have been started again
// with other sealing keys, or they ended under way.
func (c *Client) call(ctx context.Context, what call) ([]byte, error) {
	body, err := c.once(ctx, what)
	var refused *Error
	if !errors.As(err, &refused) || !refused.credentials() {
		return body, err
	}
	c.cfg.Credentials.Invalidate()
	return c.once(ctx, what)
}

func (c *Client) once(ctx context.Context, what call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout+what.wait)
	defer cancel()
	request, err := c.sign(ctx, what)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reach the cloud: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, what.limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the cloud's answer: %w", err)
	case int64(len(body)) > what.limit:
		return nil, fmt.Errorf("answer of more than %d bytes: %w", what.limit, ErrMalformed)
	case answer.StatusCode != http.StatusOK:
		return nil, parseError(answer.StatusCode, body)
	}
	return body, nil
}

func (c *Client) sign(ctx context.Context, what call) (*http.Request, error) {
	text := what.form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, what.endpoint, strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if request.URL.Path == "" {
		request.URL.Path = "/"
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := c.cfg.Credentials.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	digest := sha256.Sum256([]byte(text))
	err = c.signer.SignHTTP(ctx, aws.Credentials{
		AccessKeyID:     credentials.AccessKeyID,
		SecretAccessKey: credentials.SecretAccessKey,
		SessionToken:    credentials.Token,
	}, request, hex.EncodeToString(digest[:]), what.service, c.cfg.Region, c.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	return request, nil
}
