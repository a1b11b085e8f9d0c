package invariant

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// Identities checks that no load balancer answers whose VMs' identities (LBCERT) have all ended.
type Identities struct {
	// Status tells what runs.
	Status func(ctx context.Context) (operator.Status, error)
	// Grace is how long after its end a VM may go on: it ends by its own clock. Default 3 s.
	Grace time.Duration
}

var _ Invariant = Identities{}

// Name implements Invariant.
func (Identities) Name() string { return "no serving with an expired identity" }

// Check implements Invariant.
func (i Identities) Check(ctx context.Context) error {
	status, err := i.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask what runs: %w", err)
	}
	grace := i.Grace
	if grace == 0 {
		const byDefault = 3 * time.Second
		grace = byDefault
	}
	vms := map[string]operator.Instance{}
	for _, inst := range status.Instances {
		vms[inst.ID] = inst
	}
	for _, lb := range status.LoadBalancers {
		if expired := allExpired(lb, vms, time.Now().Add(-grace)); expired == "" || !serves(ctx, lb) {
			continue
		}
		// It may have been renewed, or replaced, meanwhile.
		again, err := i.Status(ctx)
		if err != nil {
			return fmt.Errorf("ask what runs: %w", err)
		}
		vms = map[string]operator.Instance{}
		for _, inst := range again.Instances {
			vms[inst.ID] = inst
		}
		if expired := allExpired(lb, vms, time.Now().Add(-grace)); expired != "" && serves(ctx, lb) {
			return Broken(i.Name(), "load balancer %s serves though %s", lb.Name, expired)
		}
	}
	return nil
}

// allExpired tells of the identities of a load balancer's VMs when all ended before a time; empty when one is good, or
// there are none.
func allExpired(lb operator.LoadBalancer, vms map[string]operator.Instance, before time.Time) (text string) {
	for _, id := range lb.Instances {
		vm := vms[id]
		if vm.Identity == nil || vm.Identity.Renewing || !vm.Identity.NotAfter.Before(before) {
			return ""
		}
		text += fmt.Sprintf("the identity of %s ended at %s ", id, vm.Identity.NotAfter.Format(time.RFC3339))
	}
	return text
}

// serves says whether a TLS listener of the load balancer answers a handshake, whoever's certificate it shows.
func serves(ctx context.Context, lb operator.LoadBalancer) bool {
	for _, l := range lb.Listeners {
		anyone := &tls.Config{InsecureSkipVerify: true} // whether, not who
		if l.Certificate != "" && handshake(ctx, l.HostAddress, anyone) == nil {
			return true
		}
	}
	return false
}

// handshakeTimeout bounds one try.
const handshakeTimeout = 2 * time.Second

func handshake(ctx context.Context, address string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
