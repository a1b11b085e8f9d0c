package ec2

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// rewatchProfiles is the pause before a broken watch of instance profiles is tried again.
const rewatchProfiles = 200 * time.Millisecond

// profileKey names an instance profile as IAM tells of it.
type profileKey struct{ account, name string }

func (i *Instance) profileKey() profileKey {
	return profileKey{i.profileAccount(), strings.ToLower(i.ProfileName)}
}

// profileAccount is whose the instance's profile is: a service's own, for an instance that a service runs in another
// account.
func (i *Instance) profileAccount() string {
	if i.ProfileAccountID != "" {
		return i.ProfileAccountID
	}
	return i.AccountID
}

// followProfiles keeps the instances' roles those that their profiles hold, until Close: a role that is taken out of a
// profile, or a profile that is deleted, stops the credentials of the instances that have it.
func (s *Service) followProfiles() {
	for s.ctx.Err() == nil {
		watch, stop := context.WithCancel(s.ctx)
		changes, err := s.cfg.IAM.WatchInstanceProfiles(watch)
		if err == nil {
			for _, key := range s.view.profiles() {
				s.refreshProfile(key)
			}
			for c := range changes {
				s.refreshProfile(profileKey{c.AccountID, c.Name})
			}
		}
		stop()
		select {
		case <-s.ctx.Done():
		case <-time.After(rewatchProfiles):
		}
	}
}

// refreshProfile has the instances that have a profile follow it. What fails is tried again with the profile's next
// change, and in any case before credentials are given.
func (s *Service) refreshProfile(key profileKey) {
	for _, e := range s.view.withProfile(key) {
		if err := s.followProfile(s.ctx, &e.inst); err != nil && s.ctx.Err() == nil {
			s.record(s.ctx, "instance.profile_unknown", e.inst.ID, map[string]string{
				"profile": e.inst.ProfileARN, "reason": err.Error()})
		}
	}
}

// followProfile makes an instance's role that of its profile. One that was made later under the same name is not its
// own.
func (s *Service) followProfile(ctx context.Context, now *Instance) error {
	profile, err := s.cfg.IAM.InstanceProfile(ctx, now.profileAccount(), now.ProfileName)
	gone := noSuchEntity(err) || err == nil && profile.ID != now.ProfileID
	if err != nil && !gone {
		return err
	}
	if gone {
		profile = iam.InstanceProfile{}
	}
	same := func(i *Instance) bool { return i.RoleName == profile.RoleName && i.ProfileGone == gone }
	if same(now) {
		return nil
	}
	changed := false
	inst, err := s.update(ctx, now.ID, func(_ *store.Tx, inst *Instance) error {
		changed = inst.State.live() && inst.ProfileID == now.ProfileID && !same(inst)
		if !changed {
			return errUnchanged
		}
		inst.RoleName, inst.ProfileGone = profile.RoleName, gone
		inst.Generation++
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && changed {
		what := "changed"
		if gone {
			what = "gone"
		}
		s.recordProfile(ctx, &inst, what)
	}
	return err
}

func noSuchEntity(err error) bool {
	var known *model.Error
	return errors.As(err, &known) && known.Code == "NoSuchEntity"
}
