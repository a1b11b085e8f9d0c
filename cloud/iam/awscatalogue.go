package iam

import "strings"

// awsPolicyTexts are the AWS managed policies that exist here, by path and name: those that are used most. Paths and
// names are AWS's. Each allows what AWS's allows of the services of this cloud, and names the other services that it is
// about; conditions and resources that tell apart what is not here are left out.
func awsPolicyTexts() map[string]string {
	all := adminTexts()
	for _, part := range []map[string]string{coreActions(), serviceActions(), roleActions()} {
		for name, actions := range part {
			all[name] = allowText(actions)
		}
	}
	return all
}

func documentText(statements string) string {
	return `{"Version":"2012-10-17","Statement":[` + statements + `]}`
}

// allowText allows actions, which are separated by spaces, on everything.
func allowText(actions string) string {
	return documentText(`{"Effect":"Allow","Action":["` + strings.Join(strings.Fields(actions), `","`) +
		`"],"Resource":"*"}`)
}

// adminTexts are those that are more than a list of actions.
func adminTexts() map[string]string {
	const mine = `"arn:aws:iam::*:user/${aws:username}"`
	return map[string]string{
		"/AdministratorAccess": allowText("*"),
		"/PowerUserAccess": documentText(`{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],` +
			`"Resource":"*"},{"Effect":"Allow","Action":["account:GetAccountInformation","iam:CreateServiceLinkedRole",` +
			`"iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeOrganization"],"Resource":"*"}`),
		"/IAMUserChangePassword": documentText(`{"Effect":"Allow","Action":"iam:ChangePassword","Resource":` + mine +
			`},{"Effect":"Allow","Action":"iam:GetAccountPasswordPolicy","Resource":"*"}`),
		"/IAMSelfManageServiceSpecificCredentials": documentText(`{"Effect":"Allow","Action":` +
			`"iam:*ServiceSpecificCredential*","Resource":` + mine + `}`),
		"/IAMUserSSHKeys": documentText(`{"Effect":"Allow","Action":"iam:*SSHPublicKey*","Resource":` + mine + `}`),
		"/ElasticLoadBalancingFullAccess": documentText(`{"Effect":"Allow","Action":["elasticloadbalancing:*",` +
			`"ec2:DescribeInstances","ec2:DescribeAvailabilityZones"],"Resource":"*"},{"Effect":"Allow","Action":` +
			`"iam:CreateServiceLinkedRole","Resource":"*","Condition":{"StringEquals":{"iam:AWSServiceName":` +
			`"elasticloadbalancing.amazonaws.com"}}}`),
		"/AmazonEC2FullAccess": documentText(`{"Effect":"Allow","Action":["ec2:*","elasticloadbalancing:*",` +
			`"cloudwatch:*","autoscaling:*"],"Resource":"*"},{"Effect":"Allow","Action":"iam:CreateServiceLinkedRole",` +
			`"Resource":"*","Condition":{"StringEquals":{"iam:AWSServiceName":["autoscaling.amazonaws.com",` +
			`"ec2scheduled.amazonaws.com","elasticloadbalancing.amazonaws.com","spot.amazonaws.com",` +
			`"spotfleet.amazonaws.com","transitgateway.amazonaws.com"]}}}`),
		"/AWSDenyAll": documentText(`{"Effect":"Deny","Action":["*"],"Resource":"*"}`),
		"/AWSCompromisedKeyQuarantineV2": documentText(`{"Effect":"Deny","Action":["iam:Add*","iam:Attach*",` +
			`"iam:Change*","iam:Create*","iam:Deactivate*","iam:Delete*","iam:Detach*","iam:Put*","iam:Set*",` +
			`"iam:Update*","iam:Upload*","iam:PassRole","ec2:RunInstances","ec2:StartInstances",` +
			`"ec2:RequestSpotInstances","organizations:*"],"Resource":"*"}`),
	}
}

