package iam

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

const (
	// maxManagedPolicy is how many characters a managed policy may have, white space not counted.
	maxManagedPolicy = 6144
	// maxVersions is how many versions a managed policy may have.
	maxVersions = 5
)

// managedRecord is a managed policy with its versions.
type managedRecord struct {
	AccountID   string
	Name        string
	Path        string
	ID          string // ANPA…
	Created     time.Time
	Updated     time.Time
	Description string          `json:",omitempty"`
	Versions    []policyVersion // in the order in which they were made
	Default     int             // number of the version that counts
	Next        int             // number of the next version: numbers are not used again
	Tags        []tag           `json:",omitempty"`
}

type policyVersion struct {
	Number   int
	Document string
	Created  time.Time
}

// policyUses counts who uses a policy in one account, under the account and the policy's ARN. Every transaction that
// attaches or deletes a policy reads and writes it, so that they never pass each other.
type policyUses struct {
	Attached int
	Boundary int
	Indexed  int `json:",omitempty"` // how many of them are in the index of who has a policy
}

// managed is a managedRecord with its default version compiled.
type managed struct {
	managedRecord
	fullARN string
	source  policy.Source
}

func (r *managedRecord) arn() string { return entityARN(r.AccountID, kindPolicy, r.Path, r.Name) }

func (r *managedRecord) version(number int) (policyVersion, bool) {
	i := slices.IndexFunc(r.Versions, func(v policyVersion) bool { return v.Number == number })
	if i < 0 {
		return policyVersion{}, false
	}
	return r.Versions[i], true
}

func (s *Service) compileManaged(rec *managedRecord) (*managed, error) {
	v, ok := rec.version(rec.Default)
	if !ok {
		return nil, errors.New("managed policy " + rec.arn() + " has no default version")
	}
	doc, err := s.policies.Parse(v.Document, policy.Identity)
	return &managed{managedRecord: *rec, fullARN: rec.arn(), source: policy.Source{
		Name: "managed policy " + rec.Name, Document: doc, ID: rec.Name,
		Type: iammodel.PolicySourceTypeUserManaged,
	}}, err
}

// managedPolicy returns a managed policy that an account can use, by its exact ARN, or store.ErrNotFound: its own,
// or one of AWS's.
func (s *Service) managedPolicy(ctx context.Context, accountID, arn string) (*managed, error) {
	if p, ok := awsPolicy(arn); ok {
		return p, nil
	}
	owner, kind, _, name, ok := splitARN(arn)
	if !ok || kind != kindPolicy || owner != accountID {
		return nil, store.ErrNotFound
	}
	p, err := s.managed.cached(ctx, recordKey(owner, name))
	if err == nil && p.fullARN != arn {
		return nil, store.ErrNotFound
	}
	return p, err
}

func noPolicy(err error, arn string) error { return missing(err, "Policy %s was not found.", arn) }

func noVersion(arn, version string) error {
	return iammodel.ErrNoSuchEntity("Policy %s version %s does not exist or is not attachable.", arn, version)
}

func (s *Service) policyView(ctx context.Context, accountID string, p *managedRecord) (*iammodel.Policy, error) {
	uses, err := s.policyUses.Get(ctx, accountID+"/"+p.arn())
	if err := ignoreMissing(err); err != nil {
		return nil, err
	}
	v := p.view(uses)
	v.Tags = viewTags(p.Tags)
	if p.Description != "" {
		v.Description = model.Ptr(p.Description)
	}
	return v, nil
}

// view is how lists show a policy: without description and tags.
func (r *managedRecord) view(uses policyUses) *iammodel.Policy {
	return &iammodel.Policy{
		Arn: model.Ptr(r.arn()), AttachmentCount: model.Ptr(int64(uses.Attached)), CreateDate: model.Ptr(r.Created),
		DefaultVersionId: model.Ptr(versionID(r.Default)), IsAttachable: model.Ptr(true), Path: model.Ptr(r.Path),
		PermissionsBoundaryUsageCount: model.Ptr(int64(uses.Boundary)), PolicyId: model.Ptr(r.ID),
		PolicyName: model.Ptr(r.Name), UpdateDate: model.Ptr(r.Updated),
	}
}

