package clients

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

var _ = Describe("boto3", Label(twin.NeedsSim), func() {
	It("makes the example, with its waiters and paginators", func(ctx context.Context) {
		out := shell(ctx, nil, `/usr/bin/python3 client.py`)
		Expect(lines(out)).To(HaveExactElements(
			"account 123456789012",
			"role arn:aws:iam::123456789012:role/apps/s3access {'Service': ['ec2.amazonaws.com']}",
			"policy True",
			"profile arn:aws:iam::123456789012:instance-profile/s3access ['s3access']",
			"users [['paged-0', 'paged-1'], ['paged-2', 'paged-3']]",
			"roles ['s3access']",
			"instances [5, 1] True {'arn:aws:iam::123456789012:instance-profile/s3access'}",
			"associations 6 {'associated'}",
			"refused DeleteConflict 409",
			"refused NoSuchEntity 404",
			"left [] [] []",
		))
	})

	It("assumes a role that wants a code of an MFA device", func(ctx context.Context) {
		out := shell(ctx, nil, `/usr/bin/python3 mfa.py`)
		Expect(lines(out)).To(HaveExactElements(
			"none AccessDenied",
			"bad AccessDenied",
			"good arn:aws:sts::123456789012:assumed-role/guarded/visit",
			"spent AccessDenied",
			"left [] []",
		))
	})
})
