package ec2

import (
	"cmp"
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
)

// keyPairResource is the kind in the ARN of a key pair, which ends in its name.
const keyPairResource = "key-pair"

// Resources names the ARNs that an operation touches, for authorisation before its handler runs; nil means "*".
// EC2's describe operations know no resources (Service Authorization Reference, Amazon EC2).
func (s *Service) Resources(ctx context.Context, _ string, caller authn.Caller, input any) ([]string, error) {
	var ids []string
	switch in := input.(type) {
	case *ec2model.RunInstancesInput:
		arns := []string{s.arn("", imageResource, model.Val(in.ImageId)), s.arn(caller.AccountID, instanceResource, "*")}
		if name := model.Val(in.KeyName); name != "" {
			arns = append(arns, s.arn(caller.AccountID, keyPairResource, name))
		}
		return arns, nil
	case *ec2model.CreateKeyPairInput, *ec2model.ImportKeyPairInput, *ec2model.DeleteKeyPairInput:
		name, err := s.keyPairNamed(ctx, caller, input)
		return []string{s.arn(caller.AccountID, keyPairResource, name)}, err
	case *ec2model.TerminateInstancesInput:
		ids = in.InstanceIds
	case *ec2model.RebootInstancesInput:
		ids = in.InstanceIds
	case *ec2model.GetConsoleScreenshotInput:
		ids = []string{model.Val(in.InstanceId)}
	case *ec2model.AssociateIamInstanceProfileInput:
		ids = []string{model.Val(in.InstanceId)}
	case *ec2model.DisassociateIamInstanceProfileInput:
		ids = s.associated(caller, model.Val(in.AssociationId))
	case *ec2model.ReplaceIamInstanceProfileAssociationInput:
		ids = s.associated(caller, model.Val(in.AssociationId))
	case *ec2model.ModifyInstanceMetadataOptionsInput:
		ids = []string{model.Val(in.InstanceId)}
	case *ec2model.CreateTagsInput:
		return s.taggedARNs(ctx, caller, in.Resources)
	case *ec2model.DeleteTagsInput:
		return s.taggedARNs(ctx, caller, in.Resources)
	default:
		return nil, nil
	}
	arns := make([]string, 0, len(ids))
	for _, id := range ids {
		arns = append(arns, s.arn(caller.AccountID, instanceResource, id))
	}
	return arns, nil
}

// associated is the instance of an association: an association has no ARN of its own. One that is not there is any
// instance, so that only who may change all learns that.
func (s *Service) associated(caller authn.Caller, id string) []string {
	if e, err := s.byAssociation(caller, id); err == nil {
		return []string{e.inst.ID}
	}
	return []string{"*"}
}

// keyPairNamed is the name of the key pair that a request is about. An id that is not there is any key pair's, so that
// only who may delete all learns that.
func (s *Service) keyPairNamed(ctx context.Context, caller authn.Caller, input any) (string, error) {
	switch in := input.(type) {
	case *ec2model.CreateKeyPairInput:
		return model.Val(in.KeyName), nil
	case *ec2model.ImportKeyPairInput:
		return model.Val(in.KeyName), nil
	case *ec2model.DeleteKeyPairInput:
		if name := model.Val(in.KeyName); name != "" || in.KeyPairId == nil {
			return name, nil
		}
		found, err := s.keyPairName(ctx, caller.AccountID, *in.KeyPairId)
		return cmp.Or(found, "*"), err
	}
	return "", nil
}
