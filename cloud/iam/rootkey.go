package iam

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// Errors of the root key that an operator can mend; the wrapping error says how.
var (
	ErrRootKeyMissing = errors.New("root key file is missing")
	ErrRootKeyDamaged = errors.New("root key file is damaged")
	ErrRootKeyMode    = errors.New("root key file is open to others")
)

const rootKeySize = 32 // bytes, for AES-256-GCM

// sealer seals secrets with one symmetric key: compact JWE, dir, A256GCM. What a secret is for stands in the
// protected header, so that a sealed text opens in the place it was made for and nowhere else.
type sealer struct{ key []byte }

var errSealed = errors.New("sealed text cannot be opened")

const purposeHeader = jose.HeaderKey("purpose")

func (s *sealer) seal(purpose string, plaintext []byte) (string, error) {
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: s.key},
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
	plaintext, err := object.Decrypt(s.key)
	if err != nil {
		return nil, errSealed
	}
	if got, ok := object.Header.ExtraHeaders[purposeHeader].(string); !ok || got != purpose {
		clear(plaintext)
		return nil, errSealed
	}
	return plaintext, nil
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
	if err := makeRootKey(path); err != nil {
		return nil, err
	}
	// Read back: when two processes start at once, both go on with the file that is there.
	if key, err = readRootKey(path); err != nil {
		return nil, err
	}
	return &sealer{key: key}, nil
}

func readRootKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open root key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at root key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrRootKeyDamaged, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o, want 0600; run: chmod 600 %s", ErrRootKeyMode, path, mode, path)
	}
	key, err := io.ReadAll(io.LimitReader(f, rootKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read root key file: %w", err)
	}
	if len(key) != rootKeySize {
		return nil, fmt.Errorf("%w: %s has not the %d bytes of a key; bring it back from a copy, or move it and the "+
			"state folder away to begin anew", ErrRootKeyDamaged, path, rootKeySize)
	}
	return key, nil
}

// makeRootKey writes a new key under a name of its own and links it into place, so that the file is whole or absent
// whenever the process ends, and an existing one is never replaced.
func makeRootKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of root key: %w", err)
	}
	f, err := os.CreateTemp(dir, ".root-key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make root key file: %w", err)
	}
	defer os.Remove(f.Name())
	key := make([]byte, rootKeySize)
	defer clear(key)
	_, _ = rand.Read(key)
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
