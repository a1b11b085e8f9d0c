package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// MoveRootKey moves the root key of a state folder that no cloud uses: to the token's key of that URI, or back to the
// file. See iam.MoveRootKey.
func MoveRootKey(ctx context.Context, l Layout, uri string, toFile bool) (err error) {
	records := store.Config{Dir: l.Cloud()}
	if records.Endpoints, err = l.StoreEndpoints(); err != nil {
		return err
	}
	if len(records.Endpoints) > 0 {
		records.Dir = ""
	} else if _, err := os.Stat(filepath.Join(l.Cloud(), "etcd")); err != nil {
		return fmt.Errorf("%w: %s holds no cloud's state: %w", ErrForeign, l, err)
	}
	lock, err := acquire(l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s, err := store.Open(ctx, records)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return iam.MoveRootKey(ctx, iam.Config{
		Store: s, RootKeyFile: filepath.Join(l.Cloud(), iam.RootKeyFileName), RootKeyURI: uri,
	}, toFile)
}
