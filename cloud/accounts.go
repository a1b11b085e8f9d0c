package cloud

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// ListAccounts returns all accounts with what lives of theirs and what all that ever lived took. A load balancer's VM
// counts for the account that made the load balancer, whoever owns the VM.
func (c *Cloud) ListAccounts(ctx context.Context) ([]operator.Account, error) {
	all, err := c.iam.Accounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	ended, err := c.ec2.Forgotten(ctx)
	if err != nil {
		return nil, err
	}
	living, memory, now := map[string]ec2.Usage{}, map[string]int{}, c.cfg.Clock()
	for _, inst := range c.ec2.Instances() {
		uses, id := living, inst.Accounted()
		if inst.State == ec2.Terminated {
			uses = ended
		} else {
			memory[id] += inst.MemoryMB
		}
		u := uses[id]
		u.Add(&inst, inst.Lasted(now))
		uses[id] = u
	}
	out := make([]operator.Account, len(all))
	for i, a := range all {
		lives, before := living[a.ID], ended[a.ID]
		out[i] = operatorAccount(a)
		out[i].Instances, out[i].LoadBalancerVMs, out[i].MemoryMB = lives.Instances, lives.LoadBalancerVMs, memory[a.ID]
		out[i].Ended, out[i].EndedLoadBalancerVMs = before.Instances, before.LoadBalancerVMs
		out[i].InstanceHours = (lives.InstanceTime + before.InstanceTime).Hours()
		out[i].LoadBalancerHours = (lives.LoadBalancerTime + before.LoadBalancerTime).Hours()
	}
	return out, nil
}

// CreateAccount makes an account for users.
func (c *Cloud) CreateAccount(ctx context.Context, name, id string) (operator.Account, error) {
	a, err := c.iam.CreateAccount(ctx, iam.NewAccount{ID: id, Name: name})
	if err != nil {
		return operator.Account{}, accountRefusal(err)
	}
	c.recordAccount(ctx, EventAccountCreated, a)
	return operatorAccount(a), nil
}

// AccountKeys gives keys of an account's root user.
func (c *Cloud) AccountKeys(ctx context.Context, account string) (operator.Credentials, error) {
	a, err := c.iam.FindAccount(ctx, account)
	if err != nil {
		return operator.Credentials{}, accountRefusal(err)
	}
	keys, err := c.rootKeys(ctx, a.ID)
	if err != nil {
		return operator.Credentials{}, err
	}
	c.recordAccount(ctx, EventKeysGiven, a, "accessKeyId", keys.AccessKeyID)
	return keys, nil
}

func (c *Cloud) rootKeys(ctx context.Context, accountID string) (operator.Credentials, error) {
	id, secret, err := c.iam.EnsureRootKey(ctx, accountID)
	if err != nil {
		return operator.Credentials{}, fmt.Errorf("root keys of account %s: %w", accountID, err)
	}
	defer secret.Wipe()
	return operator.Credentials{AccountID: accountID, AccessKeyID: id, SecretAccessKey: string(secret)}, nil
}

// The events of accounts. Their subject is the account's number.
const (
	EventAccountCreated = "account.created"    // name, by
	EventKeysGiven      = "account.keys_given" // name, by, accessKeyId
)

func (c *Cloud) recordAccount(ctx context.Context, kind string, a iam.Account, more ...string) {
	attributes := map[string]string{"name": a.Name, "by": operator.PeerFrom(ctx)}
	for i := 0; i+1 < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	c.journal.Record(ctx, journal.Event{Time: c.cfg.Clock(), Kind: kind, Subject: a.ID, Attributes: attributes})
}

func operatorAccount(a iam.Account) operator.Account {
	return operator.Account{ID: a.ID, Name: a.Name, System: a.System, LinkedTo: a.LinkedTo, Created: a.Created}
}

// accountRefusal marks what is wrong with the request itself.
func accountRefusal(err error) error {
	for _, mistake := range []error{iam.ErrAccountExists, iam.ErrAccountInput, iam.ErrNoAccount} {
		if errors.Is(err, mistake) {
			return &operator.Refusal{Message: err.Error()}
		}
	}
	return err
}
