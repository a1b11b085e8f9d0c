// Package metadata asks the instance metadata service of the guest's network who the guest is and for the credentials
// of its role (IMDSv2: every question carries a session token).
//
// It holds no cache but the session token; Credentials in this package keeps role credentials fresh. What is asked
// with those credentials is in package control.
package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/exchange"
)

const (
	tokenTTLHeader = "X-aws-ec2-metadata-token-ttl-seconds" //nolint:gosec // a header's name, no secret
	tokenHeader    = "X-aws-ec2-metadata-token"             //nolint:gosec // a header's name, no secret
	tokenTTL       = "21600"

	maxToken    = 4 << 10
	maxText     = 4 << 10
	maxDocument = 64 << 10
	// maxUserData is EC2's bound of 16 KB and one byte, to tell what is longer.
	maxUserData = 16<<10 + 1

	defaultTimeout = 10 * time.Second
)

// ErrNone is returned for something that this instance does not have: no role, no user data.
var ErrNone = errors.New("instance has none")

// StatusError is an answer other than 200.
type StatusError struct {
	Path   string
	Status int
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("metadata service answered %d for %s", e.Status, e.Path)
}

// Config of a Client.
type Config struct {
	// BaseURL of the service without a trailing slash, for example http://169.254.169.254. Needed.
	BaseURL string
	// Dial opens connections. Needed.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Traceparent is the step of a trace that the questions are told to be a part of (W3C Trace Context). Empty: of the
	// one that the service names with a session, if any.
	Traceparent string
	// Timeout of one question. Default 10 s, which a software-emulated guest needs at start.
	Timeout time.Duration
}

// Client asks one metadata service. It may be used from several goroutines.
type Client struct {
	http    *exchange.Client
	timeout time.Duration

	given bool // that step was

	mu    sync.Mutex
	token string
	trace []exchange.Field // of the session
}

// New makes a client. Close it when done.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	host := strings.TrimPrefix(cfg.BaseURL, "http://")
	address := host
	if !strings.Contains(address, ":") {
		address += ":80"
	}
	return &Client{
		timeout: cfg.Timeout, given: cfg.Traceparent != "",
		http: exchange.New(exchange.Config{
			Host: host, Fields: exchange.Trace(cfg.Traceparent),
			Dial: func(ctx context.Context) (net.Conn, error) { return cfg.Dial(ctx, "tcp", address) },
		}),
	}
}

// Close drops the connections.
func (c *Client) Close() { c.http.Close() }

// Rest drops idle connections: what is asked next will be asked in hours.
func (c *Client) Rest() { c.http.Rest() }

// ServerTime opens a new session and returns the wall clock of the host, which the service tells with every answer in
// the Date header, in whole seconds. The zero time means that it told none.
func (c *Client) ServerTime(ctx context.Context) (time.Time, error) {
	date, err := c.newToken(ctx)
	if err != nil {
		return time.Time{}, err
	}
	when, err := http.ParseTime(date)
	if err != nil {
		return time.Time{}, nil
	}
	return when, nil
}

// InstanceID returns the id of this instance, i-….
func (c *Client) InstanceID(ctx context.Context) (string, error) {
	body, err := c.get(ctx, "/latest/meta-data/instance-id", maxText)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(body)), nil
}

// UserData returns this instance's user data as they are, at most 16 KB. ErrNone: it was started without any.
func (c *Client) UserData(ctx context.Context) ([]byte, error) {
	body, err := c.get(ctx, "/latest/user-data", maxUserData)
	if err != nil {
		return nil, err
	}
	if len(body) >= maxUserData {
		return nil, errors.New("user data is longer than 16 KB")
	}
	return body, nil
}

// LocalIPv4 returns the address of this instance's network card.
func (c *Client) LocalIPv4(ctx context.Context) (string, error) {
	body, err := c.get(ctx, "/latest/meta-data/local-ipv4", maxText)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(body)), nil
}

// maxPublicKeys bounds how many keys are asked for.
const maxPublicKeys = 16

