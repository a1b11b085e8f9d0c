package iam

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// recordAllowed tells of a decision that lets a request through. It says little: a denial is what people ask about, and
// what let a caller through can be asked for again (cloudtwin explain).
func (s *Service) recordAllowed(ctx context.Context, c *authn.Caller, r *policy.Request) {
	if s.cfg.Journal == nil {
		return
	}
	s.cfg.Journal.RecordList(ctx, journal.Event{Time: s.cfg.Clock(), Kind: "policy.decided", Subject: c.ARN},
		[]journal.Attribute{
			{Name: "action", Value: r.Action}, {Name: journal.RequestID, Value: c.RequestID},
			{Name: "resource", Value: r.Resource}, {Name: "verdict", Value: policy.Allowed.String()},
		})
}
