package iam

import (
	"context"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func errUnknownToken() error {
	return authn.Errorf(authn.CodeUnknownKey, "The security token included in the request is invalid.")
}

func errExpiredToken() error {
	return authn.Errorf(authn.CodeExpiredToken, "The security token included in the request is expired")
}

// Identify finds the secret of an access key and whose it is, for the front door's check of the signature. The error
// is an *authn.Error for keys and tokens that are unknown, inactive, altered, expired, or whose user or role is gone;
// which of these is not told apart, but for expiry.
func (s *Service) Identify(
	ctx context.Context, accessKeyID, sessionToken string,
) (secret string, caller authn.Caller, err error) {
	if sessionToken != "" {
		return s.identifySession(ctx, accessKeyID, sessionToken)
	}
	if !strings.HasPrefix(accessKeyID, "AKIA") {
		return "", authn.Caller{}, errUnknownToken()
	}
	key, err := s.accessKeys.cached(ctx, accessKeyID)
	if err != nil || !key.Active {
		return "", authn.Caller{}, unknownIfMissing(err)
	}
	if key.UserName == "" {
		caller, err = s.rootCaller(ctx, key.AccountID)
	} else {
		caller, err = s.userCaller(ctx, key.AccountID, key.UserName)
	}
	if err != nil {
		return "", authn.Caller{}, unknownIfMissing(err)
	}
	caller.AccessKeyID = accessKeyID
	return key.secret, caller, nil
}

// unknownIfMissing answers a missing record, and no error at all, as an unknown token.
func unknownIfMissing(err error) error {
	if err == nil || isMissing(err) {
		return errUnknownToken()
	}
	return err
}

func (s *Service) identifySession(
	ctx context.Context, accessKeyID, token string,
) (string, authn.Caller, error) {
	c, ok := s.readToken(accessKeyID, token)
	if !ok {
		return "", authn.Caller{}, errUnknownToken()
	}
	if s.cfg.Clock().Unix() >= c.Expires {
		return "", authn.Caller{}, errExpiredToken()
	}
	caller, err := s.sessionCaller(ctx, c)
	if err != nil {
		return "", authn.Caller{}, unknownIfMissing(err)
	}
	return c.Secret, caller, nil
}

// sessionCaller makes the caller of a session, or store.ErrNotFound when its role or user is gone, even if there is
// a new one of the same name.
func (s *Service) sessionCaller(ctx context.Context, c *claims) (authn.Caller, error) {
	var caller authn.Caller
	var err error
	switch {
	case c.RoleName != "":
		caller, err = s.roleCaller(ctx, c)
	case c.Federated != "":
		caller, err = s.federatedCaller(ctx, c)
	case c.UserName != "":
		caller, err = s.userCaller(ctx, c.AccountID, c.UserName)
		if err == nil && caller.UserID != c.PrincipalID {
			err = store.ErrNotFound
		}
	default:
		caller, err = s.rootCaller(ctx, c.AccountID)
	}
	if err != nil {
		return authn.Caller{}, err
	}
	caller.AccessKeyID, caller.SessionPolicy, caller.Session = c.AccessKeyID, c.Policy, c.session()
	return caller, nil
}

// federatedCaller makes the caller of a federated user, who is gone with the user that made its credentials.
func (s *Service) federatedCaller(ctx context.Context, c *claims) (authn.Caller, error) {
	issuer, err := s.rootCaller(ctx, c.AccountID)
	if c.UserName != "" {
		if issuer, err = s.userCaller(ctx, c.AccountID, c.UserName); err == nil && issuer.UserID != c.PrincipalID {
			err = store.ErrNotFound
		}
	}
	if err != nil {
		return authn.Caller{}, err
	}
	return authn.Caller{
		Kind: authn.KindFederated, AccountID: c.AccountID, System: issuer.System,
		ARN:    "arn:aws:sts::" + c.AccountID + ":federated-user/" + c.Federated,
		UserID: c.AccountID + ":" + c.Federated,
	}, nil
}

func (s *Service) rootCaller(ctx context.Context, accountID string) (authn.Caller, error) {
	a, err := s.accounts.cached(ctx, accountID)
	if err != nil {
		return authn.Caller{}, err
	}
	return authn.Caller{
		Kind: authn.KindRoot, AccountID: accountID, System: a.System, ARN: rootARN(accountID), UserID: accountID,
	}, nil
}

func (s *Service) userCaller(ctx context.Context, accountID, name string) (authn.Caller, error) {
	a, err := s.accounts.cached(ctx, accountID)
	if err != nil {
		return authn.Caller{}, err
	}
	u, err := s.user(ctx, accountID, name)
	if err != nil {
		return authn.Caller{}, err
	}
	return authn.Caller{
		Kind: authn.KindUser, AccountID: accountID, System: a.System, ARN: u.fullARN, UserID: u.ID, UserName: u.Name,
	}, nil
}

func (s *Service) roleCaller(ctx context.Context, c *claims) (authn.Caller, error) {
	a, err := s.accounts.cached(ctx, c.AccountID)
	if err != nil {
		return authn.Caller{}, err
	}
	r, err := s.role(ctx, c.AccountID, c.RoleName)
	if err != nil {
		return authn.Caller{}, err
	}
	if r.ID != c.PrincipalID {
		return authn.Caller{}, store.ErrNotFound
	}
	return authn.Caller{
		Kind: authn.KindRole, AccountID: c.AccountID, System: a.System,
		ARN:    SessionARN(c.AccountID, r.Name, c.SessionName),
		UserID: r.ID + ":" + c.SessionName, RoleName: r.Name, RoleARN: r.fullARN, SessionName: c.SessionName,
		InstanceID: c.InstanceID,
	}, nil
}
