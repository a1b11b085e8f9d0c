package balancer_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	lbIP     = "10.64.0.5"
	clientIP = "10.64.0.1"
)

// rig is a balancer with one port and a network around it.
type rig struct {
	t     *testing.T
	net   *memnet.Network
	lb    *balancer.Balancer
	front *balancer.Frontend
	port  string
}

// newRig opens one port, 443 for secure protocols and 80 for others; edit may change the configurations first.
func newRig(
	t *testing.T, protocol balancer.Protocol, route balancer.Route, edit ...func(*balancer.Config),
) *rig {
	t.Helper()
	r := &rig{t: t, net: &memnet.Network{}, port: "80"}
	cfg := balancer.Config{Dial: r.net.Host(lbIP).Dial}
	for _, e := range edit {
		e(&cfg)
	}
	var err error
	if r.lb, err = balancer.New(cfg); err != nil {
		t.Fatal(err)
	}
	front := balancer.FrontendConfig{Protocol: protocol, Port: 80, Route: route}
	if protocol.Secure() {
		r.port, front.Port, front.Certificate = "443", 443, newCertificate(t)
	}
	if front.Listener, err = r.net.Host(lbIP).Listen("tcp", ":"+r.port); err != nil {
		t.Fatal(err)
	}
	if r.front, err = r.lb.Open(front); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		r.front.Close(ended)
		r.lb.Close()
	})
	return r
}

// backends registers instances and waits until all are in service that will be; for tests inside a bubble.
func (r *rig) backends(ips ...string) {
	r.t.Helper()
	r.register(ips...)
	synctest.Wait()
}

// register registers instances i-1, i-2, … at these addresses, checked on TCP port 80.
func (r *rig) register(ips ...string) {
	r.t.Helper()
	var list []balancer.Backend
	for i, ip := range ips {
		list = append(list, balancer.Backend{InstanceID: "i-" + string(rune('1'+i)), Address: ip, Report: true})
	}
	r.lb.Pool.Set(list, balancer.HealthPolicy{
		Target: balancer.Target{Protocol: balancer.TCP, Port: 80}, Interval: time.Hour,
	})
}

// backend serves HTTP on port 80 of a host until the test ends; secure makes it HTTPS.
func (r *rig) backend(ip string, secure bool, handler http.HandlerFunc) {
	r.t.Helper()
	listener := r.listen(ip)
	if secure {
		listener = tls.NewListener(listener, serverTLS(r.t))
	}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Hour}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	r.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// accept gives every connection to port 80 of a host to a function; all must end when the connection does.
func (r *rig) accept(ip string, handle func(net.Conn)) {
	r.t.Helper()
	listener := r.listen(ip)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	r.t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
}

func (r *rig) listen(ip string) net.Listener {
	r.t.Helper()
	listener, err := r.net.Host(ip).Listen("tcp", ":80")
	if err != nil {
		r.t.Fatal(err)
	}
	return listener
}

// dial opens a connection to the load balancer.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := r.net.Host(clientIP).Dial(r.t.Context(), "tcp", net.JoinHostPort(lbIP, r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client returns one that connects to the load balancer whatever the URL says.
func (r *rig) client() *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return r.net.Host(clientIP).Dial(ctx, network, net.JoinHostPort(lbIP, r.port))
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (r *rig) get(c *http.Client) (int, string) {
	r.t.Helper()
	answer, err := c.Get("http://www.example.test/")
	return readAnswer(answer, err)
}

func readAnswer(answer *http.Response, err error) (int, string) {
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

// raw sends text over a connection of its own and returns the answer.
func (r *rig) raw(text string) (*http.Response, *bufio.Reader, net.Conn) {
	r.t.Helper()
	conn := r.dial()
	if _, err := io.Copy(conn, strings.NewReader(text)); err != nil {
		r.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer, reader, conn
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func serverTLS(t *testing.T) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*newCertificate(t)}, MinVersion: tls.VersionTLS12}
}

func newCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"www.example.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// sleep passes the bubble's time.
func sleep(d time.Duration) { <-time.After(d) }

// checked is a backend with paths for health checks.
func checked(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ok":
		if r.UserAgent() != "ELB-HealthChecker/1.0" {
			w.WriteHeader(http.StatusForbidden)
		}
	case "/redirect":
		http.Redirect(w, r, "/ok", http.StatusFound)
	case "/slow":
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
		}
	case "/endless":
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 4096))
		}
	}
}
