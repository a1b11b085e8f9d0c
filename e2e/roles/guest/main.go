// Command guest is the first process of the role suite's guests: a web guest that also does what any program on an
// instance does that uses AWS. It is given no key and asks the AWS SDK's own default chain, again and again and each
// time from the beginning, and tells on its console what came of it whenever that changes.
//
// Its user data is JSON: the API's endpoint, the certificate authority of that, and the role to ask about.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
)

// stage is the milestone of what the SDK got.
const stage = "sdk"

// pause is that between two attempts, and patience what one may take.
const (
	pause    = 200 * time.Millisecond
	patience = 10 * time.Second
)

func main() {
	os.Exit(guest.Main(map[string]guest.Flavour{
		"web": {Run: runWeb, Rehearse: rehearsal.Web},
	}))
}

func runWeb(ctx context.Context, world agent.World) error {
	listen := world.Listen
	// A copy of a template is somebody only when it serves.
	world.Listen = func(network, address string) (net.Listener, error) {
		go use(ctx, world.Console)
		return listen(network, address)
	}
	return agent.RunWeb(ctx, world)
}

// task is the user data.
type task struct{ Endpoint, CA, Role string }

func use(ctx context.Context, console agent.Console) {
	var told string
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		who, may := attempt(ctx)
		if now := who + " " + may; now != told {
			told = now
			console.Milestone(stage, slog.String("caller", who), slog.String("getRole", may))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// attempt is one program's life: it learns its task and region from the metadata service, and the rest is the SDK's.
func attempt(ctx context.Context) (who, may string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := readTask(ctx)
	if err != nil {
		return "", "no task: " + err.Error()
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSRegion())
	if err != nil {
		return "", "no configuration: " + err.Error()
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return "", "no credentials"
	}
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", "not known: " + err.Error()
	}
	_, err = iam.NewFromConfig(cfg).GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(t.Role)})
	return aws.ToString(out.Arn), codeOf(err)
}

func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return "allowed"
}

// readTask puts the task where the SDK looks for it: the environment and a file.
func readTask(ctx context.Context) (task, error) {
	out, err := imds.New(imds.Options{}).GetUserData(ctx, &imds.GetUserDataInput{})
	if err != nil {
		return task{}, err
	}
	defer func() { _ = out.Content.Close() }()
	var t task
	if err := json.NewDecoder(io.LimitReader(out.Content, 1<<16)).Decode(&t); err != nil {
		return t, fmt.Errorf("read user data: %w", err)
	}
	const file = "/ca.pem"
	if err := os.WriteFile(file, []byte(t.CA), 0o600); err != nil {
		return t, err
	}
	return t, errors.Join(os.Setenv("AWS_CA_BUNDLE", file), os.Setenv("AWS_ENDPOINT_URL", t.Endpoint))
}
