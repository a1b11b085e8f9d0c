package elb

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// updateNaming is update for a change that may have listeners name other certificates: each is there when the change
// commits, whatever is deleted or renamed at the same time, here or in another process.
func (s *Service) updateNaming(ctx context.Context, key, name string, change func(*LoadBalancer) error) (
	lb LoadBalancer, err error) {
	err = s.cfg.Store.Txn(ctx, func(tx *store.Tx) error {
		if lb, err = s.records.In(tx).Get(key); errors.Is(err, store.ErrNotFound) {
			return notFound(name)
		}
		if err != nil {
			return err
		}
		if lb.Name != name || lb.Deleting {
			return notFound(name)
		}
		before := lb.clone()
		lb.causedBy(ctx)
		if err := change(&lb); err != nil {
			return err
		}
		if err := s.holdCertificates(tx, &lb, &before); err != nil {
			return err
		}
		return s.records.In(tx).Put(key, lb)
	})
	return lb, err
}

// holdCertificates holds what the load balancer names and did not name before; before may be nil.
func (s *Service) holdCertificates(tx *store.Tx, lb, before *LoadBalancer) error {
	for _, arn := range lb.grants() {
		if before != nil && before.names(arn) {
			continue
		}
		err := s.cfg.IAM.HoldCertificate(tx, arn, ARN(s.cfg.Region, lb.AccountID, lb.Name))
		if hasCode(err, "NoSuchEntity") {
			return certificateNotFound(arn)
		}
		if err != nil {
			return fmt.Errorf("name certificate %s: %w", arn, err)
		}
	}
	return nil
}

// users returns the keys of the account's load balancers that name a certificate, as the store has them.
func (s *Service) users(ctx context.Context, arn string) ([]LoadBalancer, error) {
	match := certificatePattern.FindStringSubmatch(arn)
	if match == nil {
		return nil, nil
	}
	list, err := s.records.List(ctx, match[1]+"/")
	if err != nil {
		return nil, fmt.Errorf("look for users of %s: %w", arn, err)
	}
	var users []LoadBalancer
	for i := range list {
		if list[i].names(arn) {
			users = append(users, list[i])
		}
	}
	return users, nil
}

// opsPerRenamed is how many of a transaction's operations one load balancer takes: its record and its role.
const opsPerRenamed = 2

// followRename has every listener that names a certificate name it by its new ARN, in iam's transaction. Guests learn
// of it as of any other change of a listener; the certificate stays the same, and so does what they serve.
func (s *Service) followRename(ctx context.Context, tx *store.Tx, from, to string) ([]iam.GrantMove, error) {
	users, err := s.users(ctx, from)
	if err != nil {
		return nil, err
	}
	const own = 8 // operations of iam's
	if most := (s.cfg.Store.MaxOps() - own) / opsPerRenamed; len(users) > most {
		return nil, elbmodel.ErrInvalidConfigurationRequest("%d load balancers name the certificate %s, and at most %d can "+
			"follow it to another name at once", len(users), from, most)
	}
	var moves []iam.GrantMove
	for i := range users {
		key := users[i].key()
		lb, err := s.records.In(tx).Get(key)
		if errors.Is(err, store.ErrNotFound) || err == nil && !lb.names(from) {
			continue // changed since it was listed; nobody names it anew, or the transaction runs again
		}
		if err != nil {
			return nil, err
		}
		move, err := s.renameIn(&lb, from, to)
		if err != nil {
			return nil, err
		}
		if err := s.records.In(tx).Put(key, lb); err != nil {
			return nil, err
		}
		moves = append(moves, move)
	}
	return moves, nil
}

// renameIn rewrites a record and returns what its role's grant becomes.
func (s *Service) renameIn(lb *LoadBalancer, from, to string) (iam.GrantMove, error) {
	*lb = lb.clone()
	for i := range lb.Listeners {
		if lb.Listeners[i].CertificateARN == from {
			lb.Listeners[i].CertificateARN = to
		}
	}
	document, err := grantDocument(to)
	move := iam.GrantMove{
		AccountID: s.cfg.SystemAccountID, Role: lb.roleName(), OldName: lb.policyName(from), NewName: lb.policyName(to),
		Document: document,
	}
	if lb.Granted == nil {
		lb.Granted = map[string]string{}
	}
	// While the role is being made, the grant by the old name may come after this: then the loop withdraws it.
	if lb.Prepared {
		delete(lb.Granted, move.OldName)
	}
	lb.Granted[move.NewName] = to
	return move, err
}
