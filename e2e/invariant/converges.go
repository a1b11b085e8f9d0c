package invariant

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// Converges checks that within a bound everything is as it was asked for: each load balancer that is to be there serves
// a certificate of Roots, and no VM is left of others.
type Converges struct {
	Status func(ctx context.Context) (operator.Status, error)
	// Wanted are the names of load balancers that must be there; Unsure of those that may. All that are there must serve.
	Wanted, Unsure []string
	Roots          *x509.CertPool
	ServerName     string
	// Within bounds it; default 30 s.
	Within time.Duration
}

var _ Invariant = Converges{}

// Name implements Invariant.
func (Converges) Name() string { return "convergence after the last fault" }

// pause is how long it waits before it looks again.
const pause = 50 * time.Millisecond

// Check implements Invariant. It returns as soon as everything is right.
func (c Converges) Check(ctx context.Context) error {
	limit := c.Within
	if limit == 0 {
		const byDefault = 30 * time.Second
		limit = byDefault
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := errors.New("not looked at yet")
	for {
		select {
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return Broken(c.Name(), "%v after %s", last, limit)
		case <-timer.C:
		}
		err := c.look(bounded)
		if err == nil {
			return nil
		}
		if bounded.Err() == nil {
			last = err
		}
		timer.Reset(pause)
	}
}

// look says what is not right yet.
func (c Converges) look(ctx context.Context) error {
	status, err := c.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask what runs: %w", err)
	}
	var there []string
	vms := map[string]bool{}
	for _, lb := range status.LoadBalancers {
		there = append(there, lb.Name)
		if !slices.Contains(c.Wanted, lb.Name) && !slices.Contains(c.Unsure, lb.Name) {
			return fmt.Errorf("load balancer %s is still there", lb.Name)
		}
		for _, id := range lb.Instances {
			vms[id] = true
		}
		if err := c.shakeHands(ctx, lb); err != nil {
			return fmt.Errorf("load balancer %s (%s) does not serve: %w", lb.Name, states(status, lb.Instances), err)
		}
	}
	for _, name := range c.Wanted {
		if !slices.Contains(there, name) {
			return fmt.Errorf("load balancer %s is not there", name)
		}
	}
	for _, inst := range status.Instances {
		if live := inst.State == "running" || inst.State == "pending"; live && inst.Identity != nil && !vms[inst.ID] {
			return fmt.Errorf("%s (%s) is %s, and of no load balancer", inst.ID, inst.Name, inst.State)
		}
	}
	return nil
}

// shakeHands tries all TLS listeners of a load balancer.
func (c Converges) shakeHands(ctx context.Context, lb operator.LoadBalancer) error {
	for _, l := range lb.Listeners {
		if l.Certificate == "" {
			continue
		}
		config := &tls.Config{RootCAs: c.Roots, ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
		if err := handshake(ctx, l.HostAddress, config); err != nil {
			return err
		}
	}
	return nil
}

// states tells where VMs are.
func states(status operator.Status, ids []string) string {
	if len(ids) == 0 {
		return "no VM"
	}
	var out []string
	for _, inst := range status.Instances {
		if slices.Contains(ids, inst.ID) {
			text := inst.ID + " " + inst.State + " at " + inst.Stage
			if inst.Reason != "" {
				first, _, _ := strings.Cut(inst.Reason, "\n")
				text += ": " + first
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}
