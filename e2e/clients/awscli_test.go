package clients

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("awscli", Label(twin.NeedsSim, twin.Slow), func() {
	It("makes an instance that may use S3, waits for it and takes it all away", func(ctx context.Context) {
		out := shell(ctx, nil, `
			aws iam create-role --role-name $ROLE --assume-role-policy-document "$TRUST" --query Role.Arn --output text
			aws iam put-role-policy --role-name $ROLE --policy-name $POLICY --policy-document "$GRANT"
			aws iam get-role-policy --role-name $ROLE --policy-name $POLICY --output text \
				--query 'PolicyDocument.Statement[0].[Effect, Action[0], Resource[0]]'
			aws iam create-instance-profile --instance-profile-name $ROLE --query InstanceProfile.Arn --output text
			aws iam add-role-to-instance-profile --instance-profile-name $ROLE --role-name $ROLE
			image=$(aws ec2 describe-images --filters Name=name,Values=web --query 'Images[0].ImageId' --output text)
			id=$(aws ec2 run-instances --image-id $image --iam-instance-profile Name=$ROLE \
				--query 'Instances[0].InstanceId' --output text)
			aws ec2 wait instance-running --instance-ids $id
			aws ec2 describe-instances --filters Name=instance-id,Values=$id --output text \
				--query 'Reservations[].Instances[].[State.Name, IamInstanceProfile.Arn]'
			aws ec2 describe-iam-instance-profile-associations --filters Name=instance-id,Values=$id --output text \
				--query 'IamInstanceProfileAssociations[].[State, InstanceId]' | sed s/$id/INSTANCE/
			aws ec2 terminate-instances --instance-ids $id --query 'TerminatingInstances[].CurrentState.Name' --output text
			aws iam remove-role-from-instance-profile --instance-profile-name $ROLE --role-name $ROLE
			aws iam delete-instance-profile --instance-profile-name $ROLE
			aws iam delete-role-policy --role-name $ROLE --policy-name $POLICY
			aws iam delete-role --role-name $ROLE
			# Last: this client looks every 15 seconds, and by now it need look once.
			aws ec2 wait instance-terminated --instance-ids $id
			aws iam get-role --role-name $ROLE 2>&1 || true`)
		Expect(lines(out)).To(HaveExactElements(
			"arn:aws:iam::123456789012:role/s3access",
			"Allow\ts3:*\t*",
			"arn:aws:iam::123456789012:instance-profile/s3access",
			"running\tarn:aws:iam::123456789012:instance-profile/s3access",
			"associated\tINSTANCE",
			"shutting-down",
			"",
			"An error occurred (NoSuchEntity) when calling the GetRole operation: "+
				"The role with name s3access cannot be found.",
		))
	})
})
