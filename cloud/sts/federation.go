package sts

import (
	"context"
	"errors"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// GetFederationToken makes temporary credentials of a federated user, who may do what both its session policy and the
// caller's own policies allow. They last DurationSeconds: 900 to 129,600, default 43,200; at most 3,600 for root. They
// call neither IAM nor, but for GetCallerIdentity, STS.
func (s *Service) GetFederationToken(
	ctx context.Context, in *stsmodel.GetFederationTokenInput,
) (*stsmodel.GetFederationTokenOutput, error) {
	c := authn.CallerFrom(ctx)
	life, err := ownLife(&c, "GetFederationToken", in.DurationSeconds)
	if err != nil {
		return nil, err
	}
	if len(in.PolicyArns) > maxPolicyARNs {
		return nil, validation("The value for policyArns is invalid: at most %d are allowed", maxPolicyARNs)
	}
	session := iam.Session{
		AccountID: c.AccountID, UserName: c.UserName, Federated: model.Val(in.Name), Life: life,
		Policy: model.Val(in.Policy), PolicyARNs: policyARNs(in.PolicyArns),
	}
	if err := inherit(&session, nil, in.Tags, nil); err != nil {
		return nil, err
	}
	packed, err := packedSize(&session)
	if err != nil {
		return nil, err
	}
	creds, made, err := s.iam.MintSession(ctx, session)
	if err != nil {
		return nil, err
	}
	return &stsmodel.GetFederationTokenOutput{
		Credentials:      view(creds),
		FederatedUser:    &stsmodel.FederatedUser{Arn: model.Ptr(made.ARN), FederatedUserId: model.Ptr(made.UserID)},
		PackedPolicySize: packed,
	}, nil
}

// GetAccessKeyInfo tells which account an access key belongs to.
func (s *Service) GetAccessKeyInfo(
	ctx context.Context, in *stsmodel.GetAccessKeyInfoInput,
) (*stsmodel.GetAccessKeyInfoOutput, error) {
	accountID, err := s.iam.AccessKeyAccount(ctx, model.Val(in.AccessKeyId))
	var known *model.Error
	if errors.As(err, &known) {
		return nil, validation("Invalid AccessKeyId: the key is not known")
	}
	return &stsmodel.GetAccessKeyInfoOutput{Account: model.Ptr(accountID)}, err
}

// DecodeAuthorizationMessage opens the encoded message of a denial that a principal of the account met: what was asked,
// which statements matched, which condition failed and on what value.
func (s *Service) DecodeAuthorizationMessage(
	ctx context.Context, in *stsmodel.DecodeAuthorizationMessageInput,
) (*stsmodel.DecodeAuthorizationMessageOutput, error) {
	c := authn.CallerFrom(ctx)
	text, err := s.iam.DecodeMessage(ctx, c.AccountID, strings.TrimSpace(model.Val(in.EncodedMessage)))
	if errors.Is(err, iam.ErrMessage) {
		return nil, stsmodel.ErrInvalidAuthorizationMessageException("Message is not valid.")
	}
	return &stsmodel.DecodeAuthorizationMessageOutput{DecodedMessage: model.Ptr(text)}, err
}
