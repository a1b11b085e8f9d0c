package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// ErrNotRunning means that nobody answers on the socket.
var ErrNotRunning = errors.New("no cloud runs here")

// requestTimeout bounds every call but Follow and those that say otherwise.
const requestTimeout = 10 * time.Second

// maxReply bounds an answer's size.
const maxReply = 64 << 20

// Client talks to a running cloud.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path. Nothing is connected until it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks what runs; ErrNotRunning when nothing does.
func (c *Client) Status(ctx context.Context) (status Status, err error) {
	return status, c.call(ctx, http.MethodGet, "/status", &status)
}

// Credentials asks for the keys with which the AWS APIs may be used.
func (c *Client) Credentials(ctx context.Context) (credentials Credentials, err error) {
	return credentials, c.call(ctx, http.MethodGet, "/credentials", &credentials)
}

// NewNodeToken makes a one-time token with which a node enrols.
func (c *Client) NewNodeToken(ctx context.Context) (token string, err error) {
	return token, c.call(ctx, http.MethodPost, "/node-token", &token)
}

// Request asks for the events of one request, none when it is not known; an empty id means the latest request that
// was denied.
func (c *Client) Request(ctx context.Context, id string) (events []journal.Event, err error) {
	return events, c.call(ctx, http.MethodGet, "/request?id="+url.QueryEscape(id), &events)
}

// Shutdown asks the cloud to end.
func (c *Client) Shutdown(ctx context.Context) error {
	var answer string
	return c.call(ctx, http.MethodPost, "/shutdown", &answer)
}

// Follow hands every event to handle until handle returns false, the cloud ends or ctx does.
func (c *Client) Follow(ctx context.Context, handle func(journal.Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/events", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for decoder := json.NewDecoder(resp.Body); ; {
		var ev journal.Event
		switch err := decoder.Decode(&ev); {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("follow events: %w", err)
		}
		if !handle(ev) {
			return nil
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, into any) error {
	return c.callWithin(ctx, requestTimeout, method, path, into)
}

func (c *Client) callWithin(ctx context.Context, limit time.Duration, method, path string, into any) error {
	return c.sendWithin(ctx, limit, method, path, nil, into)
}

// sendWithin is callWithin with a body.
func (c *Client) sendWithin(ctx context.Context, limit time.Duration, method, path string, body []byte,
	into any,
) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	decoder := json.NewDecoder(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode != http.StatusOK {
		var fault struct{ Error string }
		if err := decoder.Decode(&fault); err != nil {
			return fmt.Errorf("operator %s: %s", path, resp.Status)
		}
		if resp.StatusCode == http.StatusBadRequest {
			return &Refusal{Message: fault.Error}
		}
		return fmt.Errorf("operator %s: %s", path, fault.Error)
	}
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("read operator's answer to %s: %w", path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://operator"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("operator %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if netErr, ok := errors.AsType[*net.OpError](err); ok && netErr.Op == "dial" {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, netErr.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("operator %s: %w", path, err)
	}
	return resp, nil
}
