package cloud

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// RevokeLBVM withdraws the LBCERTs of a load balancer's VM and ends it; elb replaces it.
func (c *Cloud) RevokeLBVM(ctx context.Context, instanceID, reason string) (operator.Instance, error) {
	inst, err := c.ec2.Revoke(ctx, instanceID, operator.PeerFrom(ctx), reason)
	if err != nil {
		return operator.Instance{}, refuseLBVM(err)
	}
	return operatorInstance(&inst), nil
}

// RenewLBVM has the LBCERT of a load balancer's VM renewed now.
func (c *Cloud) RenewLBVM(ctx context.Context, instanceID string) (operator.Instance, error) {
	inst, err := c.ec2.Renew(ctx, instanceID)
	if err != nil {
		return operator.Instance{}, refuseLBVM(err)
	}
	return operatorInstance(&inst), nil
}

// refuseLBVM marks what is wrong with the request itself.
func refuseLBVM(err error) error {
	return refusal(err, ec2.ErrNotFound, ec2.ErrNoIdentity, ec2.ErrEnded, ec2.ErrReason)
}
