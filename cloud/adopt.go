package cloud

import (
	"context"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/elb"
)

// AdoptInstance starts an instance of another cloud's records here; see ec2.Service.Adopt.
func (c *Cloud) AdoptInstance(ctx context.Context, inst ec2.Instance) error {
	return c.ec2.Adopt(ctx, inst)
}

// AdoptLoadBalancer takes over a load balancer of another cloud's records and returns its address here; see
// elb.Service.Adopt.
func (c *Cloud) AdoptLoadBalancer(ctx context.Context, lb elb.LoadBalancer) (address string, err error) {
	return c.elb.Adopt(ctx, lb)
}
