package iam

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// accessJob is a report on what an entity's permissions were used for. It is made when it is asked for, and answered
// at once.
type accessJob struct {
	AccountID   string
	ID          string
	EntityARN   string
	Granularity string
	Created     time.Time
	Services    []accessedService
}

type accessedService struct {
	Namespace string
	Entities  []accessingEntity // newest use first
}

type accessingEntity struct {
	ARN, ID, Name, Path, Type string
	Use                       lastUse
}

// jobLife is how long a report is kept.
const jobLife = 90 * 24 * time.Hour

// serviceNames are the services of this cloud by namespace.
func serviceNames() map[string]string {
	return map[string]string{
		"ec2": "Amazon EC2", "elasticloadbalancing": "AWS Elastic Load Balancing",
		"iam": "AWS Identity and Access Management", "s3": "Amazon S3", "sts": "AWS Security Token Service",
	}
}

// GenerateServiceLastAccessedDetails makes a report on the services that an entity may use and on when it did last. Of
// a group or policy it is about the principals that have it.
func (s *Service) GenerateServiceLastAccessedDetails(
	ctx context.Context, in *iammodel.GenerateServiceLastAccessedDetailsInput,
) (*iammodel.GenerateServiceLastAccessedDetailsOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	arn := model.Val(in.Arn)
	sources, principals, err := s.accessOf(ctx, id, arn)
	if err != nil {
		return nil, err
	}
	job := accessJob{
		AccountID: id, ID: uuid.NewString(), EntityARN: arn, Created: s.now(),
		Granularity: cmp.Or(model.Val(in.Granularity), iammodel.AccessAdvisorUsageGranularityTypeSERVICELEVEL),
	}
	uses := make([]map[string]lastUse, len(principals))
	for i, p := range principals {
		if uses[i], err = s.uselog.services(ctx, id+"/"+p.ID); err != nil {
			return nil, err
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(serviceNames())) {
		if !grantsService(sources, namespace) {
			continue
		}
		svc := accessedService{Namespace: namespace}
		for i, p := range principals {
			if u, ok := uses[i][namespace]; ok {
				p.Use = u
				svc.Entities = append(svc.Entities, p)
			}
		}
		slices.SortFunc(svc.Entities, func(a, b accessingEntity) int { return b.Use.At.Compare(a.Use.At) })
		job.Services = append(job.Services, svc)
	}
	if err := s.jobs.Create(ctx, id+"/"+job.ID, job); err != nil {
		return nil, err
	}
	return &iammodel.GenerateServiceLastAccessedDetailsOutput{JobId: model.Ptr(job.ID)}, nil
}

// grantsService reports whether a statement of the policies allows an action of a service.
func grantsService(sources []policy.Source, namespace string) bool {
	return slices.ContainsFunc(sources, func(src policy.Source) bool {
		return src.Document != nil && src.Document.GrantsService(namespace)
	})
}

// accessOf returns an entity's policies and the principals that have them.
func (s *Service) accessOf(ctx context.Context, accountID, arn string) ([]policy.Source, []accessingEntity, error) {
	sources, err := s.sourcesOf(ctx, accountID, arn)
	if err != nil {
		return nil, nil, err
	}
	_, kind, _, name, ok := splitARN(arn)
	if p, aws := awsPolicy(arn); aws {
		kind, name, ok = kindPolicy, p.Name, true
	}
	if !ok {
		return nil, nil, noARN(arn)
	}
	var holders []policyHolder
	switch kind {
	case kindUser, kindRole:
		holders = []policyHolder{{kind: kind, name: name}}
	case kindGroup:
		g, err := s.group(ctx, accountID, name)
		if err != nil {
			return nil, nil, noGroup(err, name)
		}
		members, err := s.members.List(ctx, g.AccountID+"/"+g.ID+"/")
		if err != nil {
			return nil, nil, err
		}
		for _, m := range members {
			holders = append(holders, policyHolder{kind: kindUser, name: m.UserName})
		}
	case kindPolicy:
		parts, err := s.holders(ctx, accountID, arn, "", true, func(h *holder, _ string) bool {
			return slices.Contains(h.Attached, arn)
		})
		if err == nil {
			holders, err = wholeList(ctx, parts)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	principals, err := s.accessing(ctx, accountID, holders)
	return sources, principals, err
}

func (s *Service) accessing(ctx context.Context, accountID string, holders []policyHolder) ([]accessingEntity, error) {
	var out []accessingEntity
	for _, h := range holders {
		switch h.kind {
		case kindUser:
			u, err := s.user(ctx, accountID, h.name)
			if err == nil {
				out = append(out, accessingEntity{ARN: u.fullARN, ID: u.ID, Name: u.Name, Path: u.Path, Type: "USER"})
			} else if !isMissing(err) {
				return nil, err
			}
		case kindRole:
			r, err := s.role(ctx, accountID, h.name)
			if err == nil {
				out = append(out, accessingEntity{ARN: r.fullARN, ID: r.ID, Name: r.Name, Path: r.Path, Type: "ROLE"})
			} else if !isMissing(err) {
				return nil, err
			}
		}
	}
	return out, nil
}

func (s *Service) accessJob(ctx context.Context, id *string) (accessJob, error) {
	accountID, err := account(ctx)
	if err != nil {
		return accessJob{}, err
	}
	job, err := s.jobs.Get(ctx, accountID+"/"+model.Val(id))
	if err == nil && s.now().After(job.Created.Add(jobLife)) {
		err = store.ErrNotFound
	}
	return job, missing(err, "The job %s cannot be found.", model.Val(id))
}

// GetServiceLastAccessedDetails returns a report.
func (s *Service) GetServiceLastAccessedDetails(
	ctx context.Context, in *iammodel.GetServiceLastAccessedDetailsInput,
) (*iammodel.GetServiceLastAccessedDetailsOutput, error) {
	job, err := s.accessJob(ctx, in.JobId)
	if err != nil {
		return nil, err
	}
	p, err := paginate(job.Services, func(a accessedService) string { return a.Namespace }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.GetServiceLastAccessedDetailsOutput{
		JobStatus: model.Ptr(iammodel.JobStatusTypeCOMPLETED), JobType: model.Ptr(job.Granularity),
		JobCreationDate: model.Ptr(job.Created), JobCompletionDate: model.Ptr(job.Created),
		IsTruncated: p.truncated, Marker: p.marker, ServicesLastAccessed: []iammodel.ServiceLastAccessed{},
	}
	for _, a := range p.items {
		v := iammodel.ServiceLastAccessed{
			ServiceNamespace: model.Ptr(a.Namespace), ServiceName: model.Ptr(serviceNames()[a.Namespace]),
			TotalAuthenticatedEntities: model.Ptr(int64(len(a.Entities))),
		}
		if len(a.Entities) > 0 {
			e := a.Entities[0]
			v.LastAuthenticated, v.LastAuthenticatedEntity = model.Ptr(e.Use.At), model.Ptr(e.ARN)
			v.LastAuthenticatedRegion = model.Ptr(e.Use.Region)
			if job.Granularity == iammodel.AccessAdvisorUsageGranularityTypeACTIONLEVEL {
				_, action, _ := strings.Cut(e.Use.Action, ":")
				v.TrackedActionsLastAccessed = []iammodel.TrackedActionLastAccessed{{
					ActionName: model.Ptr(action), LastAccessedEntity: model.Ptr(e.ARN),
					LastAccessedTime: model.Ptr(e.Use.At), LastAccessedRegion: model.Ptr(e.Use.Region),
				}}
			}
		}
		out.ServicesLastAccessed = append(out.ServicesLastAccessed, v)
	}
	return out, nil
}

// GetServiceLastAccessedDetailsWithEntities returns, of a report, the principals that used one service.
func (s *Service) GetServiceLastAccessedDetailsWithEntities(
	ctx context.Context, in *iammodel.GetServiceLastAccessedDetailsWithEntitiesInput,
) (*iammodel.GetServiceLastAccessedDetailsWithEntitiesOutput, error) {
	job, err := s.accessJob(ctx, in.JobId)
	if err != nil {
		return nil, err
	}
	var entities []accessingEntity
	for _, a := range job.Services {
		if a.Namespace == model.Val(in.ServiceNamespace) {
			entities = a.Entities
		}
	}
	order := func(e accessingEntity) string { return e.ARN }
	p, err := paginate(sortedBy(slices.Clone(entities), order), order, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iammodel.GetServiceLastAccessedDetailsWithEntitiesOutput{
		JobStatus: model.Ptr(iammodel.JobStatusTypeCOMPLETED), JobCreationDate: model.Ptr(job.Created),
		JobCompletionDate: model.Ptr(job.Created), IsTruncated: p.truncated, Marker: p.marker,
		EntityDetailsList: []iammodel.EntityDetails{},
	}
	for _, e := range p.items {
		out.EntityDetailsList = append(out.EntityDetailsList, iammodel.EntityDetails{
			LastAuthenticated: model.Ptr(e.Use.At),
			EntityInfo: &iammodel.EntityInfo{
				Arn: model.Ptr(e.ARN), Id: model.Ptr(e.ID), Name: model.Ptr(e.Name), Path: model.Ptr(e.Path),
				Type: model.Ptr(e.Type),
			},
		})
	}
	return out, nil
}
