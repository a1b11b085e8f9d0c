// Package accounts shows what accounts keep apart and what they may share: accounts that the operator makes, roles
// that one account lends another, and load balancers' VMs in each of the accounts that may own them. It also kills the
// cloud during a stream of writes: no account loses what was acknowledged.
package accounts

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestAccounts(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "accounts")
}

var _ = twin.CheckMode()

// account makes an account and returns its number and its root user's configuration.
func account(ctx context.Context, cloud *twin.Twin, name string) (id string, root aws.Config) {
	GinkgoHelper()
	code, out, errs := cloud.Command(ctx, "account", "create", name)
	Expect(code).To(BeZero(), errs)
	id = strings.TrimSpace(out)
	Expect(id).To(MatchRegexp(`^[1-9][0-9]{11}$`))
	keys, err := cloud.Operator.AccountKeys(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	Expect(keys.AccountID).To(Equal(id))
	return id, cloud.As(keys.AccessKeyID, keys.SecretAccessKey, "")
}
