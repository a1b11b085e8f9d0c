package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns both ends of a connection.
func connect() (near, far net.Conn, stop func(), err error) {
	network := &memnet.Network{}
	listener, err := network.Host("10.64.0.2").Listen("tcp", ":80")
	if err != nil {
		return nil, nil, nil, err
	}
	if near, err = network.Host("10.64.0.1").Dial(context.Background(), "tcp", "10.64.0.2:80"); err != nil {
		return nil, nil, nil, err
	}
	if far, err = listener.Accept(); err != nil {
		return nil, nil, nil, err
	}
	return near, far, func() {
		_ = near.Close()
		_ = far.Close()
		_ = listener.Close()
	}, nil
}

// TestConn holds the connections to what every net.Conn does.
func TestConn(t *testing.T) {
	nettest.TestConn(t, connect)
}

// TestEnds: an orderly end, half of one, and a reset are told apart.
func TestEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(net.Conn)
		want error
	}{
		{"closed", func(c net.Conn) { _ = c.Close() }, nil},
		{"half closed", func(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }, nil},
		{"reset", func(c net.Conn) {
			_ = c.(interface{ SetLinger(int) error }).SetLinger(0)
			_ = c.Close()
		}, syscall.ECONNRESET},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			near, far, stop, err := connect()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			tt.end(near)
			if _, err := io.ReadAll(far); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestDial: refused, swallowed, port in use.
func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &memnet.Network{}
		host := network.Host("10.64.0.2")
		if _, err := host.Dial(t.Context(), "tcp", "10.64.0.2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		listener, err := host.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := host.Listen("tcp", ":80"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port in use: %v", err)
		}
		network.Silence("10.64.0.2", true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := host.Dial(ctx, "tcp", "10.64.0.2:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("silent host: %v", err)
		}
		_ = listener.Close()
		if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed listener: %v", err)
		}
	})
}
