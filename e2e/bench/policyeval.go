package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

const (
	namePolicyTypical = "policy.evaluate.typical"
	// policyRounds and policyBatch are how often the typical request is evaluated: the median batch counts.
	policyRounds = 21
	policyBatch  = 5000
	// policyLimit is what an evaluation may take, in seconds.
	policyLimit = 5e-6
)

// typicalPolicy is three statements with patterns, a policy variable and two conditions.
const typicalPolicy = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":["arn:aws:s3:::a","arn:aws:s3:::a/*"]},
	{"Effect":"Deny","Action":"iam:*","NotResource":"arn:aws:iam::123456789012:user/${aws:username}"},
	{"Effect":"Allow","Action":["iam:GetUser","iam:*AccessKey*"],
	 "Resource":"arn:aws:iam::123456789012:user/${aws:username}",
	 "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Bool":{"aws:SecureTransport":"true"}}}]}`

// benchPolicy measures one evaluation of a typical request, beside what the issue allows for it.
func benchPolicy(_ context.Context, s *suite) error {
	doc, err := policy.Parse(typicalPolicy, policy.Identity)
	if err != nil {
		return fmt.Errorf("parse the typical policy: %w", err)
	}
	set := policy.Set{Identity: []policy.Source{{Name: "typical", Document: doc}}}
	request := policy.Request{
		Action: "iam:ListAccessKeys", Resource: "arn:aws:iam::123456789012:user/alice",
		Context: policy.ContextMap{
			"aws:username": {"alice"}, "aws:sourceip": {"10.1.2.3"}, "aws:securetransport": {"true"},
		},
	}
	var took []time.Duration
	for range policyRounds {
		begun := time.Now()
		for range policyBatch {
			if !set.Evaluate(&request).Allowed() {
				return errors.New("evaluate the typical request: it is denied")
			}
		}
		took = append(took, time.Since(begun))
	}
	s.emit(result{Name: namePolicyTypical, Value: median(took).Seconds() / policyBatch, Unit: seconds}.
		against("5 µs", policyLimit, atMost(1)))
	return nil
}
