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
	return compareAPIAs(ctx, s, c, cfg, name, call)
}

// compareAPIAs is compareAPI with other credentials than the root user's.
func compareAPIAs(ctx context.Context, s *suite, c *cloud.Cloud, cfg aws.Config, name string, call apiCall) error {
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
	var allocated, allocatedByPeer uint64
	for range turns {
		before := allocatedSoFar()
		r, err := drive(ctx, workers, turn, func(worker int) error { return product.discard(ctx, worker) })
		if err != nil {
			return err
		}
		answered.add(r)
		between := allocatedSoFar()
		if r, err = drive(ctx, workers, turn, func(worker int) error { return peer.discard(ctx, worker) }); err != nil {
			return err
		}
		possible.add(r)
		allocated, allocatedByPeer = allocated+between-before, allocatedByPeer+allocatedSoFar()-between
	}
	s.emit(result{Name: name, Value: answered.perSecond(), Unit: perSecond}.
		against(fmt.Sprintf("net/http sending the same %d bytes", len(answer)), possible.perSecond(), aim{}))
	return s.emitTimes(ctx, name, product, perRequest(allocated, answered)-perRequest(allocatedByPeer, possible))
}

// sign returns requests as they go over the wire.
func sign(ctx context.Context, cfg aws.Config, endpoint string, call apiCall) ([][]byte, error) {
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	body := []byte(call.form.Encode())
	sum := sha256.Sum256(body)
	signer, now := v4.NewSigner(), time.Now()
	signed := make([][]byte, signedSet)
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
		var written bytes.Buffer
		if err := req.Write(&written); err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		signed[i] = written.Bytes()
	}
	return signed, nil
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
