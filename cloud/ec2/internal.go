package ec2

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ErrNotFound means that there is no such instance (any more).
var ErrNotFound = errors.New("no such instance")

// Launch is what another service of the cloud asks for: one instance, without the checks of a client's request.
type Launch struct {
	AccountID    string
	System       bool   // the account is a system account: the credential keyword counts
	ImageName    string // not an AMI id
	InstanceType string // default DefaultInstanceType
	UserData     []byte // at most 16 KB
	// LBCertLife shortens what the credential keyword says of LBCERT's validity, in whole days; zero does not. A repeated
	// launch does not change it.
	LBCertLife time.Duration `json:"-"`
	// InstanceProfileName names a profile of AccountID; empty means none.
	InstanceProfileName string
	// ProfileAccountID is whose profile that is; empty means AccountID's.
	ProfileAccountID string `json:",omitempty"`
	// OwnedFor is the account on whose behalf the instance runs and to which it is accounted; empty means AccountID.
	OwnedFor string `json:",omitempty"`
	// Hidden keeps the instance from AccountID's users: they neither see it nor change it.
	Hidden bool `json:",omitempty"`
	Tags   map[string]string
	// ClientToken makes a repeated launch return the first one's instance; empty means none.
	ClientToken string
	Metadata    MetadataOptions
	// Exposures are there from the start, as if SetExposures had said them. A repeated launch does not change them.
	Exposures []Exposure `json:"-"`
}

// Launch starts one instance and returns its record, which is pending. A full cloud is placement.ErrNoCapacity
// (and an InsufficientInstanceCapacity *model.Error at the same time).
func (s *Service) Launch(ctx context.Context, l Launch) (Instance, error) {
	image, ok := s.images.byName[l.ImageName]
	if !ok || !image.visibleTo(authn.Caller{System: l.System}) {
		return Instance{}, fmt.Errorf("launch instance: image %q is not known", l.ImageName)
	}
	itype, ok := findInstanceType(l.InstanceType)
	if !ok {
		return Instance{}, fmt.Errorf("launch instance: instance type %q is not known", l.InstanceType)
	}
	if len(l.UserData) > maxUserData {
		return Instance{}, fmt.Errorf("launch instance: user data has %d bytes, the limit is %d", len(l.UserData),
			maxUserData)
	}
	spec := launchSpec{
		account: l.AccountID, system: l.System, image: image, itype: itype, tags: maps.Clone(l.Tags), metadata: l.Metadata,
		minCount: 1, maxCount: 1, clientToken: l.ClientToken, exposures: slices.Clone(l.Exposures),
	}
	if err := spec.setUserData(l.UserData); err != nil {
		return Instance{}, fmt.Errorf("launch instance: %w", err)
	}
	if l.LBCertLife > 0 {
		spec.life = min(spec.life, l.LBCertLife)
	}
	spec.profileAccount, spec.ownedFor, spec.hidden = l.ProfileAccountID, l.OwnedFor, l.Hidden
	if l.InstanceProfileName != "" {
		owner := cmp.Or(l.ProfileAccountID, l.AccountID)
		profile, err := s.cfg.IAM.InstanceProfile(ctx, owner, l.InstanceProfileName)
		if err != nil {
			return Instance{}, fmt.Errorf("launch instance: instance profile %s: %w", l.InstanceProfileName, err)
		}
		spec.profile = profile
	}
	if l.ClientToken != "" {
		text, err := json.Marshal(l) //nolint:gosec // an idempotency token is no secret, and only its hash is kept
		if err != nil {
			return Instance{}, fmt.Errorf("launch instance: %w", err)
		}
		sum := sha256.Sum256(text)
		spec.tokenHash = sum[:]
	}
	launched, err := s.launch(ctx, spec)
	if err != nil {
		return Instance{}, fmt.Errorf("launch instance: %w", err)
	}
	return launched[0], nil
}

// Terminate ends instances of an account. Those that are gone already count as ended; an instance of another
// account is ErrNotFound, and then none is touched.
func (s *Service) Terminate(ctx context.Context, accountID string, ids ...string) error {
	var live []string
	for _, id := range ids {
		e, ok := s.view.get(id)
		if !ok {
			continue
		}
		if e.inst.AccountID != accountID {
			return fmt.Errorf("terminate %s: %w", id, ErrNotFound)
		}
		live = append(live, id)
	}
	for _, id := range live {
		if _, _, err := s.shutDown(ctx, id); err != nil {
			return fmt.Errorf("terminate %s: %w", id, err)
		}
	}
	return nil
}

// Instance returns one instance of any account, or ErrNotFound. Its maps and slices are read only.
func (s *Service) Instance(_ context.Context, id string) (Instance, error) {
	e, ok := s.view.get(id)
	if !ok {
		return Instance{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return e.inst, nil
}

// Instances returns all instances of all accounts, in the order of their launch, for the operator.
func (s *Service) Instances() []Instance {
	list := s.view.everything()
	out := make([]Instance, len(list))
	for i, e := range list {
		out[i] = e.inst
	}
	return out
}

// WatchInstances sends every instance as it is and then each one that changes, as it is by then: changes that
// come faster than they are received are merged, but the last one is never lost. A record that is purged long
// after its end is not told. The channel is closed when ctx or the service ends.
func (s *Service) WatchInstances(ctx context.Context) (<-chan Instance, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, errors.New("watch instances: the service is closed")
	}
	sub, stop := s.view.subscribe("")
	initial := s.view.everything()
	out := make(chan Instance)
	send := func(inst Instance) bool {
		select {
		case out <- inst:
			return true
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		return false
	}
	s.done.Go(func() {
		defer close(out)
		defer stop()
		for _, e := range initial {
			if !send(e.inst) {
				return
			}
		}
		for {
			select {
			case <-sub.wake:
			case <-ctx.Done():
				return
			case <-s.ctx.Done():
				return
			}
			for _, id := range sub.take() {
				if e, ok := s.view.get(id); ok && !send(e.inst) {
					return
				}
			}
		}
	})
	return out, nil
}

// SetExposures says which of an instance's ports are reachable on its node's loopback, in place of what was said
// before. An instance that ended keeps none: ErrNotFound.
func (s *Service) SetExposures(ctx context.Context, instanceID string, exposures []Exposure) error {
	_, err := s.update(ctx, instanceID, func(_ *store.Tx, inst *Instance) error {
		if !inst.State.live() {
			return ErrNotFound
		}
		if slices.Equal(inst.Exposures, exposures) {
			return errUnchanged
		}
		inst.Exposures = slices.Clone(exposures)
		inst.Generation++
		return nil
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrNotFound) {
		return fmt.Errorf("set exposures of %s: %w", instanceID, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("set exposures of %s: %w", instanceID, err)
	}
	return nil
}
