// Package station is a machine on the guests' wire that does what a spec tells it: it puts frames on the wire byte for
// byte, tells which frames came in, asks HTTP servers, and routes for other guests. e2e/spoof/guest runs it as the
// first process of a real guest, beside a web server; the spec commands it over HTTP through Client.
//
// Nothing in here knows what is forbidden: what a frame is and what must become of it is the spec's business.
package station

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Port is where a station takes its orders.
const Port = 8000

// Paths of the orders.
const (
	pathSend   = "/send"
	pathHeard  = "/heard"
	pathAsk    = "/ask"
	pathTalk   = "/talk"
	pathMTU    = "/mtu"
	pathRoute  = "/route"
	pathRouted = "/routed"
)

// sendOrder has frames sent, all of them Times times.
type sendOrder struct {
	Frames [][]byte
	Times  int
}

// Heard is what came in since a station was asked last, without what concerned its orders.
type Heard struct {
	Frames [][]byte
	Lost   int // further frames, for which there was no room
}

// Question is an HTTP request that the station's kernel connects for.
type Question struct {
	Method  string
	URL     string
	Header  http.Header
	Host    string        // in place of the URL's; empty means the URL's
	Timeout time.Duration // zero means 10 s
}

// Answer is what came of a Question.
type Answer struct {
	Status int // zero: there was no answer, and Error says why
	Header http.Header
	Body   string
	Error  string
}

// Talk is bytes that the station's kernel sends over one TCP connection, all at once.
type Talk struct {
	To      netip.AddrPort
	Send    string
	Timeout time.Duration // how long it listens
}

// Route has a station carry TCP connections on: what Client sends to its port At goes to the address To with the
// station's own source address, and the answers back. As a router does, it takes one hop from each packet.
type Route struct {
	At     uint16
	To     netip.AddrPort
	Client netip.Addr
}

// Routed counts the packets of a station's route.
type Routed struct {
	Passed  int
	Expired int // with no hop left
}

// Client commands a station.
type Client struct{ http *http.Transport }

// NewClient makes a client; dial connects to the station's Port.
func NewClient(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{http: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
}

// Close lets go of the station.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// patience bounds one order, the station's own waiting apart.
const patience = 20 * time.Second

// Send puts frames on the wire, in order. An error says that the station's kernel did not take one.
func (c *Client) Send(ctx context.Context, frames ...[]byte) error {
	return c.SendTimes(ctx, 1, frames...)
}

// SendTimes sends frames again and again.
func (c *Client) SendTimes(ctx context.Context, times int, frames ...[]byte) error {
	return c.order(ctx, pathSend, sendOrder{Frames: frames, Times: times}, nil)
}

// Heard returns the frames that came in since it was called last.
func (c *Client) Heard(ctx context.Context) (Heard, error) {
	var h Heard
	err := c.order(ctx, pathHeard, nil, &h)
	return h, err
}

// Ask has the station ask an HTTP server.
func (c *Client) Ask(ctx context.Context, q Question) (Answer, error) {
	var a Answer
	err := c.order(ctx, pathAsk, q, &a)
	return a, err
}

// Talk has the station send bytes over a connection, and returns what came back until the other side closed it or the
// time was over.
func (c *Client) Talk(ctx context.Context, t Talk) (string, error) {
	var heard string
	err := c.order(ctx, pathTalk, t, &heard)
	return heard, err
}

// SetMTU lets the station send longer frames, or no longer.
func (c *Client) SetMTU(ctx context.Context, mtu int) error { return c.order(ctx, pathMTU, mtu, nil) }

// Route begins a route in place of the one before; the zero Route ends it. Meanwhile the station's kernel cannot reach
// the route's two ends itself.
func (c *Client) Route(ctx context.Context, r Route) error { return c.order(ctx, pathRoute, r, nil) }

// Routed returns the counts of the present route.
func (c *Client) Routed(ctx context.Context) (Routed, error) {
	var r Routed
	err := c.order(ctx, pathRouted, nil, &r)
	return r, err
}

func (c *Client) order(ctx context.Context, path string, order, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("order %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://station"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("order %s: %w", path, err)
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("order %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("order %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("order %s: %s: %s", path, resp.Status, bytes.TrimSpace(text))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("order %s: %w", path, err)
	}
	return nil
}
