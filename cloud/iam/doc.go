// Package iam is identity and access management: accounts with their root users, users, access keys, roles, instance
// profiles and server certificates; who is behind an access key or session token; what they may do; and the
// delivery of a server certificate's key to a load-balancer VM.
//
// The operations of the AWS API are methods of Service with the types of model/iam. The Go API for the other
// services stands beside them: Identify and Authorize for the front door, MintSession for sts, SignLBCert and
// InstanceCredentials for ec2, service roles and certificate watches for elb, DownloadServerCertificate as a raw
// handler, Seal and Open for other packages' secrets.
//
// Not in here: the evaluation of policies (package policy), the delivery's wire format and cryptography (package
// keydelivery), AssumeRole (package sts), HTTP (package api). Start with service.go and records.go, then identify.go,
// authorize.go and delivery.go.
package iam
