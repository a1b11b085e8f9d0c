package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/cloudtwin/cloudtwin/cloud"
)

// The names of the results about roles. Beside each rate of the API there are the times of single requests, with as
// many at once, and what the cloud allocates for one.
const (
	nameGetRole    = "api.GetRole.rate"
	nameListRoles  = "api.ListRoles.1000.rate"
	nameAssumeRole = "api.AssumeRole.rate"
)

const (
	roles       = 1000
	roleMakers  = 8
	timedCalls  = 2000 // requests whose times are taken one by one
	benchedRole = "bench-0500"
)

// apiNames are the names of what is measured of one operation.
func apiNames(rate string) []string {
	name := strings.TrimSuffix(rate, ".rate")
	return []string{rate, name + ".p50", name + ".p99", name + ".bytes"}
}

// allocatedSoFar is what the process has allocated since its start, in bytes.
func allocatedSoFar() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func perRequest(bytes uint64, r rate) float64 { return float64(bytes) / float64(max(1, r.count)) }

// emitTimes measures single requests and emits, beside them, the bytes that the cloud allocates for one: the process's
// own, without those of the client and of net/http, which the peer's requests cost too.
func (s *suite) emitTimes(ctx context.Context, rateName string, product *client, bytes float64) error {
	names := apiNames(rateName)
	workers := len(product.next)
	idle := make(chan int, workers)
	for worker := range workers {
		idle <- worker
	}
	_, took, err := spread(ctx, workers, timedCalls, func(int) error {
		worker := <-idle
		defer func() { idle <- worker }()
		return product.discard(ctx, worker)
	})
	if err != nil {
		return err
	}
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	s.emit(result{Name: names[1], Value: milliseconds(percentile(took, 50)), Unit: "ms"})
	s.emit(result{Name: names[2], Value: milliseconds(percentile(took, 99)), Unit: "ms"})
	s.emit(result{Name: names[3], Value: max(0, bytes), Unit: "B"})
	return nil
}

// benchRoles measures an account with 1,000 roles: one of them read, all listed at once, and one assumed by a user.
func benchRoles(ctx context.Context, s *suite) (err error) {
	c, err := startCloud(ctx, s.room)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	arn, user, err := makeRoles(ctx, c)
	if err != nil {
		return err
	}
	const version = "2010-05-08"
	if err := compareAPI(ctx, s, c, nameGetRole, apiCall{service: "iam", wants: "<RoleName>" + benchedRole, times: 1,
		form: url.Values{"Action": {"GetRole"}, "Version": {version}, "RoleName": {benchedRole}}}); err != nil {
		return err
	}
	if err := compareAPI(ctx, s, c, nameListRoles, apiCall{service: "iam", wants: "<RoleName>bench-", times: roles,
		form: url.Values{"Action": {"ListRoles"}, "Version": {version}, "MaxItems": {fmt.Sprint(roles)}}}); err != nil {
		return err
	}
	return compareAPIAs(ctx, s, c, user, nameAssumeRole, apiCall{service: "sts", wants: "<SessionToken>", times: 1,
		form: url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {arn},
			"RoleSessionName": {"bench"}}})
}

// makeRoles makes the roles, one of which a new user may assume, and returns its ARN and the user's configuration.
func makeRoles(ctx context.Context, c *cloud.Cloud) (arn string, user aws.Config, err error) {
	cfg, err := clientConfig(ctx, c, c.Endpoint())
	if err != nil {
		return "", user, err
	}
	client := iam.NewFromConfig(cfg)
	made, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("bench")})
	if err != nil {
		return "", user, fmt.Errorf("make user: %w", err)
	}
	key, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: made.User.UserName})
	if err != nil {
		return "", user, fmt.Errorf("make key: %w", err)
	}
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` +
		aws.ToString(made.User.Arn) + `"},"Action":"sts:AssumeRole"}]}`
	if _, _, err := spread(ctx, roleMakers, roles, func(i int) error {
		_, err := client.CreateRole(ctx, &iam.CreateRoleInput{
			RoleName: aws.String(fmt.Sprintf("bench-%04d", i)), AssumeRolePolicyDocument: aws.String(trust)})
		return err
	}); err != nil {
		return "", user, fmt.Errorf("make roles: %w", err)
	}
	role, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(benchedRole)})
	if err != nil {
		return "", user, fmt.Errorf("read role: %w", err)
	}
	user = cfg.Copy()
	user.Credentials = credentials.NewStaticCredentialsProvider(aws.ToString(key.AccessKey.AccessKeyId),
		aws.ToString(key.AccessKey.SecretAccessKey), "")
	return aws.ToString(role.Role.Arn), user, nil
}
