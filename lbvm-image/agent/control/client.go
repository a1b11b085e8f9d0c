// Package control makes the guest's signed calls to the cloud: its listeners and reports (elb) and the delivery of a
// certificate's key (iam).
//
// It signs, sends and reads answers, bounded in size and time. When to call, and what an answer means for a listener,
// is decided by package agent; the messages themselves are cloud/keydelivery's.
package control

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery/servo"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/exchange"
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
	// Traceparent is the step of a trace that the calls are told to be a part of (W3C Trace Context). Empty: of none.
	Traceparent string
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
	cfg      Config
	iam, elb endpoint
}

// endpoint is one service's address. Services at one address share the connections.
type endpoint struct {
	service string // by which requests to it are signed
	host    string
	path    string
	client  *exchange.Client
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
	c := &Client{cfg: cfg}
	c.iam = newEndpoint(cfg, serviceIAM, cfg.IAM, roots)
	if c.elb = newEndpoint(cfg, serviceELB, cfg.ELB, roots); c.elb.host == c.iam.host {
		c.elb.client = c.iam.client
	}
	return c, nil
}

func newEndpoint(cfg Config, service, base string, roots *x509.CertPool) endpoint {
	u, err := url.Parse(base)
	if err != nil {
		return endpoint{} // Validate has parsed it
	}
	port := cmp.Or(u.Port(), "443")
	dialer := &secureDialer{
		dial: cfg.Dial, address: net.JoinHostPort(u.Hostname(), port), timeout: cfg.Timeout,
		tls: &tls.Config{
			RootCAs:    roots,
			ServerName: u.Hostname(),
			MinVersion: tls.VersionTLS12,
			Time:       cfg.Now,
			// P-256 alone, which LBPK needs anyway: each further exchange is code that an emulated guest has to
			// translate, the post-quantum one most of all.
			CurvePreferences: []tls.CurveID{tls.CurveP256},
			// A handshake is dear in a software-emulated guest; a connection lost is resumed cheaply.
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		},
	}
	// The default port is left out, as it is in what other clients sign.
	host := strings.TrimSuffix(u.Host, ":443")
	return endpoint{
		service: service, host: host, path: cmp.Or(u.EscapedPath(), "/"),
		client: exchange.New(exchange.Config{Dial: dialer.open, Host: host, Fields: exchange.Trace(cfg.Traceparent)}),
	}
}

// secureDialer opens connections to the cloud.
type secureDialer struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	address string
	timeout time.Duration
	tls     *tls.Config
}

func (d *secureDialer) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	return secure, nil
}

// Close ends the connections.
func (c *Client) Close() {
	c.iam.client.Close()
	c.elb.client.Close()
}

// Connect opens the connection to elb, so that the first call need not wait for it.
func (c *Client) Connect(ctx context.Context) error {
	if err := c.elb.client.Connect(ctx); err != nil {
		return fmt.Errorf("reach the cloud: %w", err)
	}
	return nil
}

// Describe returns what instanceID is to serve: at once when revision is empty or old, else when it changes or after
// wait, whichever is first.
func (c *Client) Describe(
	ctx context.Context, instanceID, revision string, wait time.Duration,
) (*servo.Description, error) {
	form := servo.DescribeForm(instanceID, revision, wait)
	body, err := c.call(ctx, call{endpoint: c.elb, form: form, limit: maxDescription, wait: wait})
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
	if _, err := c.call(ctx, call{endpoint: c.elb, form: states.Form(instanceID), limit: maxOther}); err != nil {
		return fmt.Errorf("put states: %w", err)
	}
	return nil
}

// Download sends a delivery's request and returns the answer, not yet verified. The request is sent once:
// exchange.ErrStale when that was to a connection that the cloud had closed, upon which the caller makes another
// request.
func (c *Client) Download(ctx context.Context, request *keydelivery.Request) (*keydelivery.Answer, error) {
	body, err := c.call(ctx, call{endpoint: c.iam, form: request.Form(), limit: maxAnswer, once: true})
	if err != nil {
		return nil, fmt.Errorf("download server certificate: %w", err)
	}
	answer, err := keydelivery.ParseAnswer(body)
	if err != nil {
		return nil, fmt.Errorf("download server certificate: %w: %w", ErrMalformed, err)
	}
	return answer, nil
}

// call is one request.
type call struct {
	endpoint endpoint
	form     url.Values
	limit    int64         // of the answer, in bytes
	wait     time.Duration // how long the cloud is asked to wait
	once     bool
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
	credentials, err := c.cfg.Credentials.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	body := []byte(what.form.Encode())
	answer, err := what.endpoint.client.Do(ctx, exchange.Request{
		Method: "POST", Path: what.endpoint.path, Body: body, Limit: what.limit, Once: what.once,
		Fields: sign(what.endpoint, c.cfg.Region, credentials, c.cfg.Now(), body),
	})
	switch {
	case errors.Is(err, exchange.ErrTooLong), errors.Is(err, exchange.ErrMalformed):
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	case err != nil:
		return nil, fmt.Errorf("reach the cloud: %w", err)
	case answer.Status != http.StatusOK:
		return nil, parseError(answer.Status, answer.Body)
	}
	return answer.Body, nil
}
