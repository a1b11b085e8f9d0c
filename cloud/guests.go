package cloud

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
)

// RebootGuest has a guest rebooted. That of a load balancer gets a new LBCERT, and the one before is refused.
func (c *Cloud) RebootGuest(ctx context.Context, instanceID string) error {
	return refusal(c.ec2.Reboot(ctx, instanceID), ec2.ErrNotFound, ec2.ErrNotRunning)
}

// Screenshot returns a PNG of what a guest's display shows.
func (c *Cloud) Screenshot(ctx context.Context, instanceID string) ([]byte, error) {
	png, err := c.ec2.Screenshot(ctx, instanceID)
	return png, refusal(err, ec2.ErrNotFound, ec2.ErrNotRunning, ec2.ErrNoDisplay)
}
