package scale

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

const (
	// clients is how many requests are sent at the same time.
	clients          = 8
	handshakeTimeout = 10 * time.Second
)

// name is the n-th load balancer's.
func name(n int) string { return fmt.Sprintf("lb-%06d", n) }

// key is how the journal calls it.
func key(n int) string { return cloud.UserAccountID + "/" + strings.ToLower(name(n)) }

// create makes the load balancers from number from up to, not including, number to, and returns when all serve.
func (s *site) create(ctx context.Context, from, to int) error {
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan int)
	group.Go(func() error {
		defer close(work)
		return s.dole(ctx, work, from, to)
	})
	for range min(clients, s.cfg.Concurrency) {
		group.Go(func() error {
			for n := range work {
				if err := s.createOne(ctx, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// dole hands out the numbers, never more than Concurrency before they serve, and returns when all do.
func (s *site) dole(ctx context.Context, work chan<- int, from, to int) error {
	limit := time.NewTimer(s.cfg.Patience)
	defer limit.Stop()
	for next, before := from, -1; ; {
		served, changed := s.tracker.served()
		if served != before {
			before = served
			limit.Reset(s.cfg.Patience)
			s.progress.say("serving: %d of %d", served, s.cfg.LoadBalancers)
		}
		if served >= to {
			return nil
		}
		out := work
		if next == to || next-served >= s.cfg.Concurrency {
			out = nil
		}
		select {
		case out <- next:
			next++
		case <-changed:
		case <-limit.C:
			return s.stuck(from, next)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stuck tells of the first load balancer that does not serve.
func (s *site) stuck(from, to int) error {
	t := s.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := from; n < to; n++ {
		if t.serving[key(n)] {
			continue
		}
		why := t.trouble[key(n)]
		if why == "" {
			why = "it has no guest yet"
		}
		return fmt.Errorf("%w: %d serve, and no other in %s; the first that does not is %s: %s", ErrNotServing,
			len(t.serving), s.cfg.Patience, name(n), why)
	}
	return fmt.Errorf("%w: %d of %d serve, and no other in %s", ErrNotServing, len(t.serving), to, s.cfg.Patience)
}

func (s *site) createOne(ctx context.Context, n int) error {
	began := time.Now()
	out, err := s.elb.CreateLoadBalancer(ctx, &elasticloadbalancing.CreateLoadBalancerInput{
		LoadBalancerName: aws.String(name(n)), AvailabilityZones: []string{"us-east-1a"},
		Listeners: []types.Listener{{Protocol: aws.String("HTTPS"), LoadBalancerPort: 443,
			InstanceProtocol: aws.String("HTTP"), InstancePort: aws.Int32(80), SSLCertificateId: aws.String(s.arn)}}})
	if err != nil {
		return fmt.Errorf("create %s: %w", name(n), err)
	}
	s.meter.created(n, aws.ToString(out.DNSName), time.Since(began))
	return nil
}

// handshakes asks load balancers for their certificate, as a client outside does, and returns how many did right.
func (s *site) handshakes(ctx context.Context) (int, error) {
	count := min(s.cfg.Handshakes, s.cfg.LoadBalancers)
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range count {
		n := i * s.cfg.LoadBalancers / count
		group.Go(func() error {
			if err := s.handshake(ctx, n); err != nil {
				return fmt.Errorf("%w: handshake with %s: %w", ErrNotServing, name(n), err)
			}
			done.Add(1)
			return nil
		})
	}
	err := group.Wait()
	return int(done.Load()), err
}

func (s *site) handshake(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := s.host.dial(ctx, net.JoinHostPort(s.meter.address(n), "443"))
	if err != nil {
		return err
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: s.ca.Pool(), ServerName: hostname, MinVersion: tls.VersionTLS12})
	defer func() { _ = conn.Close() }()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if got := pki.Fingerprint(conn.ConnectionState().PeerCertificates[0]); got != s.pair.Fingerprint() {
		return fmt.Errorf("another certificate is served: %s", got)
	}
	return nil
}
