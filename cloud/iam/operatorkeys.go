package iam

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// OperatorKeys opens what the service keeps sealed in a store, with the root key file: the service's identities and
// every server certificate's key, by a name for people. It is for the operator's own checks, such as a search for
// copies of keys where they should not be; no running service calls it. It makes nothing: a store without keys is
// store.ErrNotFound, a missing file ErrRootKeyMissing. The caller wipes the keys.
func OperatorKeys(ctx context.Context, s *store.Store, rootKeyFile string) (map[string]keydelivery.Secret, error) {
	root, err := loadRootKey(rootKeyFile, true)
	if err != nil {
		return nil, err
	}
	k := &keyring{root: root}
	table := store.NewTable[keyRecord](s, "iam-keys")
	rec, err := table.Get(ctx, authorityRecord)
	if err != nil {
		return nil, fmt.Errorf("look for IAM identity: %w", err)
	}
	cfg := Config{RootKeyFile: rootKeyFile}
	identity, err := k.openSealed(cfg, authorityRecord, rec)
	if err != nil {
		return nil, err
	}
	authority, err := keydelivery.LoadAuthority([]byte(rec.CertPEM), identity)
	if err != nil {
		return nil, fmt.Errorf("load IAM identity: %w", err)
	}
	keys := map[string]keydelivery.Secret{"IAMPK": identity}
	certificates, err := store.NewTable[certificateRecord](s, "iam-server-certificates").List(ctx, "")
	if err != nil {
		return keys, err
	}
	var errs []error
	for i := range certificates {
		c := &certificates[i]
		key, err := authority.OpenAtRest(c.sealPurpose(), c.Key)
		if err != nil {
			errs = append(errs, fmt.Errorf("open key of %s: %w", c.arn(), err))
			continue
		}
		keys["USERPK of "+c.arn()] = key
	}
	return keys, errors.Join(errs...)
}
