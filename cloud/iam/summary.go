package iam

import (
	"context"

	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// GetAccountSummary counts the account's entities of each kind, beside their quotas.
func (s *Service) GetAccountSummary(
	ctx context.Context, _ *iammodel.GetAccountSummaryInput,
) (*iammodel.GetAccountSummaryOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := s.accounts.cached(ctx, id)
	if err != nil {
		return nil, err
	}
	q := s.cfg.Quotas
	sum := map[string]int64{
		"UsersQuota": int64(q.Users), "RolesQuota": int64(q.Roles), "InstanceProfilesQuota": int64(q.InstanceProfiles),
		"ServerCertificatesQuota": int64(q.ServerCertificates), "AccessKeysPerUserQuota": int64(q.AccessKeysPerUser),
		"GroupsQuota": int64(q.Groups), "PoliciesQuota": int64(q.Policies), "GroupsPerUserQuota": maxGroups,
		"SigningCertificatesPerUserQuota": maxSigningCerts, "UserPolicySizeQuota": maxUserPolicy,
		"GroupPolicySizeQuota": maxGroupPolicy, "RolePolicySizeQuota": maxRolePolicy,
		"AssumeRolePolicySizeQuota": maxTrustPolicy, "PolicySizeQuota": maxManagedPolicy,
		"VersionsPerPolicyQuota": maxVersions, "PolicyVersionsInUseQuota": policyVersionsInUse,
		"AttachedPoliciesPerUserQuota": maxAttached, "AttachedPoliciesPerGroupQuota": maxAttached,
		"AttachedPoliciesPerRoleQuota": maxAttached, "GlobalEndpointTokenVersion": 2,
		"AccountAccessKeysPresent": int64(min(len(rec.RootKeys), 1)), "AccountMFAEnabled": 0,
		"AccountPasswordPresent": 0, "AccountSigningCertificatesPresent": int64(min(len(rec.SigningCerts), 1)),
	}
	counts := map[string]func(context.Context, string) (int, error){
		"Users": s.users.Count, "Groups": s.groups.Count, "Roles": s.roles.Count, "Policies": s.managed.Count,
		"InstanceProfiles": s.profiles.Count, "ServerCertificates": s.certificates.Count,
		"Providers": s.providers.Count, "MFADevices": s.devices.Count, "MFADevicesInUse": s.devicesInUse,
		"PolicyVersionsInUse": s.policyUses.Count,
	}
	for name, count := range counts {
		have, err := count(ctx, id+"/")
		if err != nil {
			return nil, err
		}
		sum[name] = int64(have)
	}
	return &iammodel.GetAccountSummaryOutput{SummaryMap: sum}, nil
}

// policyVersionsInUse is AWS's quota of managed policies that an account uses.
const policyVersionsInUse = 10_000

// devicesInUse counts the MFA devices that users have.
func (s *Service) devicesInUse(ctx context.Context, prefix string) (int, error) {
	all, err := s.devices.List(ctx, prefix)
	used := 0
	for i := range all {
		if all[i].UserName != "" {
			used++
		}
	}
	return used, err
}