// usesOf returns the uses of policies in an account, by the policy's ARN.
func (s *Service) usesOf(ctx context.Context, accountID string, of []*managedRecord) (map[string]policyUses, error) {
	keys := make([]string, len(of))
	for i := range of {
		keys[i] = accountID + "/" + of[i].arn()
	}
	found, err := s.policyUses.GetMany(ctx, keys)
	out := make(map[string]policyUses, len(found))
	for key, uses := range found {
		out[strings.TrimPrefix(key, accountID+"/")] = uses
	}
	return out, err
}

func versionID(number int) string { return "v" + strconv.Itoa(number) }

// checkManagedDocument parses a managed policy's document and checks its size.
func (s *Service) checkManagedDocument(text string) error {
	if _, err := s.checkDocument(text, policy.Identity); err != nil {
		return err
	}
	if policySize(text) > maxManagedPolicy {
		return errLimit("PolicySize", maxManagedPolicy)
	}
	return nil
}

// CreatePolicy makes a managed policy, whose first version is the default.
func (s *Service) CreatePolicy(
	ctx context.Context, in *iammodel.CreatePolicyInput,
) (*iammodel.CreatePolicyOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name, text := model.Val(in.PolicyName), model.Val(in.PolicyDocument)
	path, perr := checkPath("path", in.Path)
	tags, terr := readTags(in.Tags)
	if err := errors.Join(checkName("policyName", name, 128, "_"), perr, terr); err != nil {
		return nil, firstOf(err)
	}
	if err := s.checkManagedDocument(text); err != nil {
		return nil, err
	}
	if err := belowLimit(ctx, s.managed.Count, id, "PoliciesPerAccount", s.cfg.Quotas.Policies); err != nil {
		return nil, err
	}
	rec := managedRecord{
		AccountID: id, Name: name, Path: path, ID: newID("ANPA"), Created: s.now(), Updated: s.now(),
		Description: model.Val(in.Description), Tags: tags, Default: 1, Next: 2,
		Versions: []policyVersion{{Number: 1, Document: text, Created: s.now()}},
	}
	if err := s.managed.Create(ctx, recordKey(id, name), rec); err != nil {
		return nil, taken(err, "A policy called %s already exists. Duplicate names are not allowed.", name)
	}
	v, err := s.policyView(ctx, id, &rec)
	return &iammodel.CreatePolicyOutput{Policy: v}, err
}

// GetPolicy returns a managed policy without its documents.
func (s *Service) GetPolicy(ctx context.Context, in *iammodel.GetPolicyInput) (*iammodel.GetPolicyOutput, error) {
	id, p, err := s.callersPolicy(ctx, model.Val(in.PolicyArn))
	if err != nil {
		return nil, err
	}
	v, err := s.policyView(ctx, id, &p.managedRecord)
	return &iammodel.GetPolicyOutput{Policy: v}, err
}

// callersPolicy returns a policy that the caller's account can use, or NoSuchEntity.
func (s *Service) callersPolicy(ctx context.Context, arn string) (accountID string, p *managed, err error) {
	if accountID, err = account(ctx); err != nil {
		return "", nil, err
	}
	if err := checkPolicyARN(arn); err != nil {
		return "", nil, err
	}
	p, err = s.managedPolicy(ctx, accountID, arn)
	return accountID, p, noPolicy(err, arn)
}

func checkPolicyARN(arn string) error {
	if !strings.HasPrefix(arn, "arn:aws:iam::") || !strings.Contains(arn, ":policy/") {
		return iammodel.ErrInvalidInput("ARN %s is not valid.", arn)
	}
	return nil
}

// ListPolicies lists the account's own managed policies and AWS's, those first.
func (s *Service) ListPolicies(
	ctx context.Context, in *iammodel.ListPoliciesInput,
) (*iammodel.ListPoliciesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	var parts []part[iammodel.Policy]
	if scope := model.Val(in.Scope); scope != iammodel.PolicyScopeTypeAWS {
		parts = append(parts, s.policiesPart("0", s.managed, id, in))
	}
	if scope := model.Val(in.Scope); scope != iammodel.PolicyScopeTypeLocal {
		parts = append(parts, s.policiesPart("1", awsTable{}, id, in))
	}
	p, err := chainPage(ctx, parts, in.Marker, in.MaxItems)
	return &iammodel.ListPoliciesOutput{IsTruncated: p.truncated, Marker: p.marker, Policies: p.items}, err
}

