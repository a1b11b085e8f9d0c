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
		Region: in.GetRegion(), AvailabilityZone: in.GetAvailabilityZone(),
		RoleName: in.GetRoleName(), InstanceProfileARN: in.GetInstanceProfileArn(),
		InstanceProfileID: in.GetInstanceProfileId(),
		UserData:          in.GetUserData(), Tags: in.GetTags(),
		Options: imds.Options{
			TokensRequired: in.GetMetadata().GetTokensRequired(), Disabled: in.GetMetadata().GetDisabled(),
			HopLimit: int(in.GetMetadata().GetHopLimit()), Tags: in.GetMetadata().GetTags(),
		},
	}, true
}

// RoleCredentials implements imds.Source: from the cache until five minutes before their end, then from the cloud.
// While the cloud is away the old ones are given as long as they are good.
func (c *Controller) RoleCredentials(ctx context.Context, id string) (imds.Credentials, error) {
	g := c.guest(id)
	if g == nil || g.wish().GetRoleName() == "" {
		return imds.Credentials{}, imds.ErrNoRole
	}
	g.credentials.mu.Lock()
	defer g.credentials.mu.Unlock()
	have := g.credentials.have
	now := time.Now()
	if have.AccessKeyID != "" && now.Before(have.Expiration.Add(-refreshBefore)) {
		return have, nil
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
