package balancer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// DialFunc opens a connection; it ends when ctx ends.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

const (
	// firstRetry is the pause after the first failed check of a backend that starts.
	firstRetry = 100 * time.Millisecond
	// checkerAgent is how the checks of classic load balancers name themselves; backends filter their logs by it.
	checkerAgent = "ELB-HealthChecker/1.0"
	// maxProbeBody bounds what is read of a health check's answer, in bytes.
	maxProbeBody = 64 << 10
)

// checker checks one backend until it is stopped. backend and inService are guarded by the pool's mutex.
type checker struct {
	pool      *Pool
	backend   Backend
	policy    HealthPolicy
	inService bool
	stop      context.CancelFunc
}

// run checks at the policy's interval, except while the backend starts, which is until it has been in service
// under this policy. Then its first success puts it into service (AWS, User Guide for Classic Load Balancers,
// "Troubleshoot a Classic Load Balancer: Instance registration"), and the pause after a failure grows from
// firstRetry to the interval. So a load balancer serves as soon as it can, and many that start together do not
// keep a backend from its work.
func (c *checker) run(ctx context.Context) {
	c.pool.mu.Lock()
	address, inService := c.backend.Address, c.inService
	c.pool.mu.Unlock()
	starting, retry := !inService, min(firstRetry, c.policy.Interval)
	good, bad := 0, 0
	for {
		err := c.pool.probe.check(ctx, address, c.policy)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case !inService && err == nil && (starting || good >= c.policy.Healthy):
			inService, starting = true, false
			c.pool.setState(c, true)
		case inService && bad >= c.policy.Unhealthy:
			inService = false
			c.pool.setState(c, false)
		}
		pause := c.policy.Interval
		if starting {
			pause, retry = retry, min(2*retry, c.policy.Interval)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep waits and tells whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// prober makes single health checks, each over a connection of its own.
type prober struct{ dial DialFunc }

// check returns nil when the backend passed within the policy's timeout.
func (p prober) check(ctx context.Context, address string, policy HealthPolicy) error {
	ctx, cancel := context.WithTimeout(ctx, policy.Timeout)
	defer cancel()
	conn, err := p.dial(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(policy.Target.Port)))
	if err != nil {
		return fmt.Errorf("connect to backend: %w", err)
	}
	defer func() { _ = conn.Close() }()
	// Whatever the check waits for, the end of ctx ends it.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if policy.Target.Protocol.Secure() {
		secure := tls.Client(conn, backendTLS(address))
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("handshake with backend: %w", err)
		}
		conn = secure
	}
	if !policy.Target.Protocol.Layer7() {
		return nil
	}
	return askHealth(ctx, conn, policy.Target)
}

// askHealth makes one GET; only status 200 is healthy.
func askHealth(ctx context.Context, conn net.Conn, target Target) error {
	once := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxProbeBody,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	host := conn.RemoteAddr().String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+target.Path, nil)
	if err != nil {
		return fmt.Errorf("make health check: %w", err)
	}
	request.Header.Set("User-Agent", checkerAgent)
	// RoundTrip, unlike a Client, follows no redirect: a redirect is not healthy.
	answer, err := once.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask backend: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, maxProbeBody)); err != nil {
		return fmt.Errorf("read backend's answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("backend answered %d", answer.StatusCode)
	}
	return nil
}

// backendTLS does not verify the backend: without a backend authentication policy a classic load balancer takes any
// certificate of an instance, most of which sign their own. The name is sent all the same.
func backendTLS(address string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // see above: the contract of classic load balancers
		ServerName:         address,
		MinVersion:         tls.VersionTLS12,
	}
}
