package leakscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// StateKeys opens, with the operator's authority, the keys that a cloud keeps sealed (in etcd; what opens them is the
// root.key in its folder) and those that lie there in files: IAMPK, every USERPK in the store, and in a node's folder
// NODEPK. The cloud may run: a copy of its own etcd's records is opened, in memory. endpoints are those of an external
// etcd, if it uses one. Where neither a cloud's nor a node's folder is, the error is fs.ErrNotExist.
func StateKeys(ctx context.Context, cloudDir, nodeDir string, endpoints ...string) ([]Key, error) {
	var keys []Key
	found := false
	if _, err := os.Stat(filepath.Join(cloudDir, rootKeyFile)); err == nil {
		found = true
		more, err := cloudKeys(ctx, cloudDir, endpoints)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	more, err := nodeKeys(nodeKey, nodeDir)
	if err != nil {
		return nil, err
	}
	if keys = append(keys, more...); !found && len(more) == 0 {
		return nil, fmt.Errorf("look for keys in %s: %w", cloudDir, fs.ErrNotExist)
	}
	return keys, nil
}

// NodeKeys reads the NODEPKs in the folder of a node that is not a twin's only one; their names tell its id.
func NodeKeys(id, dir string) ([]Key, error) { return nodeKeys(nodeKey+" of "+id, dir) }

// nodeKeys reads a node's NODEPKs: the present one, and those of a renewal.
func nodeKeys(name, dir string) (keys []Key, err error) {
	files, err := filepath.Glob(filepath.Join(dir, nodeKeyFiles))
	if err != nil {
		return nil, fmt.Errorf("look for NODEPKs: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the node renamed or removed it a moment ago
		}
		if err != nil {
			return nil, fmt.Errorf("read NODEPK: %w", err)
		}
		if len(text) > 0 && len(bytes.Trim(text, "\x00")) == 0 {
			continue // a node that was removed wipes it, and removes it next
		}
		called := name
		if filepath.Base(file) != nodeKeyFile {
			called += " of " + filepath.Base(file)
		}
		key, err := NewKey(called, text)
		clear(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// The files that hold keys, where the table of identities puts them.
const (
	rootKeyFile = "root.key"
	nodeKeyFile = "node.key"
	// nodeKeyFiles are that one and, beside it, the next one and older ones.
	nodeKeyFiles = "node*.key"
)

// OpenRecords opens a cloud's records: those in the external etcd of endpoints or, without any, a copy in memory of
// what lies in its folder, whether it runs or not. They are sealed; what opens them stays where it is. close ends it
// and removes the copy.
func OpenRecords(ctx context.Context, dir string, endpoints []string) (
	s *store.Store, closing func() error, err error,
) {
	records, remove := store.Config{Endpoints: endpoints}, func() error { return nil }
	if len(endpoints) == 0 {
		if records.Dir, err = os.MkdirTemp("/dev/shm", "cloudtwin-leakscan-"); err != nil {
			return nil, nil, fmt.Errorf("copy records: %w", err)
		}
		remove = func() error { return os.RemoveAll(records.Dir) }
		if err := copyRecords(records.Dir, dir); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("copy records: %w", err), remove())
		}
	}
	if s, err = store.Open(ctx, records); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the cloud's records: %w", err), remove())
	}
	return s, func() error { return errors.Join(s.Close(), remove()) }, nil
}

// StateSecrets are what else of a cloud must not leave it: the secrets of access keys, and what every session token has
// in it. dir is the cloud's folder, where the root key is.
func StateSecrets(ctx context.Context, s *store.Store, dir string) (keys []Key, err error) {
	secrets, err := iam.OperatorSecrets(ctx, s, filepath.Join(dir, rootKeyFile))
	for name, secret := range secrets {
		keys = append(keys, FromSecret(name, bytes.Clone(secret))) // which keeps what it is given
		secret.Wipe()
	}
	return append(keys, FromSecret("a session token", []byte(iam.SessionTokenMark()))), err
}

func cloudKeys(ctx context.Context, dir string, endpoints []string) (keys []Key, err error) {
	s, closing, err := OpenRecords(ctx, dir, endpoints)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closing()) }()
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
