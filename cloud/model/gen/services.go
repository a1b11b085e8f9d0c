package main

// service says what to generate of one AWS service.
type service struct {
	pkg   string // package name below cloud/model
	model string // folder below models/apis
	// action is the prefix of the service's IAM actions.
	action string
	// only lists the operations to generate; empty means all.
	only []string
	// open lists string shapes whose enum is not checked, because AWS adds values faster than models are released
	// and the operation itself knows which ones exist here.
	open []string
}

func services() []service {
	return []service{
		{pkg: "iam", model: "iam/2010-05-08", action: "iam"},
		{pkg: "sts", model: "sts/2011-06-15", action: "sts"},
		{pkg: "elb", model: "elasticloadbalancing/2012-06-01", action: "elasticloadbalancing"},
		{
			pkg: "ec2", model: "ec2/2016-11-15", action: "ec2",
			only: []string{
				"AssociateIamInstanceProfile", "CreateKeyPair", "CreateTags", "DeleteKeyPair", "DeleteTags",
				"DescribeAvailabilityZones", "DescribeIamInstanceProfileAssociations", "DescribeImages", "DescribeInstanceStatus",
				"DescribeInstanceTypes", "DescribeInstances", "DescribeKeyPairs", "DescribeRegions", "DescribeTags",
				"DisassociateIamInstanceProfile", "GetConsoleScreenshot", "ImportKeyPair", "ModifyInstanceMetadataOptions",
				"RebootInstances", "ReplaceIamInstanceProfileAssociation", "RunInstances", "TerminateInstances",
			},
			open: []string{"InstanceType"},
		},
	}
}
