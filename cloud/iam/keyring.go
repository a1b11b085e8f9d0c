package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// keyRecord is a key of the service itself. Sealed is under the root key. That of an IAM identity also holds the ones
// before it, so that a rotation and a retirement are one write each, and whatever process ends in between, every
// LBCERT has its IAMCERT.
type keyRecord struct {
	CertPEM string `json:",omitempty"`
	Sealed  string
	Created time.Time
	Former  []formerKey  `json:",omitempty"` // still accepted, newest first
	Retired []retiredKey `json:",omitempty"` // newest first, at most maxRetired
}

// formerKey is an IAM identity that signs no LBCERTs any more, and answers only guests whose LBCERT it signed.
type formerKey struct {
	CertPEM  string
	Sealed   string
	Created  time.Time
	Replaced time.Time
}

// retiredKey is what is left of an identity whose key is gone.
type retiredKey struct {
	CertPEM  string
	Created  time.Time
	Replaced time.Time
	Retired  time.Time
	Forced   bool `json:",omitempty"`
}

const keysTable = "iam-keys"

const (
	authorityRecord    = "authority"     // IAMCERT and IAMPK of profile 2
	rsaAuthorityRecord = "authority-rsa" // those of profile 1
	tokenKeyRecord     = "token-key"     // seals session tokens
)

// keyring holds the keys that every replica must share. The IAM identities change under it when some replica rotates
// them.
type keyring struct {
	table      *store.Table[keyRecord]
	root       *sealer
	tokens     *sealer
	identities [keydelivery.Profile2 + 1]atomic.Pointer[identitySet] // by profile; nil where it is refused
}

// set returns the identities of a profile, nil where the profile is refused.
func (k *keyring) set(p keydelivery.Profile) *identitySet {
	if p < keydelivery.Profile1 || p > keydelivery.Profile2 {
		return nil
	}
	return k.identities[p].Load()
}

// authorityOf returns the identity of a profile that signs now, nil where the profile is refused.
func (k *keyring) authorityOf(p keydelivery.Profile) *keydelivery.Authority {
	if set := k.set(p); set != nil {
		return set.current
	}
	return nil
}

// openKeyring loads the service's keys, or makes them at the first start.
func openKeyring(ctx context.Context, cfg Config) (*keyring, error) {
	k := &keyring{table: store.NewTable[keyRecord](cfg.Store, keysTable)}
	_, err := k.table.Get(ctx, authorityRecord)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("look for IAM identity: %w", err)
	}
	if k.root, err = openRootKey(ctx, cfg, err == nil); err != nil {
		return nil, err
	}
	for _, p := range profilesOf(cfg) {
		if err := k.loadIdentities(ctx, cfg, p); err != nil {
			return nil, err
		}
	}
	return k, k.loadTokenKey(ctx, cfg)
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

// openSealed opens a key of the record called name.
func (k *keyring) openSealed(cfg Config, name, sealed string) (keydelivery.Secret, error) {
	plain, err := k.root.open(name, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open the %s in the store, so it is not the key that sealed it; bring "+
			"the right file back from a copy, or move it and the state folder away to begin anew",
			ErrRootKeyDamaged, cfg.rootKeyName(), name)
	}
	return plain, nil
}

func (k *keyring) loadTokenKey(ctx context.Context, cfg Config) error {
	rec, err := shared(ctx, k.table, tokenKeyRecord, func() (keyRecord, error) {
		key := make([]byte, rootKeySize)
		defer clear(key)
		_, _ = rand.Read(key)
		sealed, err := k.root.seal(tokenKeyRecord, key)
		return keyRecord{Sealed: sealed, Created: cfg.Clock().UTC()}, err
	})
	if err != nil {
		return fmt.Errorf("load token key: %w", err)
	}
	key, err := k.openSealed(cfg, tokenKeyRecord, rec.Sealed)
	if err != nil {
		return err
	}
	k.tokens = &sealer{key: key}
	return nil
}
