package cloud

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

func (c *Cloud) openFaults() {
	c.faults = play.New(play.Config{Journal: c.journal, File: c.cfg.Faults, Logger: c.cfg.Logger})
	c.onClose(func() error { c.faults.Close(); return nil })
}

// storeTrouble asks the player, which is made after the store that it is for.
func (c *Cloud) storeTrouble(ctx context.Context, write bool) (committed bool, err error) {
	if c.faults == nil {
		return false, nil
	}
	return c.faults.Store(ctx, write)
}

func (c *Cloud) shortenSession(instanceID, roleName string) time.Duration {
	g := fault.Guest{ID: instanceID, LoadBalancer: fault.LoadBalancerOf(roleName)}
	if inst, err := c.ec2.Instance(context.Background(), instanceID); err == nil {
		g.Image, g.Node = inst.ImageName, inst.NodeID
	}
	return c.faults.Life(fault.CredentialExpire, g)
}

func (c *Cloud) shortenLBCert(inst *ec2.Instance) time.Duration {
	return c.faults.Life(fault.CertificateExpire, fault.Guest{ID: inst.ID,
		LoadBalancer: fault.LoadBalancerOf(inst.RoleName), Image: inst.ImageName, Node: inst.NodeID})
}

// admitNode tells which node calls, and ends the context that it returns when that node may no longer call.
func (c *Cloud) admitNode(ctx context.Context) (context.Context, string, error) {
	peer, err := nodelink.NodeFrom(ctx)
	if err != nil {
		return nil, "", err
	}
	check := func() error {
		err := c.placement.Authenticate(ctx, peer.NodeID, peer.Certificate)
		if refused, ok := nodelink.RefusalOf(err); ok {
			return refused.GRPCStatus().Err()
		}
		if err != nil {
			return status.Error(codes.Unavailable, "the cloud's store is not available")
		}
		return nil
	}
	changed, stop := c.placement.Follow(peer.NodeID)
	if err := check(); err != nil {
		stop()
		return nil, "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer stop()
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				if check() != nil {
					return
				}
			}
		}
	}()
	return ctx, peer.NodeID, nil
}

// AwaitFaultNode returns when a node takes orders of faults, or with ctx's error.
func (c *Cloud) AwaitFaultNode(ctx context.Context, nodeID string) error {
	return c.faults.AwaitNode(ctx, nodeID)
}

// AddFault adds a fault, whose time counts from now.
func (c *Cloud) AddFault(ctx context.Context, f fault.Fault) (fault.Fault, error) {
	f, err := c.faults.Add(ctx, f)
	return f, faultRefusal(err)
}

// Faults lists the faults that are loaded.
func (c *Cloud) Faults(context.Context) ([]play.Status, error) { return c.faults.List(), nil }

// ClearFaults ends the fault of that id, or all when it is empty.
func (c *Cloud) ClearFaults(ctx context.Context, id string) error {
	return faultRefusal(c.faults.Clear(ctx, id))
}

// LoadFaults ends all faults and plays a schedule.
func (c *Cloud) LoadFaults(ctx context.Context, s fault.Schedule) error {
	return faultRefusal(c.faults.Load(ctx, s))
}

func faultRefusal(err error) error {
	_, unsupported := errors.AsType[*play.UnsupportedError](err)
	for _, mistake := range []error{fault.ErrInvalid, play.ErrUnknown, play.ErrExists, play.ErrFull} {
		unsupported = unsupported || errors.Is(err, mistake)
	}
	if unsupported {
		return &operator.Refusal{Message: err.Error()}
	}
	return err
}
