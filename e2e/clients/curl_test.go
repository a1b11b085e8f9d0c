package clients

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// curlScript asks with curl's own SigV4. What comes back is XML, of which it cuts out what the next request needs.
const curlScript = `
ask() { # SERVICE VERSION Name=Value...
	local service=$1 version=$2; shift 2
	local args=(--data-urlencode "Version=$version")
	for pair in "$@"; do args+=(--data-urlencode "$pair"); done
	curl -sS --fail-with-body --aws-sigv4 "aws:amz:us-east-1:$service" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
		"${args[@]}" "$AWS_ENDPOINT_URL/"
}
iam() { ask iam 2010-05-08 "$@"; }
ec2() { ask ec2 2016-11-15 "$@"; }
tag() { grep -o "<$1>[^<]*" | sed -n "1s/.*>//p"; }
await() { # STATE
	for _ in $(seq 100); do
		if ec2 Action=DescribeInstances InstanceId.1=$id | grep -q "<instanceState>.*<name>$1</name>"; then return; fi
		sleep 0.1
	done
	return 1
}

ask sts 2011-06-15 Action=GetCallerIdentity | tag Arn
iam Action=CreateRole RoleName=$ROLE "AssumeRolePolicyDocument=$TRUST" | tag Arn
iam Action=PutRolePolicy RoleName=$ROLE PolicyName=$POLICY "PolicyDocument=$GRANT" >/dev/null
iam Action=CreateInstanceProfile InstanceProfileName=$ROLE | tag Arn
iam Action=AddRoleToInstanceProfile InstanceProfileName=$ROLE RoleName=$ROLE >/dev/null
image=$(ec2 Action=DescribeImages Filter.1.Name=name Filter.1.Value.1=web | tag imageId)
id=$(ec2 Action=RunInstances ImageId=$image MinCount=1 MaxCount=1 IamInstanceProfile.Name=$ROLE | tag instanceId)
await running
ec2 Action=DescribeIamInstanceProfileAssociations Filter.1.Name=instance-id Filter.1.Value.1=$id | tag arn
ec2 Action=TerminateInstances InstanceId.1=$id >/dev/null
await terminated
iam Action=RemoveRoleFromInstanceProfile InstanceProfileName=$ROLE RoleName=$ROLE >/dev/null
iam Action=DeleteInstanceProfile InstanceProfileName=$ROLE >/dev/null
iam Action=DeleteRolePolicy RoleName=$ROLE PolicyName=$POLICY >/dev/null
iam Action=DeleteRole RoleName=$ROLE >/dev/null
AWS_SECRET_ACCESS_KEY=wrong
ask sts 2011-06-15 Action=GetCallerIdentity 2>/dev/null | tag Code || true
`

var _ = Describe("curl --aws-sigv4", Label(twin.NeedsSim), func() {
	It("makes the example", func(ctx context.Context) {
		Expect(lines(shell(ctx, nil, curlScript))).To(HaveExactElements(
			"arn:aws:iam::123456789012:root",
			"arn:aws:iam::123456789012:role/s3access",
			"arn:aws:iam::123456789012:instance-profile/s3access",
			"arn:aws:iam::123456789012:instance-profile/s3access",
			"SignatureDoesNotMatch",
		))
	})
})