// Actions that several policies allow.
const (
	actionsRead     = "ec2:Describe* ec2:Get* elasticloadbalancing:Describe* "
	actionsReadIAM  = "iam:Generate* iam:Get* iam:List* iam:Simulate* "
	actionsReadSTS  = "sts:GetAccessKeyInfo sts:GetCallerIdentity sts:GetSessionToken "
	actionsInstance = "ec2:DescribeInstances ec2:DescribeTags "
	actionsLogs     = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents "
	actionsNetworks = "ec2:CreateNetworkInterface ec2:DescribeNetworkInterfaces ec2:DeleteNetworkInterface "
	actionsMessages = "ssmmessages:* ec2messages:* "
)

// coreActions are the actions that policies about this cloud's services and about what runs beside instances allow.
func coreActions() map[string]string {
	return map[string]string{
		"/ReadOnlyAccess": actionsRead + actionsReadIAM + actionsReadSTS +
			"s3:Get* s3:List* cloudwatch:Get* cloudwatch:List* logs:Get*",
		"/SecurityAudit": "ec2:Describe* elasticloadbalancing:Describe* " + actionsReadIAM +
			"s3:GetBucket* s3:ListAllMyBuckets sts:GetCallerIdentity",
		"/IAMFullAccess": "iam:* organizations:DescribeAccount organizations:DescribeOrganization",
		"/IAMReadOnlyAccess": "iam:GenerateCredentialReport iam:GenerateServiceLastAccessedDetails iam:Get* iam:List* " +
			"iam:SimulateCustomPolicy iam:SimulatePrincipalPolicy",
		"/IAMAccessAdvisorReadOnly":     "iam:Get* iam:List* iam:GenerateServiceLastAccessedDetails",
		"/IAMAccessAnalyzerFullAccess":  "access-analyzer:* iam:CreateServiceLinkedRole",
		"/AmazonEC2ReadOnlyAccess":      actionsRead + "autoscaling:Describe* cloudwatch:Get* cloudwatch:List*",
		"/AmazonVPCFullAccess":          "ec2:*Vpc* ec2:*Subnet* ec2:*SecurityGroup* ec2:*Route* ec2:Describe*",
		"/AmazonVPCReadOnlyAccess":      "ec2:Describe* ec2:Get*",
		"/EC2InstanceConnect":           "ec2:DescribeInstances ec2-instance-connect:SendSSHPublicKey",
		"/AutoScalingFullAccess":        "autoscaling:* ec2:Describe* elasticloadbalancing:Describe*",
		"/AutoScalingReadOnlyAccess":    "autoscaling:Describe*",
		"/ElasticLoadBalancingReadOnly": "elasticloadbalancing:Describe* elasticloadbalancing:Get*",
		"/AmazonS3FullAccess":           "s3:* s3-object-lambda:*",
		"/AmazonS3ReadOnlyAccess": "s3:Get* s3:List* s3:Describe* s3-object-lambda:Get* " +
			"s3-object-lambda:List*",
		"/AmazonS3OutpostsReadOnlyAccess": "s3-outposts:Get* s3-outposts:List*",
		"/AmazonSSMManagedInstanceCore": "ssm:DescribeAssociation ssm:GetDocument ssm:GetParameter ssm:GetParameters " +
			"ssm:PutInventory ssm:UpdateInstanceInformation " + actionsMessages,
		"/AmazonSSMFullAccess":       "ssm:* " + actionsMessages + actionsInstance,
		"/AmazonSSMReadOnlyAccess":   "ssm:Describe* ssm:Get* ssm:List*",
		"/AmazonSSMPatchAssociation": "ssm:DescribeEffectivePatchesForPatchBaseline ssm:GetPatchBaseline",
		"/CloudWatchFullAccess": "cloudwatch:* logs:* sns:* autoscaling:Describe* iam:GetPolicy " +
			"iam:GetRole",
		"/CloudWatchReadOnlyAccess": "cloudwatch:Describe* cloudwatch:Get* cloudwatch:List* logs:Get* " +
			"logs:List*",
		"/CloudWatchLogsFullAccess":     "logs:* cloudwatch:GenerateQuery",
		"/CloudWatchLogsReadOnlyAccess": "logs:Describe* logs:Get* logs:List* logs:StartQuery logs:StopQuery",
		"/CloudWatchAgentServerPolicy":  "cloudwatch:PutMetricData " + actionsInstance + actionsLogs + "ssm:GetParameter",
		"/CloudWatchAgentAdminPolicy":   "cloudwatch:PutMetricData ec2:DescribeTags " + actionsLogs + "ssm:PutParameter",
	}
}

