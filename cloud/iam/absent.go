package iam

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// What follows is about things that nobody has here: passwords, SSH keys, credentials of other services. Tools ask for
// them before they delete a user, or to show an account, and must hear what AWS says of a user without any.

// callersUserExists is NoSuchEntity unless the caller's account has the user; without a name, the caller is meant.
func (s *Service) callersUserExists(ctx context.Context, userName *string) (name string, err error) {
	id, name, err := keyOwner(ctx, userName)
	if err != nil || name == "" { // the root user
		return name, err
	}
	_, err = s.user(ctx, id, name)
	return name, noUser(err, name)
}

// GetLoginProfile is NoSuchEntity: no user has a password.
func (s *Service) GetLoginProfile(
	ctx context.Context, in *iammodel.GetLoginProfileInput,
) (*iammodel.GetLoginProfileOutput, error) {
	name, err := s.callersUserExists(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, iammodel.ErrNoSuchEntity("Login Profile for User %s cannot be found.", name)
}

// DeleteLoginProfile is NoSuchEntity: no user has a password.
func (s *Service) DeleteLoginProfile(
	ctx context.Context, in *iammodel.DeleteLoginProfileInput,
) (*iammodel.DeleteLoginProfileOutput, error) {
	name, err := s.callersUserExists(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, iammodel.ErrNoSuchEntity("Login Profile for User %s cannot be found.", name)
}

// GetAccountPasswordPolicy is NoSuchEntity: there are no passwords to have one.
func (s *Service) GetAccountPasswordPolicy(
	ctx context.Context, _ *iammodel.GetAccountPasswordPolicyInput,
) (*iammodel.GetAccountPasswordPolicyOutput, error) {
	return nil, noPasswordPolicy(ctx)
}

// DeleteAccountPasswordPolicy is NoSuchEntity: there is none.
func (s *Service) DeleteAccountPasswordPolicy(
	ctx context.Context, _ *iammodel.DeleteAccountPasswordPolicyInput,
) (*iammodel.DeleteAccountPasswordPolicyOutput, error) {
	return nil, noPasswordPolicy(ctx)
}

func noPasswordPolicy(ctx context.Context) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	return iammodel.ErrNoSuchEntity("The Password Policy with domain name %s cannot be found.", id)
}

// ListSSHPublicKeys lists none: they are for CodeCommit, which is not here.
func (s *Service) ListSSHPublicKeys(
	ctx context.Context, in *iammodel.ListSSHPublicKeysInput,
) (*iammodel.ListSSHPublicKeysOutput, error) {
	_, err := s.callersUserExists(ctx, in.UserName)
	return &iammodel.ListSSHPublicKeysOutput{
		SSHPublicKeys: []iammodel.SSHPublicKeyMetadata{}, IsTruncated: model.Ptr(false),
	}, err
}

// ListServiceSpecificCredentials lists none: they are for services that are not here.
func (s *Service) ListServiceSpecificCredentials(
	ctx context.Context, in *iammodel.ListServiceSpecificCredentialsInput,
) (*iammodel.ListServiceSpecificCredentialsOutput, error) {
	_, err := s.callersUserExists(ctx, in.UserName)
	return &iammodel.ListServiceSpecificCredentialsOutput{
		ServiceSpecificCredentials: []iammodel.ServiceSpecificCredentialMetadata{},
	}, err
}
