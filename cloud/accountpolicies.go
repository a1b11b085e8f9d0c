package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// AccountPolicies returns an account's service control policies.
func (c *Cloud) AccountPolicies(ctx context.Context, account string) ([]operator.AccountPolicy, error) {
	a, err := c.iam.FindAccount(ctx, account)
	if err != nil {
		return nil, accountRefusal(err)
	}
	have, err := c.iam.ServiceControl(ctx, a.ID)
	if err != nil {
		return nil, fmt.Errorf("read service control policies of %s: %w", a.ID, err)
	}
	out := make([]operator.AccountPolicy, len(have))
	for i, p := range have {
		out[i] = operator.AccountPolicy{Name: p.Name, Document: p.Document}
	}
	return out, nil
}

// PutAccountPolicy adds a service control policy to an account, or replaces the one of the same name.
func (c *Cloud) PutAccountPolicy(ctx context.Context, account string, p operator.AccountPolicy) error {
	if p.Name == "" || len(p.Name) > 128 {
		return &operator.Refusal{Message: "a policy's name has 1 to 128 characters"}
	}
	return c.changeAccountPolicies(ctx, account, "account.policy_set", p.Name,
		func(have []iam.ControlPolicy) ([]iam.ControlPolicy, error) {
			made := iam.ControlPolicy{Name: p.Name, Document: p.Document}
			if i := controlIndex(have, p.Name); i >= 0 {
				have[i] = made
				return have, nil
			}
			return append(have, made), nil
		})
}

// RemoveAccountPolicy takes a service control policy from an account.
func (c *Cloud) RemoveAccountPolicy(ctx context.Context, account, name string) error {
	return c.changeAccountPolicies(ctx, account, "account.policy_removed", name,
		func(have []iam.ControlPolicy) ([]iam.ControlPolicy, error) {
			i := controlIndex(have, name)
			if i < 0 {
				return nil, &operator.Refusal{Message: fmt.Sprintf("the account has no service control policy %q", name)}
			}
			return slices.Delete(have, i, i+1), nil
		})
}

func controlIndex(have []iam.ControlPolicy, name string) int {
	return slices.IndexFunc(have, func(p iam.ControlPolicy) bool { return p.Name == name })
}

// changeAccountPolicies changes an account's service control policies and notes who did. What iam says of a document is
// the operator's to hear.
func (c *Cloud) changeAccountPolicies(ctx context.Context, account, kind, name string,
	change func([]iam.ControlPolicy) ([]iam.ControlPolicy, error)) error {
	a, err := c.iam.FindAccount(ctx, account)
	if err != nil {
		return accountRefusal(err)
	}
	have, err := c.iam.ServiceControl(ctx, a.ID)
	if err == nil {
		have, err = change(slices.Clone(have))
	}
	if err == nil {
		err = c.iam.SetServiceControl(ctx, a.ID, have)
	}
	var bad *model.Error
	if errors.As(err, &bad) || errors.Is(err, iam.ErrServiceControl) {
		return &operator.Refusal{Message: err.Error()}
	}
	if err != nil {
		return err
	}
	c.journal.Record(ctx, journal.Event{Time: c.cfg.Clock(), Kind: kind, Subject: a.ID,
		Attributes: map[string]string{"name": a.Name, "policy": name, "by": operator.PeerFrom(ctx)}})
	return nil
}
