package elb

import (
	"context"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
)

// maxHealthPath is the longest path of a target, in characters, without the slash that begins it.
const maxHealthPath = 1024

// Bounds of a health check as in the API's reference; times in seconds.
const (
	minInterval, maxInterval   = 5, 300
	minTimeout, maxTimeout     = 2, 60
	minThreshold, maxThreshold = 2, 10
)

// defaultHealthCheck is what a new load balancer checks: that the first listener's instance port takes connections.
func defaultHealthCheck(instancePort int) HealthCheck {
	return HealthCheck{
		Target: protocolTCP + ":" + strconv.Itoa(instancePort), Interval: 30, Timeout: 5,
		UnhealthyThreshold: 2, HealthyThreshold: 10,
	}
}

// parseTarget checks a target, PROTOCOL:PORT for TCP and SSL, PROTOCOL:PORT/PATH for HTTP and HTTPS, and returns it
// with the protocol in upper case.
func parseTarget(text string) (string, error) {
	protocol, rest, _ := strings.Cut(text, ":")
	protocol = strings.ToUpper(protocol)
	port, path, hasPath := strings.Cut(rest, "/")
	switch protocol {
	case protocolHTTP, protocolHTTPS:
		if !hasPath {
			return "", invalidParameter("HealthCheck %s Target must specify a port followed by a path that begins "+
				"with '/', for example %s:80/ping", protocol, protocol)
		}
	case protocolTCP, protocolSSL:
		if hasPath {
			return "", invalidParameter("HealthCheck %s Target must specify a port alone, for example %s:80",
				protocol, protocol)
		}
	default:
		return "", invalidParameter("HealthCheck Target must begin with one of HTTP:, HTTPS:, TCP:, SSL:")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", invalidParameter("HealthCheck Target must name a port from 1 to %d after %s:", maxPort, protocol)
	}
	if len(path) > maxHealthPath {
		return "", invalidParameter("HealthCheck Target's path must be at most %d characters", maxHealthPath)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", invalidParameter("HealthCheck Target's path must not hold spaces or control characters")
	}
	return protocol + ":" + rest, nil
}

// ConfigureHealthCheck says how the load balancer's guests check its instances.
func (s *Service) ConfigureHealthCheck(ctx context.Context, in *elbmodel.ConfigureHealthCheckInput) (
	*elbmodel.ConfigureHealthCheckOutput, error) {
	check, err := parseHealthCheck(in.HealthCheck)
	if err != nil {
		return nil, err
	}
	lb, err := s.change(ctx, model.Val(in.LoadBalancerName), func(lb *LoadBalancer) error {
		lb.HealthCheck = check
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elbmodel.ConfigureHealthCheckOutput{HealthCheck: wireHealthCheck(lb.HealthCheck)}, nil
}

func parseHealthCheck(in *elbmodel.HealthCheck) (HealthCheck, error) {
	if in == nil {
		return HealthCheck{}, invalidParameter("HealthCheck is required")
	}
	target, err := parseTarget(model.Val(in.Target))
	if err != nil {
		return HealthCheck{}, err
	}
	check := HealthCheck{Target: target}
	for _, f := range []struct {
		name     string
		value    int64
		low, top int64
		into     *int
	}{
		{"Interval", model.Val(in.Interval), minInterval, maxInterval, &check.Interval},
		{"Timeout", model.Val(in.Timeout), minTimeout, maxTimeout, &check.Timeout},
		{"UnhealthyThreshold", model.Val(in.UnhealthyThreshold), minThreshold, maxThreshold, &check.UnhealthyThreshold},
		{"HealthyThreshold", model.Val(in.HealthyThreshold), minThreshold, maxThreshold, &check.HealthyThreshold},
	} {
		if f.value < f.low || f.value > f.top {
			return HealthCheck{}, invalidParameter("HealthCheck %s must be from %d to %d", f.name, f.low, f.top)
		}
		*f.into = int(f.value)
	}
	if check.Timeout >= check.Interval {
		return HealthCheck{}, invalidParameter("HealthCheck timeout must be less than interval")
	}
	return check, nil
}

func wireHealthCheck(c HealthCheck) *elbmodel.HealthCheck {
	return &elbmodel.HealthCheck{
		Target: model.Ptr(c.Target), Interval: model.Ptr(int64(c.Interval)), Timeout: model.Ptr(int64(c.Timeout)),
		UnhealthyThreshold: model.Ptr(int64(c.UnhealthyThreshold)), HealthyThreshold: model.Ptr(int64(c.HealthyThreshold)),
	}
}
