package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// The files of a renewal, beside those of the identity. At every moment the folder holds a NODECERT with its NODEPK
// that the cloud takes: each file is written as a whole, and before anybody is told of what is in it.
const (
	nextKeyFile  = "node.next.key"  // made before the cloud is asked to sign it
	nextCertFile = "node.next.crt"  // kept before it is shown to the cloud
	oldKeyFiles  = "node.old-*.key" // NODEPKs to which credentials were sealed that some guest may need yet
)

// keyring is what the node has of its identities: the present one, the next while a renewal is under way, and older
// NODEPKs.
type keyring struct {
	dir string

	mu      sync.Mutex
	present *identity
	next    *identity // its cert is nil until the cloud has signed it
	old     []oldKey
}

// oldKey is a NODEPK whose NODECERT was replaced.
type oldKey struct {
	key   *ecdsa.PrivateKey
	file  string
	since time.Time // it became old, or this process found it
}

// openKeyring reads the folder and finishes what an earlier process could not. fs.ErrNotExist means that the node is
// not enrolled.
func openKeyring(dir string, now time.Time) (*keyring, error) {
	present, err := loadIdentity(dir)
	if errors.Is(err, errMismatch) {
		// The key was replaced, and the process ended before it replaced the certificate.
		if err := finishPromotion(dir); err != nil {
			return nil, err
		}
		present, err = loadIdentity(dir)
	}
	if err != nil {
		return nil, err
	}
	r := &keyring{dir: dir, present: present}
	if r.next, err = loadNext(dir, present); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, oldKeyFiles))
	if err != nil {
		return nil, fmt.Errorf("look for old keys: %w", err)
	}
	for _, file := range files {
		key, err := readKey(file)
		if err != nil {
			return nil, err
		}
		if key.Equal(present.key) { // it was about to become an old one
			wipeFile(file)
			continue
		}
		r.old = append(r.old, oldKey{key: key, file: file, since: now})
	}
	if now.After(present.cert.NotAfter) && r.next != nil && r.next.cert != nil {
		return r, r.promote(now)
	}
	return r, nil
}

// finishPromotion completes promote after its first renaming; errMismatch when that is not what happened.
func finishPromotion(dir string) error {
	key, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return err
	}
	cert, err := readCertificate(filepath.Join(dir, nextCertFile))
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return errMismatch
	}
	return renameSynced(dir, nextCertFile, certFile)
}

// loadNext reads the identity of a renewal under way; nil when there is none. A certificate that does not belong to the
// key is of no use.
func loadNext(dir string, present *identity) (*identity, error) {
	key, err := readKey(filepath.Join(dir, nextKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	next := &identity{id: present.id, key: key, ca: present.ca}
	if cert, err := readCertificate(filepath.Join(dir, nextCertFile)); err == nil && key.PublicKey.Equal(cert.PublicKey) {
		next.cert = cert
	}
	return next, nil
}

// keys are all NODEPKs that a credential may be sealed to, the newest first.
func (r *keyring) keys() []*ecdsa.PrivateKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []*ecdsa.PrivateKey
	if r.next != nil {
		keys = append(keys, r.next.key)
	}
	keys = append(keys, r.present.key)
	for _, o := range slices.Backward(r.old) {
		keys = append(keys, o.key)
	}
	return keys
}

// now returns the present identity and the next, which may be nil.
func (r *keyring) now() (present, next *identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.present, r.next
}

// prepare returns the next identity, made and kept when there is none, with the request for its certificate.
func (r *keyring) prepare() (*identity, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, fmt.Errorf("make NODEPK: %w", err)
		}
		if err := writeKey(r.dir, nextKeyFile, key); err != nil {
			return nil, nil, err
		}
		r.next = &identity{id: r.present.id, key: key, ca: r.present.ca}
	}
	csr, err := request(r.next.key, r.next.id)
	return r.next, csr, err
}

func request(key *ecdsa.PrivateKey, id string) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: id},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("request NODECERT: %w", err)
	}
	return csr, nil
}

// accept checks and keeps the next identity's certificate.
func (r *keyring) accept(certPEM []byte) (*identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, errors.New("the cloud's node certificate is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the cloud's node certificate: %w", err)
	}
	next := *r.next
	next.cert = cert
	if err := next.belongs(); err != nil {
		return nil, err
	}
	if err := writeCertificate(r.dir, nextCertFile, cert); err != nil {
		return nil, err
	}
	r.next = &next
	return r.next, nil
}

// promote makes the next identity the present one. The present key becomes an old one.
func (r *keyring) promote(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldFile := filepath.Join(r.dir, fmt.Sprintf("node.old-%x.key", r.present.cert.SerialNumber))
	if err := writeKey(r.dir, filepath.Base(oldFile), r.present.key); err != nil {
		return err
	}
	if err := renameSynced(r.dir, nextKeyFile, keyFile); err != nil {
		return err
	}
	if err := renameSynced(r.dir, nextCertFile, certFile); err != nil {
		return err
	}
	r.old = append(r.old, oldKey{key: r.present.key, file: oldFile, since: now})
	r.present, r.next = r.next, nil
	return nil
}

// dropNext forgets a renewal that came to nothing.
func (r *keyring) dropNext() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = nil
	if err := os.Remove(filepath.Join(r.dir, nextCertFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the renewal: %w", err)
	}
	wipeFile(filepath.Join(r.dir, nextKeyFile))
	return nil
}

// dropOld forgets the old keys that have been such for at least grace and that nobody needs.
func (r *keyring) dropOld(now time.Time, grace time.Duration, needed func(*ecdsa.PrivateKey) bool) {
	r.mu.Lock()
	var due []oldKey
	for _, o := range r.old {
		if now.Sub(o.since) >= grace {
			due = append(due, o)
		}
	}
	r.mu.Unlock()
	for _, o := range due {
		if needed(o.key) { // asks for our keys
			continue
		}
		r.mu.Lock()
		r.old = slices.DeleteFunc(r.old, func(other oldKey) bool { return other.file == o.file })
		r.mu.Unlock()
		wipeFile(o.file)
	}
}

// hasOld says whether there are old keys.
func (r *keyring) hasOld() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.old) > 0
}

// forget removes every key and certificate: the cloud does not want this node. why is kept for whoever starts it next.
func (r *keyring) forget(why string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(writeSynced(r.dir, removedFile, []byte(why+"\n")),
		os.Remove(filepath.Join(r.dir, certFile))) // first: it decides whether the node is enrolled
	r.next = nil
	clearRenewals(r.dir)
	wipeFile(filepath.Join(r.dir, keyFile))
	if err != nil {
		return fmt.Errorf("forget the node's identity: %w", err)
	}
	return nil
}

// clearRenewals removes what is left of renewals in a folder.
func clearRenewals(dir string) {
	_ = os.Remove(filepath.Join(dir, nextCertFile))
	wipeFile(filepath.Join(dir, nextKeyFile))
	files, _ := filepath.Glob(filepath.Join(dir, oldKeyFiles)) // the pattern is well-formed
	for _, file := range files {
		wipeFile(file)
	}
}
