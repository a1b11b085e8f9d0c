package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// answerTimeout is how long a client waits for one answer.
const answerTimeout = time.Minute

// client sends signed requests over kept connections, one for each worker. It shares the cores with what it measures
// and is a load generator, not a stack that a user has: requests are bytes that were made beforehand, and one goroutine
// writes them and reads the answers. net/http's client takes as long for a request as its server.
type client struct {
	address  string
	requests [][]byte
	next     []int         // by worker
	kept     []*connection // by worker
}

type connection struct {
	net.Conn
	answers *bufio.Reader
}

// newClient makes a client of an endpoint, which is http://HOST:PORT.
func newClient(endpoint string, requests [][]byte, workers int) *client {
	return &client{address: strings.TrimPrefix(endpoint, "http://"), requests: requests, next: make([]int, workers),
		kept: make([]*connection, workers)}
}

func (c *client) close() {
	for _, conn := range c.kept {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// send returns the answer to a worker's next request. Its body is to be read to the end before the worker sends again.
func (c *client) send(ctx context.Context, worker int) (*http.Response, error) {
	conn := c.kept[worker]
	if conn == nil {
		dialled, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", c.address)
		if err != nil {
			return nil, err
		}
		conn = &connection{dialled, bufio.NewReader(dialled)}
		c.kept[worker] = conn
	}
	request := c.requests[(worker+c.next[worker])%len(c.requests)]
	c.next[worker]++
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(conn.answers, nil)
	if err == nil && resp.Close {
		err = errors.New("the connection is not kept")
	}
	return resp, err
}

// ask returns the answer.
func (c *client) ask(ctx context.Context, worker int) ([]byte, error) {
	resp, err := c.send(ctx, worker)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answer is %s: %.500s", resp.Status, body)
	}
	return body, err
}

// discard reads the answer to its end and forgets it.
func (c *client) discard(ctx context.Context, worker int) error {
	resp, err := c.send(ctx, worker)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer is %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	return err
}
