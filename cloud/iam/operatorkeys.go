package iam

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// OperatorKeys opens what the service keeps sealed in a store, with the root key file or the key of a URI (pkcs11:…):
// the service's identities and every server certificate's key, by a name for people. It is for the operator's own
// checks, such as a search for copies of keys where they should not be; no running service calls it. It makes nothing:
// a store without keys is store.ErrNotFound, a missing file ErrRootKeyMissing. The caller wipes the keys.
func OperatorKeys(ctx context.Context, s *store.Store, rootKey string) (map[string]keydelivery.Secret, error) {
	cfg, root, err := operatorRoot(ctx, s, rootKey)
	if err != nil {
		return nil, err
	}
	defer root.key.Wipe()
	k := &keyring{root: root, table: store.NewTable[keyRecord](s, keysTable)}
	keys := map[string]keydelivery.Secret{}
	for _, p := range []keydelivery.Profile{keydelivery.Profile2, keydelivery.Profile1} {
		rec, err := k.table.Get(ctx, recordOf(p))
		if p == keydelivery.Profile1 && errors.Is(err, store.ErrNotFound) {
			continue // a cloud that refuses profile 1 has none
		}
		if err != nil {
			return nil, fmt.Errorf("look for IAM identity: %w", err)
		}
		set, err := k.openIdentities(cfg, p, rec)
		if err != nil {
			return nil, err
		}
		k.identities[p].Store(set)
		if err := addIdentities(keys, set); err != nil {
			return nil, err
		}
	}
	certificates, err := store.NewTable[certificateRecord](s, "iam-server-certificates").List(ctx, "")
	if err != nil {
		return keys, err
	}
	var errs []error
	for i := range certificates {
		c := &certificates[i]
		key, err := k.openUserKey(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("open key of %s: %w", c.arn(), err))
			continue
		}
		keys["USERPK of "+c.arn()] = key
	}
	return keys, errors.Join(errs...)
}

// addIdentities adds the private keys of a profile's identities: IAMPK is profile 2's that signs now.
func addIdentities(keys map[string]keydelivery.Secret, set *identitySet) error {
	for _, a := range set.all() {
		key, err := a.KeyPEM()
		if err != nil {
			return err
		}
		name := "IAMPK"
		if set.profile == keydelivery.Profile1 {
			name += " of profile 1"
		}
		if a != set.current {
			name = "IAMPK of former IAMCERT " + a.Serial()
		}
		keys[name] = key
	}
	return nil
}

// operatorRoot opens the root key that a store's secrets are sealed with: of a file, or of a URI (pkcs11:…). It makes
// none. The caller wipes it.
func operatorRoot(ctx context.Context, s *store.Store, rootKey string) (Config, *sealer, error) {
	cfg := Config{Store: s, RootKeyFile: rootKey}
	if strings.HasPrefix(rootKey, "pkcs11:") {
		cfg.RootKeyFile, cfg.RootKeyURI = "", rootKey
	}
	root, err := openRootKey(ctx, cfg, true)
	return cfg, root, err
}