// policiesPart is a part of ListPolicies: the account's own policies, by name, or AWS's.
func (s *Service) policiesPart(name string, t pager[managedRecord], accountID string, in *iammodel.ListPoliciesInput,
) part[iammodel.Policy] {
	all := tablePart(name, t, accountID+"/", nil, same[managedRecord])
	read := func(ctx context.Context, after string, limit int) (b batch[iammodel.Policy], err error) {
		recs, err := all.read(ctx, after, limit)
		if err != nil {
			return b, err
		}
		uses, err := s.usesOf(ctx, accountID, recs.items)
		b.last, b.more = recs.last, recs.more
		for i, rec := range recs.items {
			v := rec.view(uses[rec.arn()])
			if strings.HasPrefix(rec.Path, model.Val(in.PathPrefix)) &&
				wantedUse(v, model.Val(in.OnlyAttached), model.Val(in.PolicyUsageFilter)) {
				b.items, b.keys = append(b.items, *v), append(b.keys, recs.keys[i])
			}
		}
		return b, err
	}
	filtered := model.Val(in.OnlyAttached) || in.PolicyUsageFilter != nil || len(model.Val(in.PathPrefix)) > 1
	return part[iammodel.Policy]{name: name, prefix: all.prefix, filtered: filtered, read: read}
}

func wantedUse(v *iammodel.Policy, onlyAttached bool, usage string) bool {
	used := *v.AttachmentCount > 0 || *v.PermissionsBoundaryUsageCount > 0
	switch usage {
	case iammodel.PolicyUsageTypePermissionsPolicy:
		used = *v.AttachmentCount > 0
	case iammodel.PolicyUsageTypePermissionsBoundary:
		used = *v.PermissionsBoundaryUsageCount > 0
	default:
		return used || !onlyAttached
	}
	return used
}

// DeletePolicy deletes a managed policy that nobody uses and that has no version but the default.
func (s *Service) DeletePolicy(
	ctx context.Context, in *iammodel.DeletePolicyInput,
) (*iammodel.DeletePolicyOutput, error) {
	arn := model.Val(in.PolicyArn)
	err := s.changePolicy(ctx, arn, func(tx *store.Tx, key string, rec *managedRecord) (keep bool, err error) {
		usesKey := rec.AccountID + "/" + arn
		uses, err := s.policyUses.In(tx).Get(usesKey)
		switch {
		case ignoreMissing(err) != nil:
			return false, err
		case uses.Attached+uses.Boundary > 0:
			return false, iammodel.ErrDeleteConflict("Cannot delete a policy attached to entities.")
		case len(rec.Versions) > 1:
			return false, iammodel.ErrDeleteConflict("This policy has more than one version. Before you delete a " +
				"policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		if err == nil {
			err = s.policyUses.In(tx).Delete(usesKey)
		}
		return false, errors.Join(ignoreMissing(err), s.managed.In(tx).Delete(key))
	})
	return &iammodel.DeletePolicyOutput{}, err
}

// changePolicy runs change on one of the caller's own managed policies in a transaction, and writes the record if
// change says so.
func (s *Service) changePolicy(ctx context.Context, arn string,
	change func(tx *store.Tx, key string, rec *managedRecord) (keep bool, err error),
) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	if err := checkPolicyARN(arn); err != nil {
		return err
	}
	owner, _, _, name, ok := splitARN(arn)
	if !ok || owner != id {
		if _, aws := awsPolicy(arn); aws {
			return model.Errorf("AccessDenied", 403, "Policy %s is an AWS managed policy and cannot be changed.", arn)
		}
		return noPolicy(store.ErrNotFound, arn)
	}
	key := recordKey(id, name)
	err = s.txn(ctx, func(tx *store.Tx) error {
		rec, err := s.managed.In(tx).Get(key)
		if err != nil || rec.arn() != arn {
			return orMissing(err)
		}
		keep, err := change(tx, key, &rec)
		if err != nil || !keep {
			return err
		}
		return s.managed.In(tx).Put(key, rec)
	}, func() { s.managed.cache.drop(key) })
	return noPolicy(err, arn)
}
