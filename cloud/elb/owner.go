package elb

import (
	"context"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// Owner says in whose account LBVMs run (seed "IAM roles", discussion 6 and 7). Whatever it says, their roles are the
// system account's, since a role that can fetch keys is nobody else's to change; the operator sees and ends them; and
// they are accounted to the account that made the load balancer.
type Owner string

// The owners.
const (
	OwnerSystem Owner = "system" // the cloud's system account
	// OwnerUser is the account that made the load balancer: the LBVMs are hidden from its users and safe from them.
	OwnerUser Owner = "user"
	// OwnerLinked is an account that elb makes for each account that makes load balancers.
	OwnerLinked Owner = "linked"
)

// Owners are all of them, the default first.
func Owners() []Owner { return []Owner{OwnerSystem, OwnerUser, OwnerLinked} }

// Validate refuses what is no owner; the empty one is the default.
func (o Owner) Validate() error {
	switch o {
	case "", OwnerSystem, OwnerUser, OwnerLinked:
		return nil
	}
	return fmt.Errorf("%q is none of %s, %s, %s", string(o), OwnerSystem, OwnerUser, OwnerLinked)
}

// How elb acts in an account that is not its own: as a role there that trusts it and may do just this.
const (
	linkedPrefix    = "elb-"
	serviceELB      = "elasticloadbalancing.amazonaws.com"
	ownerRole       = "cloudtwin-load-balancers"
	ownerRolePath   = "/internal/elasticloadbalancing/"
	actionRun       = "ec2:RunInstances"
	actionTerminate = "ec2:TerminateInstances"
	ownerPolicy     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + actionRun + `","` +
		actionTerminate + `"],"Resource":"*"}]}`
)

// ours says whether an instance is an LBVM: only elb launches system instances on behalf of somebody. Those that an
// earlier cloud launched are known by their account.
func (s *Service) ours(inst *ec2.Instance) bool {
	return inst.Tags[ownerTag] != "" && inst.System && (inst.OwnedFor != "" || inst.AccountID == s.cfg.SystemAccountID)
}

// ownerOf returns the account in which an account's next LBVM runs.
func (s *Service) ownerOf(ctx context.Context, accountID string) (string, error) {
	switch s.cfg.Owner {
	case OwnerUser:
		return accountID, nil
	case OwnerLinked:
		linked, err := s.cfg.IAM.LinkedAccount(ctx, linkedPrefix, accountID)
		return linked.ID, err
	case OwnerSystem:
	}
	return s.cfg.SystemAccountID, nil
}

// profileAccount is what a launch in owner's account says of the instance profile.
func (s *Service) profileAccount(owner string) string {
	if owner == s.cfg.SystemAccountID {
		return ""
	}
	return s.cfg.SystemAccountID
}

// actAs assumes elb's role in an account that is not the cloud's own, and asks whether that may do action on an
// instance: what elb does to other accounts is decided by their policies as all else is, and in the audit.
func (s *Service) actAs(ctx context.Context, accountID, action, instance, session string) error {
	if accountID == s.cfg.SystemAccountID {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("act in account %s: %w", accountID, err) }
	if err := s.cfg.IAM.EnsureServiceRole(ctx, iam.ServiceRole{
		AccountID: accountID, Name: ownerRole, Path: ownerRolePath, TrustService: serviceELB,
	}); err != nil {
		return fail(err)
	}
	if err := s.cfg.IAM.PutServiceRolePolicy(ctx, accountID, ownerRole, "load-balancer-vms", ownerPolicy); err != nil {
		return fail(err)
	}
	caller, err := s.cfg.IAM.AssumeForService(ctx, accountID, ownerRole, serviceELB, sessionName(session))
	if err != nil {
		return fail(err)
	}
	arn := "arn:aws:ec2:" + s.cfg.Region + ":" + accountID + ":instance/" + instance
	if err := s.cfg.IAM.Authorize(ctx, caller, action, []string{arn}, nil); err != nil {
		return fail(err)
	}
	s.journal(ctx, "elb.assumed_role", accountID, map[string]string{
		"caller": caller.ARN, "action": action, "resource": arn, "for": session})
	return nil
}

// sessionName makes a role session's name of a load balancer's key.
func sessionName(key string) string {
	const longest = 64
	name := []byte(key)
	for i, c := range name {
		if c == '/' {
			name[i] = '@'
		}
	}
	return string(name[:min(len(name), longest)])
}
