package cloud_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/store/storetest"
)

// TestStoreIsGone ends the etcd that a cloud keeps its records in: calls that need them are answered with 503, before
// the time for a request ends, which would be an internal error. When it is back, they succeed.
func TestStoreIsGone(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	etcd := storetest.Start(t)
	cfg := config(t.TempDir())
	cfg.StoreEndpoints = []string{etcd.URL()}
	cfg.StoreTimeout = 2 * time.Second
	c, err := cloud.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.Credentials(t.Context())
	etcd.Cut()
	if err != nil {
		t.Fatal(err)
	}
	client := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(c.Endpoint()), RetryMaxAttempts: 1,
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, ""),
	}
	ctx := t.Context()
	var calls sync.WaitGroup
	for name, call := range map[string]func() error{
		"ListUsers": func() error {
			_, err := iam.NewFromConfig(client).ListUsers(ctx, &iam.ListUsersInput{})
			return err
		},
		"CreateUser": func() error {
			_, err := iam.NewFromConfig(client).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u")})
			return err
		},
		"DescribeInstances": func() error {
			_, err := ec2.NewFromConfig(client).DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
			return err
		},
		"CreateKeyPair": func() error {
			_, err := ec2.NewFromConfig(client).CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k")})
			return err
		},
		"DescribeLoadBalancers": func() error {
			_, err := elb.NewFromConfig(client).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
			return err
		},
	} {
		calls.Go(func() {
			err := call()
			code, named := errors.AsType[smithy.APIError](err)
			answer, answered := errors.AsType[*awshttp.ResponseError](err)
			if !named || !answered || code.ErrorCode() != "ServiceUnavailable" ||
				answer.HTTPStatusCode() != http.StatusServiceUnavailable {
				t.Errorf("%s: %v, want 503 ServiceUnavailable", name, err)
			}
		})
	}
	calls.Wait()
	etcd.Open()
	until(t, func() error {
		_, err := iam.NewFromConfig(client).ListUsers(ctx, &iam.ListUsersInput{})
		return err
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// until calls again while the answer is that the records cannot be reached.
func until(t *testing.T, call func() error) {
	t.Helper()
	for {
		err := call()
		answer, answered := errors.AsType[*awshttp.ResponseError](err)
		if answered && answer.HTTPStatusCode() == http.StatusServiceUnavailable {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
}