// serviceActions are those of policies about other services of AWS.
func serviceActions() map[string]string {
	return map[string]string{
		"/AmazonDynamoDBFullAccess": "dynamodb:* dax:* iam:ListRoles iam:GetRole",
		"/AmazonDynamoDBReadOnlyAccess": "dynamodb:BatchGet* dynamodb:Describe* dynamodb:Get* dynamodb:List* " +
			"dynamodb:Query",
		"/AmazonRDSFullAccess":     "rds:* ec2:Describe* cloudwatch:Get* cloudwatch:List*",
		"/AmazonRDSReadOnlyAccess": "rds:Describe* rds:List* ec2:Describe* cloudwatch:Get*",
		"/AmazonSQSFullAccess":     "sqs:*",
		"/AmazonSQSReadOnlyAccess": "sqs:Get* sqs:List*",
		"/AmazonSNSFullAccess":     "sns:*",
		"/AmazonSNSReadOnlyAccess": "sns:Get* sns:List*",
		"/AmazonRoute53FullAccess": "route53:* route53domains:* " +
			"elasticloadbalancing:DescribeLoadBalancers",
		"/AmazonRoute53ReadOnlyAccess": "route53:Get* route53:List* route53:TestDNSAnswer",
		"/AWSKeyManagementServicePowerUser": "kms:CreateAlias kms:CreateKey kms:Describe* kms:Get* kms:List* " +
			"iam:ListRoles",
		"/SecretsManagerReadWrite":         "secretsmanager:* kms:DescribeKey kms:ListAliases kms:ListKeys",
		"/AWSCertificateManagerFullAccess": "acm:* iam:CreateServiceLinkedRole",
		"/AWSCertificateManagerReadOnly":   "acm:Describe* acm:Get* acm:List*",
		"/AWSLambda_FullAccess": "lambda:* iam:GetPolicy iam:GetRole iam:ListRoles " +
			"logs:DescribeLogGroups",
		"/AWSLambda_ReadOnlyAccess":             "lambda:Get* lambda:List* iam:GetPolicy iam:GetRole iam:ListRoles",
		"/AmazonEC2ContainerRegistryFullAccess": "ecr:* iam:CreateServiceLinkedRole",
		"/AmazonEC2ContainerRegistryPowerUser": "ecr:Batch* ecr:Complete* ecr:Describe* ecr:Get* ecr:Initiate* ecr:List* " +
			"ecr:Put*",
		"/AmazonEC2ContainerRegistryReadOnly": "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:Describe* ecr:Get* " +
			"ecr:List*",
		"/AmazonECS_FullAccess": "ecs:* ec2:Describe* elasticloadbalancing:* autoscaling:* " +
			"iam:ListRoles",
		"/AmazonEKSClusterPolicy": "ec2:Describe* elasticloadbalancing:* autoscaling:Describe* " +
			"kms:DescribeKey",
		"/AmazonEKSWorkerNodePolicy": "ec2:Describe* eks:DescribeCluster " +
			"eks-auth:AssumeRoleForPodIdentity",
		"/AmazonEKS_CNI_Policy": actionsNetworks + "ec2:AssignPrivateIpAddresses ec2:CreateTags " +
			"ec2:DescribeInstances",
		"/AWSSupportAccess":                "support:*",
		"/AWSCloudFormationFullAccess":     "cloudformation:*",
		"/AWSCloudFormationReadOnlyAccess": "cloudformation:Describe* cloudformation:Get* cloudformation:List*",
		"/AWSCloudTrail_FullAccess":        "cloudtrail:* s3:ListAllMyBuckets iam:ListRoles",
		"/AWSCloudTrail_ReadOnlyAccess": "cloudtrail:Describe* cloudtrail:Get* cloudtrail:List* " +
			"cloudtrail:LookupEvents",
	}
}

