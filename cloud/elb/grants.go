package elb

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// What a load balancer's role is, as in the key-delivery protocol.
const (
	rolePath      = "/internal/loadbalancer/"
	roleTrust     = "ec2.amazonaws.com"
	grantedAction = "iam:DownloadServerCertificate"
)

// grantDocument is a policy that allows the one action on the one certificate.
func grantDocument(certificateARN string) (string, error) {
	type statement struct{ Effect, Action, Resource string }
	doc, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{Version: "2012-10-17", Statement: []statement{{"Allow", grantedAction, certificateARN}}})
	if err != nil {
		return "", fmt.Errorf("write grant of %s: %w", certificateARN, err)
	}
	return string(doc), nil
}

// prepare makes the role, its instance profile and the grants of a new load balancer, and notes that they are
// there. It may be called again after it failed.
func (s *Service) prepare(ctx context.Context, lb *LoadBalancer) error {
	if err := s.cfg.IAM.EnsureServiceRole(ctx, iam.ServiceRole{
		AccountID: s.cfg.SystemAccountID, Name: lb.roleName(), Path: rolePath, TrustService: roleTrust,
	}); err != nil {
		return fmt.Errorf("make role %s: %w", lb.roleName(), err)
	}
	for !lb.Prepared {
		put := lb.grants()
		if err := s.putGrants(ctx, lb, put); err != nil {
			return err
		}
		// A certificate that was renamed in between needs another grant.
		if err := s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
			lb.Prepared = maps.Equal(put, lb.grants())
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) putGrants(ctx context.Context, lb *LoadBalancer, grants map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		document, err := grantDocument(grants[name])
		if err != nil {
			return err
		}
		err = s.cfg.IAM.PutServiceRolePolicy(ctx, s.cfg.SystemAccountID, lb.roleName(), name, document)
		if err != nil {
			return fmt.Errorf("put grant %s: %w", name, err)
		}
		s.journal(ctx, "elb.granted", lb.key(), map[string]string{"policy": name, "certificate": grants[name]})
	}
	return nil
}

// changeListeners applies change, which alters the listeners, and has the grants go with it: a certificate that
// is newly named is granted before a guest can see the listener, one that is no longer named is withdrawn after.
func (s *Service) changeListeners(ctx context.Context, name string, change func(*LoadBalancer) error) error {
	key := recordKey(account(ctx), name)
	defer s.locks.lock(key)()
	ctx = context.WithoutCancel(ctx)
	var added map[string]string
	lb, err := s.update(ctx, key, name, func(lb *LoadBalancer) error {
		next := lb.clone()
		if err := change(&next); err != nil {
			return err
		}
		// A grant that was noted down for a call that failed may not be there.
		held := lb.grants()
		added = map[string]string{}
		for policy, arn := range next.grants() {
			if lb.Granted[policy] != arn || held[policy] != arn {
				added[policy] = arn
			}
		}
		if lb.Granted == nil {
			lb.Granted = map[string]string{}
		}
		maps.Copy(lb.Granted, added)
		return nil
	})
	if err != nil {
		return err
	}
	// Whatever happens from here on, the loop withdraws the grants that no listener needs.
	defer s.queue.add(key)
	if err := s.putGrants(ctx, &lb, added); err != nil {
		return err
	}
	if lb, err = s.updateNaming(ctx, key, name, change); err != nil {
		return err
	}
	return s.pruneGrants(ctx, &lb)
}

// settleGrants puts right what a call left that was cut off between its grant and its listener: a policy in which
// another certificate of the same name has taken the place of the one that the listener names.
func (s *Service) settleGrants(ctx context.Context, lb *LoadBalancer) error {
	wrong := map[string]string{}
	for policy, arn := range lb.grants() {
		if lb.Granted[policy] != arn {
			wrong[policy] = arn
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	if err := s.putGrants(ctx, lb, wrong); err != nil {
		return err
	}
	return s.rewrite(ctx, lb, func(lb *LoadBalancer) error {
		if lb.Granted == nil {
			lb.Granted = map[string]string{}
		}
		maps.Copy(lb.Granted, wrong)
		return nil
	})
}

// pruneGrants withdraws what no listener needs any more.
func (s *Service) pruneGrants(ctx context.Context, lb *LoadBalancer) error {
	wanted := lb.grants()
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(lb.Granted)) {
		if _, ok := wanted[name]; ok {
			continue
		}
		err := s.cfg.IAM.DeleteServiceRolePolicy(ctx, s.cfg.SystemAccountID, lb.roleName(), name)
		if err != nil && !hasCode(err, "NoSuchEntity") {
			return fmt.Errorf("withdraw grant %s: %w", name, err)
		}
		s.journal(ctx, "elb.withdrawn", lb.key(), map[string]string{"policy": name, "certificate": lb.Granted[name]})
		gone = append(gone, name)
	}
	if len(gone) == 0 {
		return nil
	}
	updated, err := s.update(ctx, lb.key(), lb.Name, func(lb *LoadBalancer) error {
		for _, name := range gone {
			delete(lb.Granted, name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	*lb = updated
	// A certificate may have been renamed to a name whose grant was just withdrawn.
	return s.settleGrants(ctx, lb)
}

// dropRole removes the role with its instance profile and policies.
func (s *Service) dropRole(ctx context.Context, lb *LoadBalancer) error {
	err := s.cfg.IAM.DeleteServiceRole(ctx, s.cfg.SystemAccountID, lb.roleName())
	if err != nil && !hasCode(err, "NoSuchEntity") {
		return fmt.Errorf("remove role %s: %w", lb.roleName(), err)
	}
	return nil
}

// certificateUse answers iam's question before it deletes a certificate: which load balancer names it. It asks the
// store, not the view, so that a load balancer that was created a moment ago counts.
func (s *Service) certificateUse(ctx context.Context, arn string) (user string, inUse bool, err error) {
	users, err := s.users(ctx, arn)
	if err != nil {
		return "", false, err
	}
	for i := range users {
		if !users[i].Deleting {
			return ARN(s.cfg.Region, users[i].AccountID, users[i].Name), true, nil
		}
	}
	return "", false, nil
}
