package ec2

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/placement"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

const (
	// batch is how many instances one transaction creates: etcd takes 128 operations and comparisons in one.
	batch = 15
	// attempts bounds how often a batch is tried anew after another launch took its node's room or its addresses.
	attempts = 12
)

// launchSpec is a checked request.
type launchSpec struct {
	account            string
	system             bool
	image              ImageInfo
	itype              InstanceType
	userData           []byte
	credential         bool          // the keyword was there
	life               time.Duration // LBCERT's validity
	profile            iam.InstanceProfile
	keyPair            KeyPair // without a name: none
	tags               map[string]string
	metadata           MetadataOptions
	minCount, maxCount int
	clientToken        string
	tokenHash          []byte
	exposures          []Exposure
	// What Launch alone can say; see there.
	profileAccount, ownedFor string
	hidden                   bool
}

// launch creates the instances of one reservation: at least minCount of them or, with an error, none.
func (s *Service) launch(ctx context.Context, spec launchSpec) ([]Instance, error) {
	if spec.clientToken != "" {
		if earlier, err := s.launchedBefore(ctx, spec); earlier != nil || err != nil {
			return earlier, err
		}
	}
	need := placement.Need{
		MemoryMB: spec.itype.MemoryMB, VCPUs: spec.itype.VCPUs, Image: spec.image.Name, Digest: spec.image.Digest,
	}
	if err := s.refuseTooMany(ctx, need, spec.minCount); err != nil {
		s.recordNoPlace(ctx, need, spec.minCount, err)
		return nil, capacityError(err)
	}
	reservation, err := newID("r")
	if err != nil {
		return nil, err
	}
	var launched []Instance
	for len(launched) < spec.maxCount {
		more, err := s.launchBatch(ctx, spec, need, reservation, len(launched))
		if errors.Is(err, errTokenUsed) {
			return s.launchedBefore(ctx, spec)
		}
		if errors.Is(err, placement.ErrNoCapacity) && len(launched) >= spec.minCount {
			break
		}
		if err != nil {
			s.rollBack(ctx, launched)
			s.recordNoPlace(ctx, need, spec.minCount-len(launched), err)
			return nil, capacityError(err)
		}
		launched = append(launched, more...)
	}
	for i := range launched {
		s.recordLaunch(ctx, &launched[i])
	}
	return launched, nil
}

// refuseTooMany refuses a request of several batches that there is no room for as a whole, before anything of it is
// created. One batch is created as a whole or not at all.
func (s *Service) refuseTooMany(ctx context.Context, need placement.Need, count int) error {
	if count <= batch {
		return nil
	}
	choices, err := s.cfg.Placement.Plan(ctx, need, count)
	if err == nil && len(choices) < count {
		err = &placement.NoCapacityError{Need: need, Found: len(choices), Wanted: count}
	}
	return err
}

// launchBatch creates up to batch instances in one transaction. It fails with placement.ErrNoCapacity when the
// nodes do not have room for what is missing to minCount.
func (s *Service) launchBatch(ctx context.Context, spec launchSpec, need placement.Need, reservation string,
	have int) ([]Instance, error) {
	lowest := max(1, min(spec.minCount-have, batch))
	var refusal error
	for range attempts {
		choices, err := s.cfg.Placement.Plan(ctx, need, min(batch, spec.maxCount-have))
		if err != nil {
			return nil, err
		}
		if len(choices) < lowest {
			return nil, &placement.NoCapacityError{Need: need, Found: len(choices), Wanted: lowest}
		}
		created, err := s.prepare(ctx, spec, choices, reservation, have)
		if err != nil {
			return nil, err
		}
		for i := range created {
			s.recordPlacement(ctx, &created[i], need)
		}
		revision, err := s.cfg.Store.TxnRevision(ctx, func(tx *store.Tx) error {
			return s.create(tx, spec, need, created, have == 0)
		})
		switch {
		case err == nil:
			for i := range created {
				s.view.put(created[i], revision)
			}
			return created, nil
		case errors.Is(err, placement.ErrNoCapacity):
			refusal = err
			if err := s.refresh(ctx, choices); err != nil {
				return nil, err
			}
		case errors.Is(err, errAddressTaken):
			refusal = err
		default:
			return nil, err
		}
	}
	return nil, refusal
}

