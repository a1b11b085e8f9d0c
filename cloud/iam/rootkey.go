package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// Errors of the root key that an operator can mend; the wrapping error says how.
var (
	ErrRootKeyMissing = errors.New("root key file is missing")
	ErrRootKeyDamaged = errors.New("root key file is damaged")
	ErrRootKeyMode    = errors.New("root key file is open to others")
	// ErrRootKeyElsewhere means that another root key seals the store than the one that was named.
	ErrRootKeyElsewhere = errors.New("the store has another root key")
)

// RootKeyFileName is what the root key file is called in a cloud's folder.
const RootKeyFileName = "root.key"

const rootKeySize = 32 // bytes, for AES-256-GCM

// sealer seals secrets with one symmetric key: compact JWE, dir, A256GCM. What a secret is for stands in the
// protected header, so that a sealed text opens in the place it was made for and nowhere else.
type sealer struct{ key keydelivery.Secret }

// Format writes [redacted] whatever the verb: fmt does not ask a field that is not exported.
func (*sealer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

var errSealed = errors.New("sealed text cannot be opened")

const purposeHeader = jose.HeaderKey("purpose")

func (s *sealer) seal(purpose string, plaintext []byte) (string, error) {
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: []byte(s.key)},
		&jose.EncrypterOptions{ExtraHeaders: map[jose.HeaderKey]any{purposeHeader: purpose}})
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", purpose, err)
	}
	object, err := encrypter.Encrypt(plaintext)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", purpose, err)
	}
	return object.CompactSerialize()
}

func (s *sealer) open(purpose, sealed string) ([]byte, error) {
	object, err := jose.ParseEncryptedCompact(sealed,
		[]jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errSealed
	}
	plaintext, err := object.Decrypt([]byte(s.key))
	if err != nil {
		return nil, errSealed
	}
	if got, ok := object.Header.ExtraHeaders[purposeHeader].(string); !ok || got != purpose {
		clear(plaintext)
		return nil, errSealed
	}
	return plaintext, nil
}

// rootKeyName names the root key for people.
func (c Config) rootKeyName() string {
	if c.RootKeyURI != "" {
		return "the key " + c.RootKeyURI
	}
	return c.RootKeyFile
}

// openRootKey returns the sealer of every secret in the store. sealed says that the store holds some already.
func openRootKey(ctx context.Context, cfg Config, sealed bool) (*sealer, error) {
	wrapped, err := wrappedRootKey(ctx, cfg.Store)
	switch {
	case err != nil:
		return nil, err
	case cfg.RootKeyURI != "":
		return openTokenRootKey(ctx, cfg, wrapped, sealed)
	case wrapped != nil:
		return nil, fmt.Errorf("%w: what opens the secrets in the store is wrapped by a token's key; start with "+
			"--root-key %s, or move it to the file with 'cloudtwin root-key move'", ErrRootKeyElsewhere, wrapped.URI)
	}
	return loadRootKey(cfg.RootKeyFile, sealed)
}

// loadRootKey reads the root key file. Without a file it makes one, unless sealed says that the store already holds
// secrets that only the lost key opens.
func loadRootKey(path string, sealed bool) (*sealer, error) {
	key, err := readRootKey(path)
	switch {
	case err == nil:
		return &sealer{key: key}, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	case sealed:
		return nil, fmt.Errorf("%w: %s, and the store holds secrets that only it opens; bring the file back from a "+
			"copy, or move the state folder away to begin anew", ErrRootKeyMissing, path)
	}
	fresh := newRootKey()
	defer fresh.Wipe()
	if err := makeRootKey(path, fresh); err != nil {
		return nil, err
	}
	// Read back: when two processes start at once, both go on with the file that is there.
	if key, err = readRootKey(path); err != nil {
		return nil, err
	}
	return &sealer{key: key}, nil
}

func newRootKey() keydelivery.Secret {
	key := make(keydelivery.Secret, rootKeySize)
	_, _ = rand.Read(key)
	return key
}

// readRootKey reads a file that its owner alone can read. It follows no symbolic link, which somebody else may have
// put there, and waits for no pipe.
func readRootKey(path string) (keydelivery.Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link; put the file itself there", ErrRootKeyMode, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open root key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at root key file: %w", err)
	}
	if err := checkRootKeyFile(path, info); err != nil {
		return nil, err
	}
	key, err := io.ReadAll(io.LimitReader(f, rootKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read root key file: %w", err)
	}
	if len(key) != rootKeySize {
		clear(key)
		return nil, fmt.Errorf("%w: %s has not the %d bytes of a key; bring it back from a copy, or move it and the "+
			"state folder away to begin anew", ErrRootKeyDamaged, path, rootKeySize)
	}
	return key, nil
}

// checkRootKeyFile refuses what is no file, what others may read or write, and what is somebody else's: that user can
// change it or open it to others.
func checkRootKeyFile(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrRootKeyDamaged, path)
	}
	const ownerOnly, readOnly = 0o600, 0o400
	special := info.Mode() & (os.ModeSetuid | os.ModeSetgid | os.ModeSticky)
	if mode := info.Mode().Perm(); special != 0 || mode != ownerOnly && mode != readOnly {
		return fmt.Errorf("%w: %s has mode %#o, want 0600 or 0400; run: chmod 600 %s", ErrRootKeyMode, path, mode, path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d and this process to user %d; run as the former, or chown the file",
			ErrRootKeyMode, path, stat.Uid, os.Geteuid())
	}
	return nil
}

// makeRootKey writes a key under a name of its own and links it into place, so that the file is whole or absent
// whenever the process ends, and an existing one is never replaced.
func makeRootKey(path string, key keydelivery.Secret) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of root key: %w", err)
	}
	f, err := os.CreateTemp(dir, ".root-key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make root key file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write root key file: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("put root key file in place: %w", err)
	}
	return nil
}

// Seal encrypts another package's secret with the root key, for Open with the same purpose. The purpose names the
// owner and the secret, such as "placement/ca-key".
func (s *Service) Seal(purpose string, plaintext keydelivery.Secret) (string, error) {
	return s.keys.root.seal("external/"+purpose, plaintext)
}

// Open decrypts what Seal made for this purpose. The caller wipes the result after use. The error does not tell a
// wrong purpose from a damaged text or another root key.
func (s *Service) Open(purpose, sealed string) (keydelivery.Secret, error) {
	return s.keys.root.open("external/"+purpose, sealed)
}
