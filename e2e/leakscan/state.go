package leakscan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// StateKeys opens, with the operator's authority, the keys that a cloud's folder keeps sealed (etcd and root.key) and
// those that lie there in files: IAMPK, every USERPK in the store, and in a node's folder NODEPK. The cloud may run: a
// copy of its records is opened, in memory. Where neither is, the error is fs.ErrNotExist.
func StateKeys(ctx context.Context, cloudDir, nodeDir string) ([]Key, error) {
	var keys []Key
	found := false
	if _, err := os.Stat(filepath.Join(cloudDir, rootKeyFile)); err == nil {
		found = true
		more, err := cloudKeys(ctx, cloudDir)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	text, err := os.ReadFile(filepath.Join(nodeDir, nodeKeyFile))
	if err == nil {
		defer clear(text)
		key, err := NewKey("NODEPK", text)
		if err != nil {
			return nil, err
		}
		return append(keys, key), nil
	}
	if !found {
		return nil, fmt.Errorf("look for keys in %s: %w", cloudDir, fs.ErrNotExist)
	}
	return keys, nil
}

// The files that hold keys, where the table of identities puts them.
const (
	rootKeyFile = "root.key"
	nodeKeyFile = "node.key"
)

func cloudKeys(ctx context.Context, dir string) (keys []Key, err error) {
	// The records are sealed, but what opens them will be beside them for a moment.
	copied, err := os.MkdirTemp("/dev/shm", "cloudtwin-leakscan-")
	if err != nil {
		return nil, fmt.Errorf("copy records: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	if err := copyRecords(copied, dir); err != nil {
		return nil, fmt.Errorf("copy records: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Dir: copied})
	if err != nil {
		return nil, fmt.Errorf("open a copy of the records: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	secrets, err := iam.OperatorKeys(ctx, s, filepath.Join(dir, rootKeyFile))
	if err != nil {
		return nil, err
	}
	for name, secret := range secrets {
		key, err := NewKey(name, secret)
		secret.Wipe()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	root, err := os.ReadFile(filepath.Join(dir, rootKeyFile))
	if err != nil {
		return nil, err
	}
	return append(keys, FromSecret("root key", root)), nil
}

// copyRecords copies everything but sockets, locks and the root key.
func copyRecords(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case !entry.Type().IsRegular() || entry.Name() == rootKeyFile || filepath.Ext(path) == ".lock":
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}
