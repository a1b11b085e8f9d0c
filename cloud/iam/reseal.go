package iam

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// errRotated means that a key was sealed to an IAMCERT that another replica replaced in the meantime.
var errRotated = errors.New("IAMCERT was rotated a moment ago")

// sealUserKey seals USERPK to the current IAMCERT, for the record's certificate.
func (s *Service) sealUserKey(rec *certificateRecord, key keydelivery.Secret) (*keydelivery.Authority, error) {
	a := s.keys.authorityOf(keydelivery.Profile2)
	sealed, err := a.SealAtRest(rec.sealPurpose(), key)
	if err != nil {
		return nil, err
	}
	rec.Key, rec.SealedTo = sealed, a.Serial()
	return a, nil
}

// putSealed seals USERPK and has write put the record down, in one transaction with the knowledge that the IAMCERT is
// still the current one: so nothing is ever sealed to a former one, and its key can go when the last was sealed anew.
func (s *Service) putSealed(ctx context.Context, rec *certificateRecord, key keydelivery.Secret,
	write func(tx *store.Tx) error) error {
	recKey := recordKey(rec.AccountID, rec.Name)
	for {
		a, err := s.sealUserKey(rec, key)
		if err != nil {
			return err
		}
		err = s.txn(ctx, func(tx *store.Tx) error {
			rotated, err := s.isRotated(tx, a)
			if err != nil {
				return err
			}
			if rotated {
				return errRotated
			}
			return write(tx)
		}, func() { s.certificates.cache.drop(recKey) })
		if !errors.Is(err, errRotated) {
			return err
		}
		if _, err := s.reloadKeys(ctx); err != nil {
			return err
		}
	}
}

// openUserKey opens USERPK. The caller wipes it after use.
func (s *Service) openUserKey(rec *certificateRecord) (keydelivery.Secret, error) {
	return s.keys.openUserKey(rec)
}

func (k *keyring) openUserKey(rec *certificateRecord) (keydelivery.Secret, error) {
	set := k.set(keydelivery.Profile2)
	candidates := set.all()
	if rec.SealedTo != "" {
		a := set.bySerial(rec.SealedTo)
		if a == nil {
			return nil, fmt.Errorf("open key of %s: it is sealed to the IAMCERT of serial %s, which is not here", rec.ID,
				rec.SealedTo)
		}
		candidates = []*keydelivery.Authority{a}
	}
	// A record from before there were several does not say which one it is sealed to.
	var err error
	for _, a := range candidates {
		var key keydelivery.Secret
		if key, err = a.OpenAtRest(rec.sealPurpose(), rec.Key); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("open key of %s: %w", rec.ID, err)
}

// reseal seals to the current IAMCERT every USERPK that is sealed to a former one. It may be cut off anywhere, and run
// in several replicas at once. Once it is done for an IAMCERT nothing is left to do until the next rotation.
func (s *Service) reseal(ctx context.Context) error {
	set := s.keys.set(keydelivery.Profile2)
	serial := set.current.Serial()
	if done := s.resealed.Load(); len(set.former) == 0 || done != nil && *done == serial {
		return nil
	}
	recs, err := s.certificates.List(ctx, "")
	if err != nil {
		return fmt.Errorf("reseal server certificates' keys: %w", err)
	}
	for i := range recs {
		if recs[i].SealedTo == serial {
			continue
		}
		if err := s.resealOne(ctx, recs[i]); err != nil {
			return fmt.Errorf("reseal server certificates' keys: %w", err)
		}
	}
	s.resealed.Store(&serial)
	return nil
}

func (s *Service) resealOne(ctx context.Context, rec certificateRecord) error {
	key, err := s.openUserKey(&rec)
	if err != nil {
		return err
	}
	defer key.Wipe()
	was, met := rec.Key, false
	err = s.putSealed(ctx, &rec, key, func(tx *store.Tx) error {
		at := recordKey(rec.AccountID, rec.Name)
		now, err := s.certificates.In(tx).Get(at)
		if met = err == nil && now.Key == was; !met {
			return ignoreMissing(err)
		}
		now.Key, now.SealedTo = rec.Key, rec.SealedTo
		return s.certificates.In(tx).Put(at, now)
	})
	if err != nil || met {
		return err
	}
	// It was deleted since it was read, or another replica was sooner, or it was renamed.
	recs, err := s.certificates.List(ctx, rec.AccountID+"/")
	if err != nil {
		return err
	}
	for i := range recs {
		if recs[i].Key == was {
			return s.resealOne(ctx, recs[i])
		}
	}
	return nil
}

// sealedTo counts the USERPKs by the serial of the IAMCERT that they are sealed to.
func (s *Service) sealedTo(ctx context.Context) (map[string]int, error) {
	recs, err := s.certificates.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("count sealed keys: %w", err)
	}
	count := map[string]int{}
	for i := range recs {
		count[recs[i].SealedTo]++
	}
	return count, nil
}

// SettleKeys does what a rotation leaves to do: it seals every USERPK to the current IAMCERT, and retires former ones
// that no live instance has an LBCERT of and that were replaced at least Config.IAMCertOverlap ago. It reports whether
// any is left. The service calls it by itself.
func (s *Service) SettleKeys(ctx context.Context) (left bool, err error) {
	if err := s.reseal(ctx); err != nil {
		return true, err
	}
	now := s.cfg.Clock()
	for _, p := range profilesOf(s.cfg) {
		for _, f := range s.keys.set(p).former {
			if now.Sub(f.replaced) < s.cfg.IAMCertOverlap {
				left = true
				continue
			}
			users, err := s.iamCertUsers(ctx, f.Certificate())
			if err != nil {
				return true, err
			}
			if users != 0 {
				left = true
				continue
			}
			if err := s.retire(ctx, IAMCertificate{Profile: p, Serial: f.Serial()}, false, "the cloud"); err != nil {
				return true, err
			}
		}
	}
	return left, nil
}

// settleInterval is how often it is looked whether a former IAMCERT is still needed, while there is one.
const settleInterval = time.Second

func (s *Service) wakeSettling() {
	select {
	case s.settle <- struct{}{}:
	default:
	}
}

// settleLoop calls SettleKeys after every rotation until nothing is left to do. It begins with what an earlier process
// left.
func (s *Service) settleLoop(ctx context.Context) {
	told := ""
	for {
		left, err := s.SettleKeys(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			s.recordIAMCertificate(ctx, "iam.settle_failed", keydelivery.Profile2, "", map[string]string{"reason": err.Error()})
			told = err.Error()
		}
		if err == nil {
			told = ""
		}
		var again <-chan time.Time
		stop := func() bool { return true }
		if left {
			t := time.NewTimer(settleInterval)
			again, stop = t.C, t.Stop
		}
		select {
		case <-ctx.Done():
		case <-s.settle:
		case <-again:
		}
		stop()
	}
}

// followKeys takes up what other replicas do to the IAM identities, until ctx ends.
func (s *Service) followKeys(ctx context.Context, ready chan<- error) {
	for first := true; ; first = false {
		watch, cancel := context.WithCancel(ctx)
		changes, err := s.keys.table.WatchKeys(watch)
		if first {
			ready <- err
		}
		for open := err == nil; open; {
			// Before the first change too: one may have come between the last reading and the watch.
			former, err := s.reloadKeys(ctx)
			if err != nil {
				break
			}
			if former {
				s.wakeSettling()
			}
			_, open = <-changes
		}
		cancel()
		pause := time.NewTimer(rewatch)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}
