package ec2

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// associationPrefix begins the ids of associations of instance profiles.
const associationPrefix = "iip-assoc"

// profileLink is an instance's association with an instance profile. Its role is what the profile held when the cloud
// looked last: it follows the profile (profiles.go).
type profileLink struct {
	ID    string // iip-assoc-…
	Since time.Time
}

// setProfile gives the instance a profile in place of the one it had, or none with the zero profile. Its node is told.
func (i *Instance) setProfile(p iam.InstanceProfile, link profileLink) {
	i.ProfileARN, i.ProfileID, i.ProfileName, i.RoleName = p.ARN, p.ID, p.Name, p.RoleName
	i.ProfileLink, i.ProfileAccountID, i.ProfileGone = link, "", false
	i.Generation++
}

// associationID is the id of the instance's association; one that was launched by a cloud that kept none has the
// instance's own digits.
func (i *Instance) associationID() string {
	if i.ProfileARN == "" {
		return ""
	}
	return cmp.Or(i.ProfileLink.ID, associationPrefix+strings.TrimPrefix(i.ID, "i"))
}

func (i *Instance) associatedSince() time.Time {
	if i.ProfileLink.Since.IsZero() {
		return i.LaunchTime
	}
	return i.ProfileLink.Since
}

func (s *Service) newLink() (profileLink, error) {
	id, err := newID(associationPrefix)
	return profileLink{ID: id, Since: s.cfg.Clock().UTC().Truncate(time.Second)}, err
}

func noAssociation(id string) error {
	return model.Errorf("InvalidAssociationID.NotFound", http.StatusBadRequest,
		"An invalid association-id of '%.64s' was given", id)
}

// notLive is EC2's answer to a change of an instance that is at its end.
func notLive(id string) error {
	return model.Errorf("IncorrectInstanceState", http.StatusBadRequest,
		"The instance '%s' is not in a state from which it can be changed: it is ended or about to", id)
}

// findProfile looks a request's profile up and checks that the caller may pass its role. Here, unlike in a launch, one
// must be named.
func (s *Service) findProfile(ctx context.Context, caller authn.Caller, instanceID string,
	in *ec2model.IamInstanceProfileSpecification) (iam.InstanceProfile, error) {
	var spec launchSpec
	instance := s.arn(caller.AccountID, instanceResource, instanceID)
	if err := s.parseProfile(ctx, caller, in, instance, &spec); err != nil {
		return iam.InstanceProfile{}, err
	}
	if spec.profile.ARN == "" {
		return iam.InstanceProfile{}, model.Errorf("MissingParameter", http.StatusBadRequest,
			"The request must contain the parameter IamInstanceProfile.Arn or IamInstanceProfile.Name")
	}
	return spec.profile, nil
}

