package nodelink

import (
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Limits of the wire, the same on both sides.
const (
	// MaxMessage bounds one message, in bytes. A snapshot of some thousand instances with their user data fits.
	MaxMessage = 64 << 20
	// KeepAlive is the time without traffic after which a side asks whether the other is still there.
	KeepAlive = 20 * time.Second
	// KeepAliveTimeout is how long it waits for the answer before it gives the connection up.
	KeepAliveTimeout = 10 * time.Second
)

// Dial prepares a connection to the cloud at address (host:port). It connects when first used, and again with
// growing pauses (0.1 to 5 s) for as long as the connection is not closed.
func Dial(address string, config *tls.Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: KeepAlive, Timeout: KeepAliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithChainUnaryInterceptor(sendTrace),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("dial cloud at %s: %w", address, err)
	}
	return conn, nil
}

// NewServer returns a gRPC server with this package's TLS and limits, ready for the services to be registered.
func NewServer(config *tls.Config, more ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(config)),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(1024),
		grpc.ChainUnaryInterceptor(takeTrace),
		grpc.ConnectionTimeout(20 * time.Second),
		// Stop returns when no call uses the services behind it any more.
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: KeepAlive, Timeout: KeepAliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: KeepAlive / 2, PermitWithoutStream: true,
		}),
	}, more...)...)
}
