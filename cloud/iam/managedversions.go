package iam

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func (v policyVersion) view(isDefault, withDocument bool) *iammodel.PolicyVersion {
	out := &iammodel.PolicyVersion{
		VersionId: model.Ptr(versionID(v.Number)), CreateDate: model.Ptr(v.Created),
		IsDefaultVersion: model.Ptr(isDefault),
	}
	if withDocument {
		out.Document = model.Ptr(escapeDocument(v.Document))
	}
	return out
}

func versionNumber(id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "v"))
	if err != nil {
		return 0
	}
	return n
}

// CreatePolicyVersion adds a version to a managed policy, as its default if asked. Whoever has the policy is under the
// new default at once.
func (s *Service) CreatePolicyVersion(
	ctx context.Context, in *iammodel.CreatePolicyVersionInput,
) (*iammodel.CreatePolicyVersionOutput, error) {
	text, asDefault := model.Val(in.PolicyDocument), model.Val(in.SetAsDefault)
	if err := s.checkManagedDocument(text); err != nil {
		return nil, err
	}
	var made policyVersion
	err := s.changePolicy(ctx, model.Val(in.PolicyArn), func(_ *store.Tx, _ string, rec *managedRecord) (bool, error) {
		if len(rec.Versions) >= maxVersions {
			return false, iammodel.ErrLimitExceeded("A managed policy can have up to %d versions. Before you create a "+
				"new version, you must delete an existing version.", maxVersions)
		}
		made = policyVersion{Number: rec.Next, Document: text, Created: s.now()}
		rec.Versions = append(rec.Versions, made)
		rec.Next, rec.Updated = rec.Next+1, s.now()
		if asDefault {
			rec.Default = made.Number
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return &iammodel.CreatePolicyVersionOutput{PolicyVersion: made.view(asDefault, false)}, nil
}

// GetPolicyVersion returns a version with its document, percent-encoded.
func (s *Service) GetPolicyVersion(
	ctx context.Context, in *iammodel.GetPolicyVersionInput,
) (*iammodel.GetPolicyVersionOutput, error) {
	_, p, err := s.callersPolicy(ctx, model.Val(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	v, ok := p.version(versionNumber(model.Val(in.VersionId)))
	if !ok {
		return nil, noVersion(p.fullARN, model.Val(in.VersionId))
	}
	return &iammodel.GetPolicyVersionOutput{PolicyVersion: v.view(v.Number == p.Default, true)}, nil
}

// ListPolicyVersions lists a managed policy's versions, the newest first.
func (s *Service) ListPolicyVersions(
	ctx context.Context, in *iammodel.ListPolicyVersionsInput,
) (*iammodel.ListPolicyVersionsOutput, error) {
	_, p, err := s.callersPolicy(ctx, model.Val(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	versions := slices.Clone(p.Versions)
	slices.Reverse(versions)
	const most = 1 << 30
	order := func(v policyVersion) string { return strconv.Itoa(most - v.Number) }
	page, err := paginate(versions, order, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListPolicyVersionsOutput{
		IsTruncated: page.truncated, Marker: page.marker, Versions: []iammodel.PolicyVersion{},
	}
	for _, v := range page.items {
		out.Versions = append(out.Versions, *v.view(v.Number == p.Default, false))
	}
	return out, nil
}

// DeletePolicyVersion deletes a version that is not the default.
func (s *Service) DeletePolicyVersion(
	ctx context.Context, in *iammodel.DeletePolicyVersionInput,
) (*iammodel.DeletePolicyVersionOutput, error) {
	arn, id := model.Val(in.PolicyArn), model.Val(in.VersionId)
	n := versionNumber(id)
	return &iammodel.DeletePolicyVersionOutput{}, s.changePolicy(ctx, arn,
		func(_ *store.Tx, _ string, rec *managedRecord) (bool, error) {
			if _, ok := rec.version(n); !ok {
				return false, noVersion(arn, id)
			}
			if rec.Default == n {
				return false, iammodel.ErrDeleteConflict("Cannot delete the default version of a policy.")
			}
			rec.Versions = slices.DeleteFunc(rec.Versions, func(v policyVersion) bool { return v.Number == n })
			rec.Updated = s.now()
			return true, nil
		})
}

// SetDefaultPolicyVersion makes another version the one that counts, for everybody who has the policy and at once.
func (s *Service) SetDefaultPolicyVersion(
	ctx context.Context, in *iammodel.SetDefaultPolicyVersionInput,
) (*iammodel.SetDefaultPolicyVersionOutput, error) {
	arn, id := model.Val(in.PolicyArn), model.Val(in.VersionId)
	n := versionNumber(id)
	return &iammodel.SetDefaultPolicyVersionOutput{}, s.changePolicy(ctx, arn,
		func(_ *store.Tx, _ string, rec *managedRecord) (bool, error) {
			if _, ok := rec.version(n); !ok {
				return false, noVersion(arn, id)
			}
			rec.Default, rec.Updated = n, s.now()
			return true, nil
		})
}
