package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// keyRecord is a key of the service itself. Sealed is under the root key.
type keyRecord struct {
	CertPEM string `json:",omitempty"`
	Sealed  string
	Created time.Time
}

const (
	authorityRecord    = "authority"     // IAMCERT and IAMPK of profile 2
	rsaAuthorityRecord = "authority-rsa" // those of profile 1
	tokenKeyRecord     = "token-key"     // seals session tokens
)

// keyring holds the keys that every replica must share.
type keyring struct {
	root         *sealer
	authority    *keydelivery.Authority
	rsaAuthority *keydelivery.Authority // nil where profile 1 is refused
	tokens       *sealer
}

// authorityOf returns the identity of a profile, nil where the profile is refused.
func (k *keyring) authorityOf(p keydelivery.Profile) *keydelivery.Authority {
	switch p {
	case keydelivery.Profile1:
		return k.rsaAuthority
	case keydelivery.Profile2:
		return k.authority
	}
	return nil
}

// openKeyring loads the service's keys, or makes them at the first start.
func openKeyring(ctx context.Context, cfg Config) (*keyring, error) {
	table := store.NewTable[keyRecord](cfg.Store, "iam-keys")
	_, err := table.Get(ctx, authorityRecord)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("look for IAM identity: %w", err)
	}
	root, err := loadRootKey(cfg.RootKeyFile, err == nil)
	if err != nil {
		return nil, err
	}
	k := &keyring{root: root}
	if k.authority, err = k.loadAuthority(ctx, table, cfg, authorityRecord, keydelivery.NewAuthority); err != nil {
		return nil, err
	}
	if cfg.MinDeliveryProfile == keydelivery.Profile1 {
		k.rsaAuthority, err = k.loadAuthority(ctx, table, cfg, rsaAuthorityRecord, keydelivery.NewRSAAuthority)
		if err != nil {
			return nil, err
		}
	}
	return k, k.loadTokenKey(ctx, table, cfg)
}

// shared returns the record called name. The first replica makes it; others that make one at the same time lose and
// use the first one's.
func shared(ctx context.Context, table *store.Table[keyRecord], name string,
	create func() (keyRecord, error),
) (keyRecord, error) {
	rec, err := table.Get(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return rec, err
	}
	if rec, err = create(); err != nil {
		return rec, err
	}
	if err := table.Create(ctx, name, rec); err != nil && !errors.Is(err, store.ErrExists) {
		return rec, err
	}
	return table.Get(ctx, name)
}

func (k *keyring) openSealed(cfg Config, name string, rec keyRecord) (keydelivery.Secret, error) {
	plain, err := k.root.open(name, rec.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open the %s in the store, so it is not the key that sealed it; bring "+
			"the right file back from a copy, or move it and the state folder away to begin anew",
			ErrRootKeyDamaged, cfg.RootKeyFile, name)
	}
	return plain, nil
}

func (k *keyring) loadAuthority(ctx context.Context, table *store.Table[keyRecord], cfg Config, name string,
	create func(time.Time) (*keydelivery.Authority, error),
) (*keydelivery.Authority, error) {
	rec, err := shared(ctx, table, name, func() (keyRecord, error) {
		now := cfg.Clock()
		a, err := create(now)
		if err != nil {
			return keyRecord{}, err
		}
		key, err := a.KeyPEM()
		if err != nil {
			return keyRecord{}, err
		}
		defer key.Wipe()
		sealed, err := k.root.seal(name, key)
		return keyRecord{CertPEM: string(a.CertificatePEM()), Sealed: sealed, Created: now.UTC()}, err
	})
	if err != nil {
		return nil, fmt.Errorf("load IAM identity: %w", err)
	}
	key, err := k.openSealed(cfg, name, rec)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	authority, err := keydelivery.LoadAuthority([]byte(rec.CertPEM), key)
	if err != nil {
		return nil, fmt.Errorf("load IAM identity: %w", err)
	}
	return authority, nil
}

func (k *keyring) loadTokenKey(ctx context.Context, table *store.Table[keyRecord], cfg Config) error {
	rec, err := shared(ctx, table, tokenKeyRecord, func() (keyRecord, error) {
		key := make([]byte, rootKeySize)
		defer clear(key)
		_, _ = rand.Read(key)
		sealed, err := k.root.seal(tokenKeyRecord, key)
		return keyRecord{Sealed: sealed, Created: cfg.Clock().UTC()}, err
	})
	if err != nil {
		return fmt.Errorf("load token key: %w", err)
	}
	key, err := k.openSealed(cfg, tokenKeyRecord, rec)
	if err != nil {
		return err
	}
	k.tokens = &sealer{key: key}
	return nil
}
