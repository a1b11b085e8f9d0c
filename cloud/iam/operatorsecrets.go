package iam

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// OperatorSecrets opens the secrets of all access keys that a store keeps, by a name for people. It is for the
// operator's own checks, as OperatorKeys is, and fails as that does. The caller wipes the secrets.
func OperatorSecrets(ctx context.Context, s *store.Store, rootKey string) (map[string]keydelivery.Secret, error) {
	_, root, err := operatorRoot(ctx, s, rootKey)
	if err != nil {
		return nil, err
	}
	defer root.key.Wipe()
	table := store.NewTable[accessKeyRecord](s, "iam-access-keys")
	secrets, after := map[string]keydelivery.Secret{}, ""
	var errs []error
	for more := true; more; {
		var list []accessKeyRecord
		var keys []string
		if list, keys, more, err = table.Page(ctx, "", after, secretsPage); err != nil {
			return secrets, err
		}
		for i := range list {
			after = keys[i]
			secret, err := root.open(accessKeyPurpose(list[i].ID), list[i].Secret)
			if err != nil {
				errs = append(errs, fmt.Errorf("open access key %s: %w", list[i].ID, err))
				continue
			}
			secrets["secret of access key "+list[i].ID] = secret
		}
	}
	return secrets, errors.Join(errs...)
}

// secretsPage is how many access keys are read at once.
const secretsPage = 500

// SessionTokenMark is what every session token has in it, and nothing else that a cloud makes: the end of its header,
// which names its purpose. It is for the operator's search for tokens where they should not be.
func SessionTokenMark() string {
	const length = 24 // of its last characters; those before are the same in all that is sealed
	header := base64.RawURLEncoding.EncodeToString(
		[]byte(`{"alg":"dir","enc":"A256GCM","purpose":"` + purposeToken + `"}`))
	return header[len(header)-length:]
}
