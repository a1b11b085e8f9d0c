package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/cloud"
)

const (
	// signedSet is how many different requests are signed beforehand. Each has its own second, and so its own
	// signature; all are young enough for any check.
	signedSet = 60
	maxBody   = 64 << 20
)

// benchCallerIdentity measures the least that an authenticated request can be.
func benchCallerIdentity(ctx context.Context, s *suite) (err error) {
	c, err := startCloud(ctx, s.room)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return compareAPI(ctx, s, c, nameCallerIdentity, apiCall{
		service: "sts", form: url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}},
		wants: ":root</Arn>", times: 1,
	})
}

// apiCall is one operation and how its answer is known to be right.
type apiCall struct {
	service string
	form    url.Values
	wants   string // what the answer holds,
	times   int    // and how often
}

// compareAPI drives an operation with signed requests over loopback connections, and then an HTTP server that does
// nothing but send the same answer to the same requests.
func compareAPI(ctx context.Context, s *suite, c *cloud.Cloud, name string, call apiCall) error {
	cfg, err := clientConfig(ctx, c, c.Endpoint())
	if err != nil {
		return err
	}
	signed, err := sign(ctx, cfg, c.Endpoint(), call)
	if err != nil {
		return err
	}
	workers := 2 * runtime.GOMAXPROCS(0)
	product := newClient(c.Endpoint(), signed, workers)
	defer product.close()
	answer, err := product.ask(ctx, 0)
	if err != nil {
		return err
	}
	if n := bytes.Count(answer, []byte(call.wants)); n != call.times {
		return fmt.Errorf("the answer holds %q %d times, want %d", call.wants, n, call.times)
	}
	plain, err := servePlain(ctx, answer)
	if err != nil {
		return err
	}
	defer plain.close()
	peer := newClient(plain.url, signed, workers)
	defer peer.close()
	var answered, possible rate
	for range turns {
		r, err := drive(ctx, workers, turn, func(worker int) error { return product.discard(ctx, worker) })
		if err != nil {
			return err
		}
		answered.add(r)
		if r, err = drive(ctx, workers, turn, func(worker int) error { return peer.discard(ctx, worker) }); err != nil {
			return err
		}
		possible.add(r)
	}
	s.emit(result{Name: name, Value: answered.perSecond(), Unit: perSecond}.
		against(fmt.Sprintf("net/http sending the same %d bytes", len(answer)), possible.perSecond(), aim{}))
	return nil
}

// signedRequest is a request's headers and body.
type signedRequest struct {
	header http.Header
	body   []byte
}

func sign(ctx context.Context, cfg aws.Config, endpoint string, call apiCall) ([]signedRequest, error) {
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	body := []byte(call.form.Encode())
	sum := sha256.Sum256(body)
	signer, now := v4.NewSigner(), time.Now()
	signed := make([]signedRequest, signedSet)
	for i := range signed {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if err := signer.SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), call.service, cfg.Region,
			now.Add(-time.Duration(i)*time.Second)); err != nil {
			return nil, fmt.Errorf("sign request: %w", err)
		}
		signed[i] = signedRequest{req.Header, body}
	}
	return signed, nil
}

// client sends signed requests over kept connections, one for each worker.
type client struct {
	url    string
	signed []signedRequest
	next   []int // by worker
	http   *http.Client
}

func newClient(endpoint string, signed []signedRequest, workers int) *client {
	return &client{url: endpoint + "/", signed: signed, next: make([]int, workers), http: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

func (c *client) send(ctx context.Context, worker int) (*http.Response, error) {
	signed := c.signed[(worker+c.next[worker])%len(c.signed)]
	c.next[worker]++
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(signed.body))
	if err != nil {
		return nil, err
	}
	req.Header = signed.header
	return c.http.Do(req)
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

// plainServer sends one body to whoever asks.
type plainServer struct {
	url  string
	http *http.Server
	done chan struct{}
}

func servePlain(ctx context.Context, body []byte) (*plainServer, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &plainServer{url: "http://" + listener.Addr().String(), done: make(chan struct{})}
	p.http = &http.Server{ReadHeaderTimeout: dialTimeout, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
			w.Header().Set("Content-Type", "text/xml")
			_, _ = w.Write(body)
		})}
	go func() {
		defer close(p.done)
		_ = p.http.Serve(listener) // it ends with Close
	}()
	return p, nil
}

func (p *plainServer) close() {
	_ = p.http.Close()
	<-p.done
}
