package ec2

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

// Resources names the ARNs that an operation touches, for authorisation before its handler runs; nil means "*".
// EC2's describe operations know no resources (Service Authorization Reference, Amazon EC2).
func (s *Service) Resources(_ context.Context, _ string, caller authn.Caller, input any) ([]string, error) {
	arn := func(account, kind, id string) string {
		return "arn:aws:ec2:" + s.cfg.Region + ":" + account + ":" + kind + "/" + id
	}
	var ids []string
	switch in := input.(type) {
	case *ec2model.RunInstancesInput:
		return []string{
			arn("", "image", model.Val(in.ImageId)), arn(caller.AccountID, "instance", "*"),
		}, nil
	case *ec2model.TerminateInstancesInput:
		ids = in.InstanceIds
	case *ec2model.CreateTagsInput:
		ids = in.Resources
	case *ec2model.DeleteTagsInput:
		ids = in.Resources
	default:
		return nil, nil
	}
	arns := make([]string, 0, len(ids))
	for _, id := range ids {
		arns = append(arns, arn(caller.AccountID, "instance", id))
	}
	return arns, nil
}
