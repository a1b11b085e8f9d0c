package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/imds"
)

// refreshBefore is how long before their end credentials are replaced.
const refreshBefore = 5 * time.Minute

var _ imds.Source = (*Controller)(nil)

// credentialCache holds one instance's role credentials.
type credentialCache struct {
	mu   sync.Mutex // held while the cloud is asked, so that a burst of guests' requests asks once
	have imds.Credentials
	of   profileOf // whose they are
}

// profileOf tells what credentials an instance is to have: it changes with the instance's association, with its
// profile, and with the role in that.
type profileOf struct {
	id, role string
	since    int64
}

func profileIn(in *nodelink.Instance) profileOf {
	return profileOf{in.GetInstanceProfileId(), in.GetRoleName(), in.GetInstanceProfileUnix()}
}

// take is what is cached for a profile; what was cached for another is forgotten.
func (c *credentialCache) take(of profileOf) imds.Credentials {
	if c.of != of {
		c.have, c.of = imds.Credentials{}, of
	}
	return c.have
}

// Instance implements imds.Source.
func (c *Controller) Instance(id string) (imds.Instance, bool) {
	g := c.guest(id)
	if g == nil {
		return imds.Instance{}, false
	}
	in := g.wish()
	ip, err := netip.ParseAddr(in.GetPrivateIp())
	if err != nil {
		return imds.Instance{}, false
	}
	return imds.Instance{
		ID: in.GetId(), AccountID: in.GetAccountId(), ImageID: in.GetImageId(), Type: in.GetInstanceType(),
		ReservationID: in.GetReservationId(), LaunchIndex: int(in.GetLaunchIndex()),
		LaunchTime: time.Unix(in.GetLaunchUnix(), 0).UTC(),
		PrivateIP:  ip, MAC: in.GetMac(),
		Region: in.GetRegion(), AvailabilityZone: in.GetAvailabilityZone(), AvailabilityZoneID: nodelink.ZoneID,
		RoleName: in.GetRoleName(), InstanceProfileARN: in.GetInstanceProfileArn(),
		InstanceProfileID:   in.GetInstanceProfileId(),
		InstanceProfileTime: profileTime(in),
		UserData:            in.GetUserData(), Tags: in.GetTags(), Traceparent: in.GetTraceparent(),
		PublicIP: publicIP(in), PublicKeys: publicKeys(in),
		Options: imds.Options{
			TokensRequired: in.GetMetadata().GetTokensRequired(), Disabled: in.GetMetadata().GetDisabled(),
			HopLimit: int(in.GetMetadata().GetHopLimit()), Tags: in.GetMetadata().GetTags(),
		},
	}, true
}

// publicIP is where the instance is reached from outside; the zero value for one that is not.
func publicIP(in *nodelink.Instance) netip.Addr {
	ip, err := netip.ParseAddr(in.GetPublicIp())
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// publicKeys is the key that the instance was launched with.
func publicKeys(in *nodelink.Instance) []imds.PublicKey {
	if in.GetPublicKey() == "" {
		return nil
	}
	return []imds.PublicKey{{Name: in.GetKeyName(), Key: in.GetPublicKey()}}
}

// profileTime is when the instance got its profile; no time for one that it was launched with.
func profileTime(in *nodelink.Instance) time.Time {
	if in.GetInstanceProfileUnix() == 0 {
		return time.Time{}
	}
	return time.Unix(in.GetInstanceProfileUnix(), 0).UTC()
}

// RoleCredentials implements imds.Source: from the cache until five minutes before their end, then from the cloud.
// While the cloud is away the old ones are given as long as they are good.
func (c *Controller) RoleCredentials(ctx context.Context, id string) (imds.Credentials, error) {
	g := c.guest(id)
	if g == nil {
		return imds.Credentials{}, imds.ErrNoRole
	}
	if err := c.cfg.Trouble.Gate(ctx); err != nil {
		return imds.Credentials{}, err
	}
	g.credentials.mu.Lock()
	defer g.credentials.mu.Unlock()
	have := g.credentials.take(profileIn(g.wish()))
	if g.wish().GetRoleName() == "" {
		return imds.Credentials{}, imds.ErrNoRole
	}
	now := c.cfg.Trouble.Now()
	if have.AccessKeyID != "" && now.Before(have.Expiration.Add(-refreshBefore)) {
		return have, nil
	}
	if ours := g.wish().GetTraceparent(); !nodelink.SameTrace(ctx, ours) {
		ctx = nodelink.WithTrace(ctx, ours)
	}
	answer, err := c.cfg.Cloud.RoleCredentials(ctx, &nodelink.RoleCredentialsRequest{InstanceId: id})
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound:
		g.credentials.have = imds.Credentials{}
		return imds.Credentials{}, imds.ErrNoRole
	case codes.PermissionDenied, codes.FailedPrecondition:
		g.credentials.have = imds.Credentials{}
		c.log.Warn("role credentials refused", "instance", id, "error", err)
		return imds.Credentials{}, errors.Join(imds.ErrUnauthorized, err)
	default:
		if have.AccessKeyID != "" && now.Before(have.Expiration) {
			return have, nil
		}
		return imds.Credentials{}, fmt.Errorf("ask the cloud for role credentials: %w", err)
	}
	g.credentials.have = imds.Credentials{
		AccessKeyID: answer.GetAccessKeyId(), SecretAccessKey: answer.GetSecretAccessKey(), Token: answer.GetToken(),
		LastUpdated: time.Unix(answer.GetLastUpdatedUnix(), 0).UTC(),
		Expiration:  time.Unix(answer.GetExpirationUnix(), 0).UTC(),
	}
	return g.credentials.have, nil
}
