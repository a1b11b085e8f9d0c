package iam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// wrappedRecord is the store's root key where a token keeps it closed. The record lies beside the keys that the root
// key seals; without one the root key is the file's.
type wrappedRecord struct {
	URI     string // which key wraps it, without the way to it
	Wrapped []byte // by AES-256-GCM: nonce, text, tag
	Created time.Time
}

const rootKeyRecord = "root-key"

func wrappedTable(s *store.Store) *store.Table[wrappedRecord] {
	return store.NewTable[wrappedRecord](s, "iam-root-key")
}

// wrappedRootKey returns the store's wrapped root key, nil when it has none.
func wrappedRootKey(ctx context.Context, s *store.Store) (*wrappedRecord, error) {
	rec, err := wrappedTable(s).Get(ctx, rootKeyRecord)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for wrapped root key: %w", err)
	}
	return &rec, nil
}

// openTokenRootKey has the token open the store's root key, which it makes at the first start. The token is needed
// for this moment only.
func openTokenRootKey(ctx context.Context, cfg Config, rec *wrappedRecord, sealed bool) (*sealer, error) {
	if rec == nil && sealed {
		return nil, fmt.Errorf("%w: the secrets in the store are sealed by the file %s; start without --root-key, or move "+
			"the key to the token with 'cloudtwin root-key move'", ErrRootKeyElsewhere, cfg.RootKeyFile)
	}
	if rec == nil {
		fresh := newRootKey()
		defer fresh.Wipe()
		if err := wrapInto(ctx, cfg, fresh); err != nil {
			return nil, err
		}
		var err error
		// Read back: when two processes start at once, both go on with the key that is there.
		if rec, err = wrappedRootKey(ctx, cfg.Store); err != nil || rec == nil {
			return nil, errors.Join(errors.New("read back wrapped root key"), err)
		}
	}
	var key keydelivery.Secret
	err := withTokenKey(cfg.RootKeyURI, func(t *token, u TokenURI, k tokenKey) (err error) {
		if k.weak != "" {
			slog.Warn("the root key's wrapping key may leave its token; make another with 'cloudtwin root-key create'",
				"key", u.place(), "because", k.weak)
		}
		key, err = t.unwrap(u, k, rec.Wrapped)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &sealer{key: key}, nil
}

// wrapInto has the token wrap a root key and puts it down, unless another process was sooner.
func wrapInto(ctx context.Context, cfg Config, key keydelivery.Secret) error {
	return withTokenKey(cfg.RootKeyURI, func(t *token, u TokenURI, k tokenKey) error {
		wrapped, err := t.wrap(u, k, key)
		if err != nil {
			return err
		}
		err = wrappedTable(cfg.Store).Create(ctx, rootKeyRecord,
			wrappedRecord{URI: u.place(), Wrapped: wrapped, Created: time.Now().UTC()})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("keep wrapped root key: %w", err)
		}
		return nil
	})
}

// withTokenKey opens the token that a URI names for the length of use.
func withTokenKey(uri string, use func(*token, TokenURI, tokenKey) error) error {
	u, err := ParseTokenURI(uri)
	if err != nil {
		return err
	}
	t, err := openToken(u)
	if err != nil {
		return err
	}
	defer t.close()
	k, err := t.key(u)
	if err != nil {
		return err
	}
	return use(t, u, k)
}

// MoveRootKey moves the root key of a store that no cloud uses at the time: from cfg.RootKeyFile to the token's key
// of cfg.RootKeyURI, or with toFile back. What is sealed stays as it is, for the key stays the same; so a file that
// somebody read before the move is worth as much as ever. A move that was cut off left the key in both places: a cloud
// then starts with the token.
func MoveRootKey(ctx context.Context, cfg Config, toFile bool) error {
	rec, err := wrappedRootKey(ctx, cfg.Store)
	if err != nil {
		return err
	}
	if toFile {
		return moveToFile(ctx, cfg, rec)
	}
	if rec != nil {
		return fmt.Errorf("%w: it is on a token already, %s; move it to the file first", ErrRootKeyElsewhere, rec.URI)
	}
	key, err := readRootKey(cfg.RootKeyFile)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := checkOpens(ctx, cfg, key); err != nil {
		return err
	}
	if err := wrapInto(ctx, cfg, key); err != nil {
		return err
	}
	// Only what the token gives back counts.
	back, err := openRootKey(ctx, cfg, true)
	if err != nil {
		return err
	}
	defer back.key.Wipe()
	if string(back.key) != string(key) {
		return fmt.Errorf("%w: the token gave another key back", ErrTokenKey)
	}
	return removeRootKeyFile(cfg.RootKeyFile)
}

func moveToFile(ctx context.Context, cfg Config, rec *wrappedRecord) error {
	if rec == nil {
		return fmt.Errorf("%w: it is not on a token", ErrRootKeyElsewhere)
	}
	s, err := openTokenRootKey(ctx, cfg, rec, true)
	if err != nil {
		return err
	}
	defer s.key.Wipe()
	if err := makeRootKey(cfg.RootKeyFile, s.key); err != nil {
		return err
	}
	back, err := readRootKey(cfg.RootKeyFile)
	if err != nil {
		return err
	}
	defer back.Wipe()
	if string(back) != string(s.key) {
		return fmt.Errorf("%w: %s holds another key; move it away", ErrRootKeyElsewhere, cfg.RootKeyFile)
	}
	if err := wrappedTable(cfg.Store).Delete(ctx, rootKeyRecord); err != nil {
		return fmt.Errorf("forget wrapped root key: %w", err)
	}
	return nil
}

// checkOpens makes sure that a key is the one that sealed the store.
func checkOpens(ctx context.Context, cfg Config, key keydelivery.Secret) error {
	k := &keyring{table: store.NewTable[keyRecord](cfg.Store, keysTable), root: &sealer{key: key}}
	rec, err := k.table.Get(ctx, authorityRecord)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the store holds nothing that it opens", ErrRootKeyElsewhere)
	}
	if err != nil {
		return fmt.Errorf("look for IAM identity: %w", err)
	}
	opened, err := k.openSealed(Config{RootKeyFile: cfg.RootKeyFile}, authorityRecord, rec.Sealed)
	opened.Wipe()
	return err
}

// removeRootKeyFile overwrites and removes a root key file that has served. On most disks the old blocks may stay.
func removeRootKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(make([]byte, rootKeySize))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return fmt.Errorf("remove root key file: %w", err)
	}
	return nil
}
