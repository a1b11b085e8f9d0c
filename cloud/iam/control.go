package iam

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// maxControlPolicy is how many characters a service control policy may have.
const maxControlPolicy = 5120

// maxControlPolicies is how many an account may have.
const maxControlPolicies = 5

// ErrServiceControl means that an account cannot have the service control policies.
var ErrServiceControl = errors.New("set service control policies")

// ControlPolicy is a service control policy: it limits what the principals of an account may do, its root user
// included, and grants nothing. AWS Organizations has them; here they are set account by account.
type ControlPolicy struct{ Name, Document string }

// controlRecord lies under the account's id.
type controlRecord struct{ Policies []ControlPolicy }

// control is a controlRecord compiled.
type control struct {
	controlRecord
	sources []policy.Source
}

func (s *Service) compileControl(rec *controlRecord) (*control, error) {
	out := &control{controlRecord: *rec}
	for _, p := range rec.Policies {
		doc, err := s.policies.Parse(p.Document, policy.Identity)
		if err != nil {
			return nil, err
		}
		out.sources = append(out.sources, policy.Source{Name: "service control policy " + p.Name, Document: doc})
	}
	return out, nil
}

// SetServiceControl replaces the service control policies of an account; none means that nothing is limited. It holds
// at once. The account whose services the cloud runs on cannot be limited.
func (s *Service) SetServiceControl(ctx context.Context, accountID string, policies []ControlPolicy) error {
	a, err := s.Account(ctx, accountID)
	if err != nil {
		return fmt.Errorf("set service control policies of %s: %w", accountID, err)
	}
	if a.System || len(policies) > maxControlPolicies {
		return fmt.Errorf("%w: %s: at most %d, of an account that is not the cloud's own", ErrServiceControl, accountID,
			maxControlPolicies)
	}
	for _, p := range policies {
		if _, err := s.checkDocument(p.Document, policy.Identity); err != nil {
			return fmt.Errorf("set service control policy %q of %s: %w", p.Name, accountID, err)
		}
		if n := policySize(p.Document); n > maxControlPolicy {
			return fmt.Errorf("%w: %q of %s has %d characters, at most %d are allowed", ErrServiceControl, p.Name,
				accountID, n, maxControlPolicy)
		}
	}
	return s.controls.Put(ctx, accountID, controlRecord{Policies: policies})
}

// ServiceControl returns an account's service control policies.
func (s *Service) ServiceControl(ctx context.Context, accountID string) ([]ControlPolicy, error) {
	c, err := s.controls.cached(ctx, accountID)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	return c.Policies, nil
}

// controlOf returns what limits the caller's account. Service-linked roles are not limited, as on AWS.
func (s *Service) controlOf(ctx context.Context, c *authn.Caller) ([]policy.Source, error) {
	if c.System {
		return nil, nil
	}
	rec, err := s.controls.cached(ctx, c.AccountID)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	return rec.sources, nil
}
