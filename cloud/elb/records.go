package elb

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// LoadBalancer is the record of one load balancer: what its user asked for and what of it has been arranged.
type LoadBalancer struct {
	AccountID string
	Name      string
	// ID tells this load balancer from an earlier one of the same name.
	ID                string
	Created           time.Time
	Address           string // 127.x.y.z; its DNSName too
	Scheme            string
	AvailabilityZones []string
	Subnets           []string
	SecurityGroups    []string
	Listeners         []Listener // in the order of their ports
	Backends          []string   // registered instances, in the order of registration
	HealthCheck       HealthCheck
	Attributes        Attributes
	Tags              map[string]string

	// Prepared is set once the role and its first grants are there.
	Prepared bool
	// Granted holds the inline policies that the role has or is about to get: name to certificate ARN. It is
	// written before a policy is put and after one was removed, so a crash leaves nothing unknown.
	Granted map[string]string
	// LBVMs are the guests that serve the load balancer, oldest first.
	LBVMs []LBVM
	// Launches counts the launches that were noted down. It makes the client token of the next one, so that a
	// launch that was not noted down is found again, not repeated.
	Launches int
	// Trace is the step of the request that changed the load balancer last (W3C Trace Context): what follows from it goes
	// on there.
	Trace string `json:",omitempty"`
	// Deleting is set from DeleteLoadBalancer until nothing is left; the API no longer shows the record.
	Deleting bool
}

// Listener is one port of a load balancer.
type Listener struct {
	Protocol         string // HTTP, HTTPS, TCP, SSL
	Port             int
	InstanceProtocol string
	InstancePort     int
	CertificateARN   string // for HTTPS and SSL
}

// secure says whether the listener needs a certificate.
func (l Listener) secure() bool { return l.Protocol == protocolHTTPS || l.Protocol == protocolSSL }

// HealthCheck says how an LBVM checks the back-end instances; Interval and Timeout in seconds.
type HealthCheck struct {
	Target             string
	Interval           int
	Timeout            int
	UnhealthyThreshold int
	HealthyThreshold   int
}

// Attributes are a load balancer's adjustable attributes; times in seconds.
type Attributes struct {
	CrossZone       bool
	IdleTimeout     int
	Draining        bool
	DrainingTimeout int
	Desync          string // elb.http.desyncmitigationmode
}

// LBVM is a guest of a load balancer.
type LBVM struct {
	InstanceID string
	Launched   time.Time
}

type addressRecord struct{ Key string }

// recordKey is a load balancer's key in the store. Role names are unique without regard to case and hold the load
// balancer's name, so load balancers' names are too.
func recordKey(accountID, name string) string { return accountID + "/" + strings.ToLower(name) }

func (lb *LoadBalancer) key() string { return recordKey(lb.AccountID, lb.Name) }

// roleName names the load balancer's role and instance profile in the system account.
func (lb *LoadBalancer) roleName() string { return "loadbalancer-vm-" + lb.AccountID + "-" + lb.Name }

// grants returns the policies that the listeners call for: name to certificate ARN. Listeners that name the same
// certificate share one.
func (lb *LoadBalancer) grants() map[string]string {
	wanted := map[string]string{}
	for _, l := range lb.Listeners {
		if l.secure() {
			wanted[lb.policyName(l.CertificateARN)] = l.CertificateARN
		}
	}
	return wanted
}

func (lb *LoadBalancer) policyName(certificateARN string) string {
	return "loadbalancer-iam-policy-" + lb.AccountID + "-" + lb.Name + "-" + certificateName(certificateARN)
}

// certificateName is the last part of a certificate's ARN; names are unique in an account whatever their path.
func certificateName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func (lb *LoadBalancer) listener(port int) *Listener {
	for i := range lb.Listeners {
		if lb.Listeners[i].Port == port {
			return &lb.Listeners[i]
		}
	}
	return nil
}

// names reports whether a listener of the load balancer names the certificate.
func (lb *LoadBalancer) names(certificateARN string) bool {
	return slices.ContainsFunc(lb.Listeners, func(l Listener) bool { return l.CertificateARN == certificateARN })
}

// clone returns a copy that shares nothing with lb.
func (lb *LoadBalancer) clone() LoadBalancer {
	c := *lb
	c.AvailabilityZones = slices.Clone(lb.AvailabilityZones)
	c.Subnets = slices.Clone(lb.Subnets)
	c.SecurityGroups = slices.Clone(lb.SecurityGroups)
	c.Listeners = slices.Clone(lb.Listeners)
	c.Backends = slices.Clone(lb.Backends)
	c.Tags = maps.Clone(lb.Tags)
	c.Granted = maps.Clone(lb.Granted)
	c.LBVMs = slices.Clone(lb.LBVMs)
	return c
}

// ARN returns the load balancer's ARN in a region.
func ARN(region, accountID, name string) string {
	return "arn:aws:elasticloadbalancing:" + region + ":" + accountID + ":loadbalancer/" + name
}

func newID() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make load balancer id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
