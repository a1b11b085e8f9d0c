package balancer_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/balancer"
)

// halfCloser is a connection whose writing direction can end alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// TestStreams carries bytes through all pairs of protocols: the backend answers only after the client's end.
func TestStreams(t *testing.T) {
	for _, protocol := range []balancer.Protocol{balancer.TCP, balancer.SSL} {
		for _, inner := range []balancer.Protocol{balancer.TCP, balancer.SSL} {
			t.Run(string(protocol)+" to "+string(inner), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, protocol, balancer.Route{Protocol: inner, Port: 80})
					config := serverTLS(t)
					r.accept("10.64.0.11", func(conn net.Conn) {
						if inner.Secure() {
							conn = tls.Server(conn, config)
						}
						body, err := io.ReadAll(conn)
						if err != nil {
							return // a health check
						}
						_, _ = conn.Write(bytes.ToUpper(body))
						_ = conn.(halfCloser).CloseWrite()
					})
					r.backends("10.64.0.11")
					conn := r.dial().(halfCloser)
					if protocol.Secure() {
						conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
					}
					sent := bytes.Repeat([]byte("abc"), 100<<10)
					go func() {
						_, _ = conn.Write(sent)
						_ = conn.CloseWrite()
					}()
					got, err := io.ReadAll(conn)
					if err != nil || !bytes.Equal(got, bytes.ToUpper(sent)) {
						t.Errorf("got %d bytes, %v", len(got), err)
					}
				})
			})
		}
	}
}

// TestStreamIdle: one direction's bytes keep both alive; silence in both ends the connection.
func TestStreamIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80, Idle: 8 * time.Second})
		r.accept("10.64.0.11", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "hello\n")
			_, _ = io.Copy(io.Discard, conn)
		})
		r.backends("10.64.0.11")
		conn := r.dial()
		reader := bufio.NewReader(conn)
		if line, err := reader.ReadString('\n'); line != "hello\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		for range 5 {
			sleep(7 * time.Second)
			if _, err := io.WriteString(conn, "x"); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		_, err := reader.ReadByte()
		if took := time.Since(began); !errors.Is(err, syscall.ECONNRESET) || took < 8*time.Second || took > 10*time.Second {
			t.Errorf("ended after %s with %v", took, err)
		}
	})
}

// TestStreamStuck: a client that takes nothing does not hold its backend for ever.
func TestStreamStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80, Idle: 8 * time.Second})
		ended := make(chan time.Time, 2)
		r.accept("10.64.0.11", func(conn net.Conn) {
			var err error
			for err == nil {
				_, err = conn.Write(make([]byte, 32<<10))
			}
			ended <- time.Now()
		})
		r.backends("10.64.0.11")
		<-ended // the health check's
		began := time.Now()
		_ = r.dial()
		if took := (<-ended).Sub(began); took > 20*time.Second {
			t.Errorf("ended after %s", took)
		}
	})
}

// TestStreamRetry: a backend that refuses is passed over; without any the client is let go.
func TestStreamRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
		hello := func(conn net.Conn) { _, _ = io.WriteString(conn, "two") }
		gone := r.listen("10.64.0.11")
		r.accept("10.64.0.12", hello)
		r.backends("10.64.0.11", "10.64.0.12")
		_ = gone.Close()
		for range 2 {
			if got, err := io.ReadAll(r.dial()); string(got) != "two" {
				t.Errorf("got %q, %v", got, err)
			}
		}
		r.backends()
		if got, err := io.ReadAll(r.dial()); len(got) > 0 || err != nil {
			t.Errorf("without backends got %q, %v", got, err)
		}
	})
}

// TestStreamClose ends connections that outlast the drain.
func TestStreamClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, balancer.TCP, balancer.Route{Protocol: balancer.TCP, Port: 80})
		r.accept("10.64.0.11", func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
		r.backends("10.64.0.11")
		conn := r.dial()
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r.front.Close(ctx)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("closed after %s", took)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
			t.Error("the connection goes on")
		}
	})
}

// TestStreamOverKernel carries bytes over the host's own TCP, where they are moved without being copied.
func TestStreamOverKernel(t *testing.T) {
	var local net.ListenConfig
	echo, err := local.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = echo.Close() }()
	go func() {
		for conn, err := echo.Accept(); err == nil; conn, err = echo.Accept() {
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	lb, err := balancer.New(balancer.Config{Dial: (&net.Dialer{}).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := local.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := echo.Addr().(*net.TCPAddr).Port
	front, err := lb.Open(balancer.FrontendConfig{
		Listener: listener, Protocol: balancer.TCP, Port: 80,
		Route: balancer.Route{Protocol: balancer.TCP, Port: port, Idle: 2 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lb.Close()
	defer front.Close(t.Context())
	lb.Pool.Set([]balancer.Backend{{InstanceID: "i-1", Address: "127.0.0.1", Report: true}}, balancer.HealthPolicy{
		Target: balancer.Target{Protocol: balancer.TCP, Port: port}, Healthy: 1,
	})
	for lb.Pool.States()["i-1"] != balancer.InService {
		<-lb.Pool.Changed()
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 8<<20)
	_, _ = rand.Read(sent)
	go func() {
		// A pause of more than a tick between the halves, but not of the idle time.
		_, _ = conn.Write(sent[:len(sent)/2])
		sleep(600 * time.Millisecond)
		_, _ = conn.Write(sent[len(sent)/2:])
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	_ = conn.Close()
}
