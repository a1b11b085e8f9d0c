package iam

import (
	"context"

	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// TagUser adds tags to a user or replaces those of the same keys.
func (s *Service) TagUser(
	ctx context.Context, in *iammodel.TagUserInput,
) (*iammodel.TagUserOutput, error) {
	return nil, s.tag(ctx, kindUser, in.UserName, in.Tags)
}

// UntagUser takes tags from a user; keys that it has not are no error.
func (s *Service) UntagUser(
	ctx context.Context, in *iammodel.UntagUserInput,
) (*iammodel.UntagUserOutput, error) {
	return nil, s.untag(ctx, kindUser, in.UserName, in.TagKeys)
}

// ListUserTags lists the tags of a user by key.
func (s *Service) ListUserTags(
	ctx context.Context, in *iammodel.ListUserTagsInput,
) (*iammodel.ListUserTagsOutput, error) {
	p, err := s.tagPage(ctx, kindUser, in.UserName, in.Marker, in.MaxItems)
	return &iammodel.ListUserTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagRole adds tags to a role or replaces those of the same keys.
func (s *Service) TagRole(
	ctx context.Context, in *iammodel.TagRoleInput,
) (*iammodel.TagRoleOutput, error) {
	return nil, s.tag(ctx, kindRole, in.RoleName, in.Tags)
}

// UntagRole takes tags from a role; keys that it has not are no error.
func (s *Service) UntagRole(
	ctx context.Context, in *iammodel.UntagRoleInput,
) (*iammodel.UntagRoleOutput, error) {
	return nil, s.untag(ctx, kindRole, in.RoleName, in.TagKeys)
}

// ListRoleTags lists the tags of a role by key.
func (s *Service) ListRoleTags(
	ctx context.Context, in *iammodel.ListRoleTagsInput,
) (*iammodel.ListRoleTagsOutput, error) {
	p, err := s.tagPage(ctx, kindRole, in.RoleName, in.Marker, in.MaxItems)
	return &iammodel.ListRoleTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagPolicy adds tags to a managed policy or replaces those of the same keys.
func (s *Service) TagPolicy(
	ctx context.Context, in *iammodel.TagPolicyInput,
) (*iammodel.TagPolicyOutput, error) {
	return nil, s.tag(ctx, kindPolicy, in.PolicyArn, in.Tags)
}

// UntagPolicy takes tags from a managed policy; keys that it has not are no error.
func (s *Service) UntagPolicy(
	ctx context.Context, in *iammodel.UntagPolicyInput,
) (*iammodel.UntagPolicyOutput, error) {
	return nil, s.untag(ctx, kindPolicy, in.PolicyArn, in.TagKeys)
}

// ListPolicyTags lists the tags of a managed policy by key.
func (s *Service) ListPolicyTags(
	ctx context.Context, in *iammodel.ListPolicyTagsInput,
) (*iammodel.ListPolicyTagsOutput, error) {
	p, err := s.tagPage(ctx, kindPolicy, in.PolicyArn, in.Marker, in.MaxItems)
	return &iammodel.ListPolicyTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagInstanceProfile adds tags to an instance profile or replaces those of the same keys.
func (s *Service) TagInstanceProfile(
	ctx context.Context, in *iammodel.TagInstanceProfileInput,
) (*iammodel.TagInstanceProfileOutput, error) {
	return nil, s.tag(ctx, kindProfile, in.InstanceProfileName, in.Tags)
}

// UntagInstanceProfile takes tags from an instance profile; keys that it has not are no error.
func (s *Service) UntagInstanceProfile(
	ctx context.Context, in *iammodel.UntagInstanceProfileInput,
) (*iammodel.UntagInstanceProfileOutput, error) {
	return nil, s.untag(ctx, kindProfile, in.InstanceProfileName, in.TagKeys)
}

// ListInstanceProfileTags lists the tags of an instance profile by key.
func (s *Service) ListInstanceProfileTags(
	ctx context.Context, in *iammodel.ListInstanceProfileTagsInput,
) (*iammodel.ListInstanceProfileTagsOutput, error) {
	p, err := s.tagPage(ctx, kindProfile, in.InstanceProfileName, in.Marker, in.MaxItems)
	return &iammodel.ListInstanceProfileTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagServerCertificate adds tags to a server certificate or replaces those of the same keys.
func (s *Service) TagServerCertificate(
	ctx context.Context, in *iammodel.TagServerCertificateInput,
) (*iammodel.TagServerCertificateOutput, error) {
	return nil, s.tag(ctx, kindCertificate, in.ServerCertificateName, in.Tags)
}

// UntagServerCertificate takes tags from a server certificate; keys that it has not are no error.
func (s *Service) UntagServerCertificate(
	ctx context.Context, in *iammodel.UntagServerCertificateInput,
) (*iammodel.UntagServerCertificateOutput, error) {
	return nil, s.untag(ctx, kindCertificate, in.ServerCertificateName, in.TagKeys)
}

// ListServerCertificateTags lists the tags of a server certificate by key.
func (s *Service) ListServerCertificateTags(
	ctx context.Context, in *iammodel.ListServerCertificateTagsInput,
) (*iammodel.ListServerCertificateTagsOutput, error) {
	p, err := s.tagPage(ctx, kindCertificate, in.ServerCertificateName, in.Marker, in.MaxItems)
	return &iammodel.ListServerCertificateTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagMFADevice adds tags to a virtual MFA device or replaces those of the same keys.
func (s *Service) TagMFADevice(
	ctx context.Context, in *iammodel.TagMFADeviceInput,
) (*iammodel.TagMFADeviceOutput, error) {
	return nil, s.tag(ctx, kindMFA, in.SerialNumber, in.Tags)
}

// UntagMFADevice takes tags from a virtual MFA device; keys that it has not are no error.
func (s *Service) UntagMFADevice(
	ctx context.Context, in *iammodel.UntagMFADeviceInput,
) (*iammodel.UntagMFADeviceOutput, error) {
	return nil, s.untag(ctx, kindMFA, in.SerialNumber, in.TagKeys)
}

// ListMFADeviceTags lists the tags of a virtual MFA device by key.
func (s *Service) ListMFADeviceTags(
	ctx context.Context, in *iammodel.ListMFADeviceTagsInput,
) (*iammodel.ListMFADeviceTagsOutput, error) {
	p, err := s.tagPage(ctx, kindMFA, in.SerialNumber, in.Marker, in.MaxItems)
	return &iammodel.ListMFADeviceTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagSAMLProvider adds tags to a SAML provider or replaces those of the same keys.
func (s *Service) TagSAMLProvider(
	ctx context.Context, in *iammodel.TagSAMLProviderInput,
) (*iammodel.TagSAMLProviderOutput, error) {
	return nil, s.tag(ctx, kindSAML, in.SAMLProviderArn, in.Tags)
}

// UntagSAMLProvider takes tags from a SAML provider; keys that it has not are no error.
func (s *Service) UntagSAMLProvider(
	ctx context.Context, in *iammodel.UntagSAMLProviderInput,
) (*iammodel.UntagSAMLProviderOutput, error) {
	return nil, s.untag(ctx, kindSAML, in.SAMLProviderArn, in.TagKeys)
}

// ListSAMLProviderTags lists the tags of a SAML provider by key.
func (s *Service) ListSAMLProviderTags(
	ctx context.Context, in *iammodel.ListSAMLProviderTagsInput,
) (*iammodel.ListSAMLProviderTagsOutput, error) {
	p, err := s.tagPage(ctx, kindSAML, in.SAMLProviderArn, in.Marker, in.MaxItems)
	return &iammodel.ListSAMLProviderTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}

// TagOpenIDConnectProvider adds tags to an OpenID Connect provider or replaces those of the same keys.
func (s *Service) TagOpenIDConnectProvider(
	ctx context.Context, in *iammodel.TagOpenIDConnectProviderInput,
) (*iammodel.TagOpenIDConnectProviderOutput, error) {
	return nil, s.tag(ctx, kindOIDC, in.OpenIDConnectProviderArn, in.Tags)
}

// UntagOpenIDConnectProvider takes tags from an OpenID Connect provider; keys that it has not are no error.
func (s *Service) UntagOpenIDConnectProvider(
	ctx context.Context, in *iammodel.UntagOpenIDConnectProviderInput,
) (*iammodel.UntagOpenIDConnectProviderOutput, error) {
	return nil, s.untag(ctx, kindOIDC, in.OpenIDConnectProviderArn, in.TagKeys)
}

// ListOpenIDConnectProviderTags lists the tags of an OpenID Connect provider by key.
func (s *Service) ListOpenIDConnectProviderTags(
	ctx context.Context, in *iammodel.ListOpenIDConnectProviderTagsInput,
) (*iammodel.ListOpenIDConnectProviderTagsOutput, error) {
	p, err := s.tagPage(ctx, kindOIDC, in.OpenIDConnectProviderArn, in.Marker, in.MaxItems)
	return &iammodel.ListOpenIDConnectProviderTagsOutput{IsTruncated: p.truncated, Marker: p.marker, Tags: p.items}, err
}