func (s *Service) refresh(ctx context.Context, choices []placement.Choice) error {
	ids := make([]string, 0, len(choices))
	for _, c := range choices {
		ids = append(ids, c.NodeID)
	}
	return s.cfg.Placement.Refresh(ctx, ids...)
}

var (
	errTokenUsed    = errors.New("client token was used a moment ago")
	errAddressTaken = errors.New("address was taken a moment ago")
)

// create is the transaction's work: room on the nodes, addresses, records, and the client token with the first
// batch.
func (s *Service) create(tx *store.Tx, spec launchSpec, need placement.Need, created []Instance, first bool) error {
	if first && spec.clientToken != "" {
		record := tokenRecord{
			Hash: spec.tokenHash, ReservationID: created[0].ReservationID, Created: created[0].LaunchTime,
			More: spec.maxCount > len(created),
		}
		for i := range created {
			record.InstanceIDs = append(record.InstanceIDs, created[i].ID)
		}
		err := s.tokens.In(tx).Create(tokenKey(spec.account, spec.clientToken), record)
		if errors.Is(err, store.ErrExists) {
			return errTokenUsed
		}
		if err != nil {
			return err
		}
	}
	for i := range created {
		inst := created[i]
		if err := s.cfg.Placement.Reserve(tx, inst.NodeID, need); err != nil {
			return err
		}
		if err := s.takeAddresses(tx, &inst); err != nil {
			return err
		}
		if err := s.instances.In(tx).Create(inst.ID, inst); err != nil {
			return err
		}
	}
	return nil
}

