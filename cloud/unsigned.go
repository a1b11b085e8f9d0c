package cloud

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
)

// auditUnsigned has iam's audit of deliveries keep what the front door refused of them.
func (c *Cloud) auditUnsigned(ctx context.Context, r api.Refusal) error {
	return c.iam.AuditUnsigned(ctx, iam.Unsigned(r))
}
