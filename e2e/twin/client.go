package twin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// clientTimeout bounds one request or handshake.
const clientTimeout = 20 * time.Second

// Page is what a web guest answers with.
type Page struct {
	InstanceID string              `json:"instance"`
	Method     string              `json:"method"`
	Path       string              `json:"path"`
	Headers    map[string][]string `json:"headers"`
	Text       string              `json:"text"`
}

// Client talks to one listener as a client outside would.
type Client struct {
	lb       *LoadBalancer
	port     int
	hostname string
	ca       *pki.Authority // nil for plain listeners
}

// Listener returns a client of the listener on port that trusts the certificate's CA and expects hostname.
func (lb *LoadBalancer) Listener(port int, ca *pki.Authority, hostname string) *Client {
	return &Client{lb: lb, port: port, ca: ca, hostname: hostname}
}

// Plain returns a client of a listener without TLS.
func (lb *LoadBalancer) Plain(port int) *Client { return &Client{lb: lb, port: port} }

// Address is the host:port at which the host reaches the listener.
func (c *Client) Address(ctx context.Context) (string, error) {
	status, err := c.lb.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range status.Listeners {
		if l.Port == c.port {
			return l.HostAddress, nil
		}
	}
	return "", fmt.Errorf("load balancer %s has no listener on port %d", c.lb.Name, c.port)
}

func (c *Client) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: c.ca.Pool(), ServerName: c.hostname, MinVersion: tls.VersionTLS12}
}

// Certificate makes a verified handshake and returns the leaf that was presented.
func (c *Client) Certificate(ctx context.Context) (*x509.Certificate, error) {
	address, err := c.Address(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c.tlsConfig()}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// HTTPClientTrusting is HTTPClient with several CAs trusted, for the time of a change.
func (c *Client) HTTPClientTrusting(ctx context.Context, keepAlive bool, cas ...*pki.Authority) (*http.Client, error) {
	client, err := c.HTTPClient(ctx, keepAlive)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AppendCertsFromPEM(ca.PEM)
	}
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	return client, nil
}

// HTTPClient returns a client whose every connection goes to this listener. With keepAlive connections are used
// again.
func (c *Client) HTTPClient(ctx context.Context, keepAlive bool) (*http.Client, error) {
	address, err := c.Address(ctx)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: !keepAlive,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
	if c.ca != nil {
		transport.TLSClientConfig = c.tlsConfig()
	}
	return &http.Client{Timeout: clientTimeout, Transport: transport}, nil
}

// Get asks for a page on a new connection.
func (c *Client) Get(ctx context.Context, path string) (*Page, error) {
	client, err := c.HTTPClient(ctx, false)
	if err != nil {
		return nil, err
	}
	return c.GetWith(ctx, client, path)
}

// GetWith asks for a page with a client that HTTPClient made.
func (c *Client) GetWith(ctx context.Context, client *http.Client, path string) (*Page, error) {
	var page Page
	body, err := c.do(ctx, client, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return &page, nil
}

// Post sends an empty POST, which web guests take as control.
func (c *Client) Post(ctx context.Context, path string) error {
	client, err := c.HTTPClient(ctx, false)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, client, http.MethodPost, path)
	return err
}

func (c *Client) do(ctx context.Context, client *http.Client, method, path string) ([]byte, error) {
	scheme, host := "http", c.hostname
	if c.ca != nil {
		scheme = "https"
	}
	if host == "" {
		host = "load-balancer.test"
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://"+host+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// Refused tells whether nobody listens: a connection is refused or ends before a TLS handshake could begin.
func (c *Client) Refused(ctx context.Context) (bool, error) {
	address, err := c.Address(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return true, nil
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return false, err
	}
	// The node accepts on the host's side and closes when the guest does not: what comes back is an end, not bytes.
	probe := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	return probe.HandshakeContext(ctx) != nil, nil
}