// takeAddresses reserves an instance's addresses.
func (s *Service) takeAddresses(tx *store.Tx, inst *Instance) error {
	for _, address := range inst.addresses() {
		err := s.addresses.In(tx).Create(address, addressRecord{InstanceID: inst.ID})
		if errors.Is(err, store.ErrExists) {
			return errAddressTaken
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the records, with a sealed credential when one is asked for. Nothing is written.
func (s *Service) prepare(ctx context.Context, spec launchSpec, choices []placement.Choice, reservation string,
	have int) ([]Instance, error) {
	now := s.cfg.Clock()
	out := make([]Instance, 0, len(choices))
	for i, choice := range choices {
		id, err := newID("i")
		if err != nil {
			return nil, err
		}
		ip, err := s.pool.propose(s.view.addressUsed)
		if err != nil {
			return nil, model.Errorf("InsufficientFreeAddressesInSubnet", http.StatusBadRequest, "%w", err)
		}
		inst := Instance{
			ID: id, AccountID: spec.account, System: spec.system,
			ReservationID: reservation, LaunchIndex: have + i, LaunchTime: now.Truncate(time.Second),
			ClientToken: spec.clientToken,
			ImageName:   spec.image.Name, ImageID: ImageID(spec.image.Name), ImageDigest: choice.ImageDigest,
			InstanceType: spec.itype.Name, MemoryMB: spec.itype.MemoryMB, VCPUs: spec.itype.VCPUs,
			State: Pending, NodeID: choice.NodeID, PrivateIP: ip.String(), MAC: macOf(ip), UserData: spec.userData,
			ProfileARN: spec.profile.ARN, ProfileID: spec.profile.ID, ProfileName: spec.profile.Name,
			RoleName: spec.profile.RoleName,
			Tags:     spec.tags, Metadata: spec.metadata, Exposures: spec.exposures, Version: 1, Generation: 1,
			Trace: journal.Traceparent(journal.Begin(ctx)),
		}
		inst.ProfileAccountID, inst.OwnedFor, inst.Hidden = spec.profileAccount, spec.ownedFor, spec.hidden
		if err := s.giveKeyPair(&inst, &spec.keyPair); err != nil {
			return nil, err
		}
		if inst.ProfileARN != "" {
			if inst.ProfileLink, err = s.newLink(); err != nil {
				return nil, err
			}
		}
		if spec.credential {
			identity := &Identity{Profile: spec.image.profile(), Life: spec.life}
			inst.Credential, identity.Current, err = s.newCredential(ctx, identity.Profile,
				recipient{choice.NodeID, choice.Certificate}, id, s.lifeFor(&inst, identity.Life))
			if err != nil {
				return nil, fmt.Errorf("make credential of %s: %w", id, err)
			}
			inst.Identity = identity
		}
		out = append(out, inst)
	}
	return out, nil
}

// launchedBefore returns what the client token launched, nil when it is new, or EC2's error when it was used for
// another request.
func (s *Service) launchedBefore(ctx context.Context, spec launchSpec) ([]Instance, error) {
	record, err := s.tokens.Get(ctx, tokenKey(spec.account, spec.clientToken))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(record.Hash, spec.tokenHash) != 1 {
		return nil, model.Errorf("IdempotentParameterMismatch", http.StatusBadRequest,
			"The client token you have provided was used with other parameters (parameter ClientToken).")
	}
	earlier, err := s.launchedWith(ctx, record)
	if err != nil {
		return nil, err
	}
	if len(earlier) == 0 {
		return nil, model.Errorf("IdempotentParameterMismatch", http.StatusBadRequest,
			"The instances of this client token are gone (parameter ClientToken).")
	}
	slices.SortFunc(earlier, func(a, b Instance) int { return cmp.Compare(a.LaunchIndex, b.LaunchIndex) })
	return earlier, nil
}

// launchedWith returns the instances of a client token that are still there. The store is asked, since the view may not
// have what another call has just launched.
func (s *Service) launchedWith(ctx context.Context, record tokenRecord) ([]Instance, error) {
	if record.More {
		all, err := s.instances.List(ctx, "")
		return slices.DeleteFunc(all, func(i Instance) bool { return i.ReservationID != record.ReservationID }), err
	}
	var found []Instance
	for _, id := range record.InstanceIDs {
		inst, err := s.instances.Get(ctx, id)
		if err == nil {
			found = append(found, inst)
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return found, nil
}

// rollBack removes what a launch that failed half way had created.
func (s *Service) rollBack(ctx context.Context, launched []Instance) {
	ctx = context.WithoutCancel(ctx)
	for _, inst := range launched {
		if _, err := s.update(ctx, inst.ID, func(tx *store.Tx, i *Instance) error {
			return s.finish(tx, i, StateReason{Code: reasonServer, Message: "the launch of its reservation failed"})
		}); err != nil && !errors.Is(err, store.ErrNotFound) {
			s.record(ctx, "instance.rollback_failed", inst.ID, map[string]string{"reason": err.Error()})
			continue
		}
		if err := s.forget(ctx, inst); err != nil {
			s.record(ctx, "instance.rollback_failed", inst.ID, map[string]string{"reason": err.Error()})
		}
	}
}

// tokenKey hashes the token, which may hold any character, slashes too.
func tokenKey(account, token string) string {
	sum := sha256.Sum256([]byte(token))
	return account + "/" + hex.EncodeToString(sum[:])
}

// capacityError gives a launch without room EC2's code and the numbers. EC2 answers 500 there, which clients
// repeat for minutes; here a 5xx is for faults only.
func capacityError(err error) error {
	var full *placement.NoCapacityError
	if errors.As(err, &full) {
		return model.Errorf("InsufficientInstanceCapacity", http.StatusBadRequest,
			"There is no room for %s MB of memory and %s vCPUs: %w",
			strconv.Itoa(full.Need.MemoryMB), strconv.Itoa(full.Need.VCPUs), err)
	}
	return err
}
