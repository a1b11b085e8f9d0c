// Package clients drives the endpoint with the clients that people have: Debian's awscli and boto3, the AWS SDK for Go,
// and curl's own signatures. Each makes the same example from nothing (an instance that may use S3 through its role, as
// in the seed "IAM roles") in an account of its own, and takes it away again; so a name is nobody else's, and what is
// left over is seen.
//
// Nothing of the product is used to make requests here: what these clients say is what counts.
package clients

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestClients(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "clients")
}

// The example: a role that instances have, what it may do, and the profile that brings it to them.
const (
	exampleRole   = "s3access"
	examplePolicy = "s3star"
	trust         = `{"Version":"2008-10-17","Statement":[{"Effect":"Allow",` +
		`"Principal":{"Service":["ec2.amazonaws.com"]},"Action":["sts:AssumeRole"]}]}`
	grant = `{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]}]}`
)

var cloud *twin.Twin

var _ = twin.CheckMode()

var _ = twin.KeepEvidence(func() *twin.Twin { return cloud })

var _ = BeforeSuite(func() { cloud = twin.Start() })

// shell runs a script as a user would type it, with the environment that 'cloudtwin env' prints.
func shell(ctx context.Context, env []string, script string) string {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c",
		`eval "$("$PROGRAM" env --state "$STATE")"; `+script)
	cmd.Env = append(cmd.Environ(), append(env, "PROGRAM="+cloud.Binary, "STATE="+cloud.StateDir,
		"TRUST="+trust, "GRANT="+grant, "ROLE="+exampleRole, "POLICY="+examplePolicy,
		// Debian's, not what a developer may have put before them.
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME="+GinkgoT().TempDir())...)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	return strings.TrimSpace(string(out))
}

// lines are the lines of a script's output.
func lines(out string) []string { return strings.Split(out, "\n") }
