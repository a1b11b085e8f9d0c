package iam

import (
	"context"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// policiesOf gathers the policies of the caller as they are now. A caller whose user or role is gone has none.
func (s *Service) policiesOf(ctx context.Context, c *authn.Caller) (*policy.Set, error) {
	set := &policy.Set{}
	if c.Kind == "" {
		return set, nil
	}
	var err error
	if set.Control, err = s.controlOf(ctx, c); err != nil {
		return nil, err
	}
	switch c.Kind {
	case authn.KindUser:
		err = s.gatherUser(ctx, set, c.AccountID, c.UserName, c.UserID)
	case authn.KindRole:
		err = s.gatherRole(ctx, set, c)
	case authn.KindFederated:
		set.Unlimited = c.Session.Issuer == ""
		if !set.Unlimited {
			err = s.gatherUser(ctx, set, c.AccountID, c.Session.Issuer, "")
		}
		// Without a session policy a federated user may do nothing.
		set.Session = append(set.Session, policy.Source{Name: "session policy of " + c.ARN})
	case authn.KindRoot:
		set.Unlimited = c.AccountID != ""
	}
	if err != nil {
		return nil, err
	}
	return set, s.gatherSession(ctx, set, c)
}

// gatherUser adds what a user has: inline and managed policies of its own and of its groups, and its boundary. A user
// of another id than the one given, unless that is empty, is another one of the same name.
func (s *Service) gatherUser(ctx context.Context, set *policy.Set, accountID, name, id string) error {
	u, err := s.user(ctx, accountID, name)
	if err != nil || id != "" && u.ID != id {
		return ignoreMissing(err)
	}
	if len(u.Groups) == 0 && len(u.Attached) == 0 && u.Boundary == "" {
		set.Identity = u.policies // shared: nothing is appended to it
		return nil
	}
	set.Identity = append(make([]policy.Source, 0, len(u.policies)+maxAttached), u.policies...)
	if err := s.gatherAttached(ctx, &set.Identity, accountID, u.Attached); err != nil {
		return err
	}
	for _, groupID := range u.Groups {
		g, err := s.groupByID(ctx, accountID, groupID)
		if isMissing(err) { // it lost its members before it went
			continue
		}
		if err != nil {
			return err
		}
		set.Identity = append(set.Identity, g.policies...)
		if err := s.gatherAttached(ctx, &set.Identity, accountID, g.Attached); err != nil {
			return err
		}
	}
	return s.gatherBoundary(ctx, set, accountID, u.Boundary)
}

func (s *Service) gatherRole(ctx context.Context, set *policy.Set, c *authn.Caller) error {
	r, err := s.role(ctx, c.AccountID, c.RoleName)
	if err != nil {
		return ignoreMissing(err)
	}
	if !strings.HasPrefix(c.UserID, r.ID+":") {
		return nil
	}
	set.Identity = r.policies
	if len(r.Attached) > 0 {
		set.Identity = append(make([]policy.Source, 0, len(r.policies)+len(r.Attached)), r.policies...)
		if err := s.gatherAttached(ctx, &set.Identity, c.AccountID, r.Attached); err != nil {
			return err
		}
	}
	return s.gatherBoundary(ctx, set, c.AccountID, r.Boundary)
}

// gatherAttached adds managed policies. One that is gone was detached since its holder was read: nothing that is
// attached can be deleted.
func (s *Service) gatherAttached(ctx context.Context, into *[]policy.Source, accountID string, arns []string) error {
	for _, arn := range arns {
		p, err := s.managedPolicy(ctx, accountID, arn)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return err
		}
		*into = append(*into, p.source)
	}
	return nil
}

func (s *Service) gatherBoundary(ctx context.Context, set *policy.Set, accountID, arn string) error {
	if arn == "" {
		return nil
	}
	p, err := s.managedPolicy(ctx, accountID, arn)
	if err := ignoreMissing(err); err != nil {
		return err
	}
	boundary := policy.Source{Name: "permissions boundary " + arn} // without a document it allows nothing
	if err == nil {
		boundary = p.source
	}
	set.Boundary = []policy.Source{boundary}
	return nil
}

// gatherSession adds what the session was limited to when it was made. A managed policy that is gone since then allows
// nothing.
func (s *Service) gatherSession(ctx context.Context, set *policy.Set, c *authn.Caller) error {
	if c.SessionPolicy != "" {
		doc, err := s.checkDocument(c.SessionPolicy, policy.Identity)
		if err != nil {
			return err
		}
		set.Session = append(set.Session, policy.Source{Name: "session policy of " + c.ARN, Document: doc})
	}
	if c.Session == nil {
		return nil
	}
	for _, arn := range c.Session.Policies {
		p, err := s.managedPolicy(ctx, c.AccountID, arn)
		if err := ignoreMissing(err); err != nil {
			return err
		}
		limit := policy.Source{Name: "session policy " + arn}
		if err == nil {
			limit.Document = p.source.Document
		}
		set.Session = append(set.Session, limit)
	}
	return nil
}