// roleActions are those of policies for jobs and for the roles of services.
func roleActions() map[string]string {
	return map[string]string{
		"/job-function/ViewOnlyAccess": "ec2:Describe* elasticloadbalancing:Describe* iam:Get* iam:List* " +
			"s3:ListAllMyBuckets s3:ListBucket cloudwatch:Describe* cloudwatch:List*",
		"/job-function/Billing": "aws-portal:* billing:* budgets:* ce:* cur:* payments:*",
		"/job-function/SupportUser": "support:* ec2:Describe* elasticloadbalancing:Describe* iam:Get* " +
			"iam:List*",
		"/job-function/DataScientist": "s3:* cloudwatch:* ec2:Describe* ec2:RunInstances ec2:TerminateInstances " +
			"iam:ListRoles",
		"/job-function/DatabaseAdministrator": "rds:* dynamodb:* cloudwatch:* ec2:Describe* iam:GetRole " +
			"iam:ListRoles",
		"/job-function/NetworkAdministrator": "ec2:*Vpc* ec2:*Subnet* ec2:*SecurityGroup* ec2:*Route* ec2:Describe* " +
			"elasticloadbalancing:* route53:* iam:ListRoles",
		"/job-function/SystemAdministrator": "ec2:* elasticloadbalancing:* cloudwatch:* logs:* iam:GetRole " +
			"iam:ListRoles iam:ListInstanceProfiles s3:ListAllMyBuckets",
		"/service-role/AWSLambdaBasicExecutionRole":     actionsLogs,
		"/service-role/AWSLambdaVPCAccessExecutionRole": actionsLogs + actionsNetworks,
		"/service-role/AmazonEC2RoleforSSM": "ssm:* cloudwatch:PutMetricData " +
			actionsMessages + actionsInstance,
		"/service-role/AmazonECSTaskExecutionRolePolicy":     "ecr:GetAuthorizationToken ecr:BatchGetImage " + actionsLogs,
		"/service-role/AmazonEC2ContainerServiceforEC2Role":  "ecs:* ecr:GetAuthorizationToken " + actionsLogs,
		"/service-role/AmazonAPIGatewayPushToCloudWatchLogs": actionsLogs + "logs:DescribeLogGroups logs:GetLogEvents",
		"/service-role/AmazonRDSEnhancedMonitoringRole":      actionsLogs + "logs:PutRetentionPolicy",
		"/service-role/AWSConfigRole": actionsRead + actionsReadIAM + "s3:GetBucket* s3:ListAllMyBuckets " +
			"config:Put*",
		"/service-role/AWS_ConfigRole": actionsRead + actionsReadIAM + "s3:GetBucket* s3:ListAllMyBuckets " +
			"config:Put*",
		"/service-role/AWSBackupServiceRolePolicyForBackup": "ec2:CreateTags ec2:Describe* backup:* rds:Describe*",
		"/service-role/AmazonEBSCSIDriverPolicy": "ec2:*Volume* ec2:*Snapshot* ec2:CreateTags " +
			"ec2:Describe*",
		"/service-role/VMImportExportRoleForAWSConnector": "s3:GetObject s3:ListBucket ec2:CopySnapshot " +
			"ec2:Describe*",
		"/aws-service-role/AWSElasticLoadBalancingServiceRolePolicy": "ec2:DescribeInstances ec2:RunInstances " +
			"ec2:TerminateInstances",
	}
}