// PublicKeys returns the keys whose owners may log in, each a line in OpenSSH's format. ErrNone: there are none.
func (c *Client) PublicKeys(ctx context.Context) ([]string, error) {
	const path = "/latest/meta-data/public-keys/"
	listing, err := c.get(ctx, path, maxText)
	if err != nil {
		return nil, err
	}
	var keys []string
	for line := range strings.Lines(string(listing)) {
		index, _, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || len(keys) == maxPublicKeys || strings.Trim(index, "0123456789") != "" {
			continue
		}
		key, err := c.get(ctx, path+index+"/openssh-key", maxDocument)
		if err != nil {
			return nil, err
		}
		keys = append(keys, strings.TrimSpace(string(key)))
	}
	return keys, nil
}

// Role returns the name of the role that this instance holds. ErrNone: it has no instance profile.
func (c *Client) Role(ctx context.Context) (string, error) {
	body, err := c.get(ctx, "/latest/meta-data/iam/security-credentials/", maxText)
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if name == "" {
		return "", ErrNone
	}
	return strings.TrimSpace(name), nil
}

// RoleCredentials returns the present credentials of the role.
func (c *Client) RoleCredentials(ctx context.Context, role string) (Credentials, error) {
	body, err := c.get(ctx, "/latest/meta-data/iam/security-credentials/"+role, maxDocument)
	if err != nil {
		return Credentials{}, err
	}
	return parseCredentials(role, body)
}

// parseCredentials reads the document of RoleCredentials. Its errors hold nothing of the document.
func parseCredentials(role string, document []byte) (Credentials, error) {
	var doc struct {
		Code, AccessKeyID, SecretAccessKey, Token string
		Expiration                                time.Time
	}
	if err := json.NewDecoder(bytes.NewReader(document)).Decode(&doc); err != nil {
		return Credentials{}, errors.New("parse role credentials: malformed document")
	}
	if doc.Code != "" && doc.Code != "Success" {
		return Credentials{}, fmt.Errorf("role credentials are not to be had: code %q", doc.Code)
	}
	if doc.AccessKeyID == "" || doc.SecretAccessKey == "" || doc.Expiration.IsZero() {
		return Credentials{}, errors.New("parse role credentials: incomplete document")
	}
	return Credentials{
		Role: role, AccessKeyID: doc.AccessKeyID, SecretAccessKey: doc.SecretAccessKey,
		Token: doc.Token, Expiration: doc.Expiration,
	}, nil
}

// get asks one path. A token that the service no longer knows is renewed once: tokens end after their time, and a
// metadata service that was started again has forgotten them all.
func (c *Client) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	body, err := c.getOnce(ctx, path, limit)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusUnauthorized {
		return body, err
	}
	if _, err := c.newToken(ctx); err != nil {
		return nil, err
	}
	return c.getOnce(ctx, path, limit)
}

func (c *Client) getOnce(ctx context.Context, path string, limit int64) ([]byte, error) {
	c.mu.Lock()
	token, trace := c.token, c.trace
	c.mu.Unlock()
	if token == "" {
		// A service without sessions answers 401, which ends up here again with a token.
		return nil, &StatusError{Path: path, Status: http.StatusUnauthorized}
	}
	answer, err := c.do(ctx, exchange.Request{
		Method: "GET", Path: path, Limit: limit,
		Fields: append([]exchange.Field{{Name: tokenHeader, Value: token}}, trace...),
	})
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

func (c *Client) newToken(ctx context.Context) (date string, err error) {
	const path = "/latest/api/token"
	answer, err := c.do(ctx, exchange.Request{
		Method: "PUT", Path: path, Fields: []exchange.Field{{Name: tokenTTLHeader, Value: tokenTTL}}, Limit: maxToken,
	})
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(answer.Body))
	if token == "" || strings.ContainsAny(token, "\r\n\x00") {
		return "", errors.New("metadata service gave a malformed session token")
	}
	c.mu.Lock()
	c.token = token
	if !c.given {
		c.trace = exchange.Trace(answer.Traceparent)
	}
	c.mu.Unlock()
	return answer.Date, nil
}

func (c *Client) do(ctx context.Context, request exchange.Request) (*exchange.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.http.Do(ctx, request)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask metadata service: %w", err)
	case answer.Status == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", request.Path, ErrNone)
	case answer.Status != http.StatusOK:
		return nil, &StatusError{Path: request.Path, Status: answer.Status}
	}
	return answer, nil
}