// AssociateIamInstanceProfile gives a profile to an instance that has none.
func (s *Service) AssociateIamInstanceProfile(ctx context.Context,
	in *ec2model.AssociateIamInstanceProfileInput) (*ec2model.AssociateIamInstanceProfileOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.selectInstances(caller, []string{model.Val(in.InstanceId)})
	if err != nil {
		return nil, err
	}
	profile, err := s.findProfile(ctx, caller, list[0].inst.ID, in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	link, err := s.newLink()
	if err != nil {
		return nil, err
	}
	inst, err := s.update(ctx, list[0].inst.ID, func(_ *store.Tx, inst *Instance) error {
		if !inst.State.live() {
			return notLive(inst.ID)
		}
		if inst.ProfileARN != "" {
			return model.Errorf("IncorrectState", http.StatusBadRequest,
				"There is an existing association for instance %s", inst.ID)
		}
		inst.setProfile(profile, link)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.recordProfile(ctx, &inst, "associated")
	return &ec2model.AssociateIamInstanceProfileOutput{
		IamInstanceProfileAssociation: wireAssociation(&inst, ec2model.IamInstanceProfileAssociationStateAssociating),
	}, nil
}

// byAssociation finds the caller's instance with an association.
func (s *Service) byAssociation(caller authn.Caller, id string) (*entry, error) {
	e, ok := s.view.associated(id)
	if !ok || e.inst.AccountID != caller.AccountID || e.inst.hiddenFrom(caller) || !e.inst.State.live() {
		return nil, noAssociation(id)
	}
	return e, nil
}

// changeAssociation gives the instance of an association another profile, or none.
func (s *Service) changeAssociation(ctx context.Context, caller authn.Caller, id string, profile iam.InstanceProfile,
	link profileLink) (before, after Instance, err error) {
	e, err := s.byAssociation(caller, id)
	if err != nil {
		return before, after, err
	}
	after, err = s.update(ctx, e.inst.ID, func(_ *store.Tx, inst *Instance) error {
		before = *inst
		if inst.associationID() != id || !inst.State.live() {
			return noAssociation(id)
		}
		inst.setProfile(profile, link)
		return nil
	})
	return before, after, err
}

// DisassociateIamInstanceProfile takes an instance's profile away: its metadata service gives no credentials any more.
func (s *Service) DisassociateIamInstanceProfile(ctx context.Context,
	in *ec2model.DisassociateIamInstanceProfileInput) (*ec2model.DisassociateIamInstanceProfileOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	before, _, err := s.changeAssociation(ctx, caller, model.Val(in.AssociationId), iam.InstanceProfile{}, profileLink{})
	if err != nil {
		return nil, err
	}
	s.recordProfile(ctx, &before, "disassociated")
	return &ec2model.DisassociateIamInstanceProfileOutput{
		IamInstanceProfileAssociation: wireAssociation(&before, ec2model.IamInstanceProfileAssociationStateDisassociating),
	}, nil
}

// ReplaceIamInstanceProfileAssociation gives an instance another profile at once. The association gets a new id.
func (s *Service) ReplaceIamInstanceProfileAssociation(ctx context.Context,
	in *ec2model.ReplaceIamInstanceProfileAssociationInput) (*ec2model.ReplaceIamInstanceProfileAssociationOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.byAssociation(caller, model.Val(in.AssociationId))
	if err != nil {
		return nil, err
	}
	profile, err := s.findProfile(ctx, caller, e.inst.ID, in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	link, err := s.newLink()
	if err != nil {
		return nil, err
	}
	_, inst, err := s.changeAssociation(ctx, caller, model.Val(in.AssociationId), profile, link)
	if err != nil {
		return nil, err
	}
	s.recordProfile(ctx, &inst, "associated")
	return &ec2model.ReplaceIamInstanceProfileAssociationOutput{
		IamInstanceProfileAssociation: wireAssociation(&inst, ec2model.IamInstanceProfileAssociationStateAssociating),
	}, nil
}

// DescribeIamInstanceProfileAssociations lists the associations of the caller's instances that are not at their end.
func (s *Service) DescribeIamInstanceProfileAssociations(ctx context.Context,
	in *ec2model.DescribeIamInstanceProfileAssociationsInput) (*ec2model.DescribeIamInstanceProfileAssociationsOutput,
	error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, "instance-id", "state")
	if err != nil {
		return nil, err
	}
	if len(in.AssociationIds) > 0 && in.MaxResults != nil {
		return nil, model.Errorf("InvalidParameterCombination", http.StatusBadRequest,
			"The parameter AssociationId cannot be used with the parameter MaxResults")
	}
	wanted := map[string]bool{}
	for _, id := range in.AssociationIds {
		if _, err := s.byAssociation(caller, id); err != nil {
			return nil, err
		}
		wanted[id] = true
	}
	kept, next, err := page(associated(s.visible(caller), wanted, fs), in.MaxResults, 5, in.NextToken, entryKey,
		entryAfter)
	if err != nil {
		return nil, err
	}
	out := &ec2model.DescribeIamInstanceProfileAssociationsOutput{NextToken: next}
	for _, e := range kept {
		out.IamInstanceProfileAssociations = append(out.IamInstanceProfileAssociations,
			*wireAssociation(&e.inst, ec2model.IamInstanceProfileAssociationStateAssociated))
	}
	return out, nil
}

// associated keeps the instances whose association is not at its end, is wanted when any is, and passes the filters.
func associated(list []*entry, wanted map[string]bool, fs filters) []*entry {
	kept := list[:0]
	for _, e := range list {
		id := e.inst.associationID()
		if id == "" || !e.inst.State.live() || len(wanted) > 0 && !wanted[id] {
			continue
		}
		if fs.match(func(name string) []string {
			if name == "state" {
				return []string{ec2model.IamInstanceProfileAssociationStateAssociated}
			}
			return []string{e.inst.ID}
		}) {
			kept = append(kept, e)
		}
	}
	return kept
}

func wireAssociation(i *Instance, state string) *ec2model.IamInstanceProfileAssociation {
	return &ec2model.IamInstanceProfileAssociation{
		AssociationId:      model.Ptr(i.associationID()),
		IamInstanceProfile: &ec2model.IamInstanceProfile{Arn: model.Ptr(i.ProfileARN), Id: model.Ptr(i.ProfileID)},
		InstanceId:         model.Ptr(i.ID),
		State:              model.Ptr(state),
		Timestamp:          model.Ptr(i.associatedSince()),
	}
}

// recordProfile puts a change of an instance's profile into the journal.
func (s *Service) recordProfile(ctx context.Context, inst *Instance, what string) {
	s.record(ctx, "instance.profile_"+what, inst.ID, map[string]string{
		"profile": inst.ProfileARN, "role": inst.RoleName, "association": inst.associationID(),
	})
}
