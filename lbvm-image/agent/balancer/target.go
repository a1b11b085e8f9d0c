package balancer

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Protocol is a listener's or an instance's protocol.
type Protocol string

// The four protocols of a classic load balancer.
const (
	HTTP  Protocol = "HTTP"
	HTTPS Protocol = "HTTPS"
	TCP   Protocol = "TCP"
	SSL   Protocol = "SSL"
)

// ParseProtocol reads a protocol's name; letters' case does not matter, as in the API.
func ParseProtocol(name string) (Protocol, error) {
	switch p := Protocol(strings.ToUpper(name)); p {
	case HTTP, HTTPS, TCP, SSL:
		return p, nil
	default:
		return "", fmt.Errorf("unknown protocol %.20q", name)
	}
}

// Secure tells whether the protocol is carried by TLS.
func (p Protocol) Secure() bool { return p == HTTPS || p == SSL }

// Layer7 tells whether requests are understood, not just carried.
func (p Protocol) Layer7() bool { return p == HTTP || p == HTTPS }

// Target is what a health check asks of a backend.
type Target struct {
	Protocol Protocol
	// Port 1 to 65535.
	Port int
	// Path begins with a slash and may hold a query. Only for HTTP and HTTPS.
	Path string
}

// maxPath is the bound that the API has for a health check's path, in characters.
const maxPath = 1024

// ParseTarget reads a health check's target: "TCP:port", "SSL:port", "HTTP:port/path" or "HTTPS:port/path" (AWS,
// Elastic Load Balancing API reference, HealthCheck).
func ParseTarget(text string) (Target, error) {
	name, rest, found := strings.Cut(text, ":")
	if !found {
		return Target{}, fmt.Errorf("health check target %.80q has no port", text)
	}
	protocol, err := ParseProtocol(name)
	if err != nil {
		return Target{}, fmt.Errorf("health check target: %w", err)
	}
	number, path, hasPath := strings.Cut(rest, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return Target{}, fmt.Errorf("health check target has port %.20q, not 1 to 65535", number)
	}
	target := Target{Protocol: protocol, Port: int(port)}
	if protocol.Layer7() != hasPath {
		return Target{}, fmt.Errorf("health check target %.80q: a path belongs to HTTP and HTTPS only", text)
	}
	if !hasPath {
		return target, nil
	}
	target.Path = "/" + path
	if len(target.Path) > maxPath || strings.ContainsFunc(target.Path, notForPath) {
		return Target{}, fmt.Errorf("health check target has a malformed path")
	}
	return target, nil
}

func notForPath(r rune) bool { return r <= ' ' || r > '~' }

// String is the form that ParseTarget reads.
func (t Target) String() string {
	return fmt.Sprintf("%s:%d%s", t.Protocol, t.Port, t.Path)
}

// HealthPolicy says how backends are checked.
type HealthPolicy struct {
	Target Target
	// Interval between two checks of one backend. Default 30 s.
	Interval time.Duration
	// Timeout of one check, at most Interval. Default 5 s.
	Timeout time.Duration
	// Unhealthy is how many failures in a row put a backend out of service. Default 2.
	Unhealthy int
	// Healthy is how many successes in a row put it back into service; the first time one does. Default 10.
	Healthy int
}

func (p HealthPolicy) withDefaults() HealthPolicy {
	if p.Interval <= 0 {
		p.Interval = 30 * time.Second
	}
	if p.Timeout <= 0 {
		p.Timeout = 5 * time.Second
	}
	p.Timeout = min(p.Timeout, p.Interval)
	if p.Unhealthy <= 0 {
		p.Unhealthy = 2
	}
	if p.Healthy <= 0 {
		p.Healthy = 10
	}
	return p
}
