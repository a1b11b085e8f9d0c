package iam

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
)

// AssumeForService makes one of the cloud's own services a session of a role that trusts it, as AssumeRole would, and
// returns the caller that it is then. No credentials are made: the service is inside, and asks Authorize with the
// caller.
func (s *Service) AssumeForService(
	ctx context.Context, accountID, roleName, service, sessionName string,
) (authn.Caller, error) {
	r, err := s.role(ctx, accountID, roleName)
	if err != nil {
		return authn.Caller{}, noRole(err, roleName)
	}
	if err := s.trusts(ctx, r, service); err != nil {
		return authn.Caller{}, err
	}
	return s.sessionCaller(ctx, &claims{
		AccountID: accountID, RoleName: roleName, PrincipalID: r.ID, SessionName: sessionName,
	})
}
