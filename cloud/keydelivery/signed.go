package keydelivery

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
)

// maxSigned bounds the signatures that are remembered; some hundred bytes each.
const maxSigned = 10_000

// signedCache remembers which LBCERTs an IAMCERT was found to have signed: a guest asks again for each listener and
// each change, always with the same LBCERT. Only what cannot change is remembered, by both certificates' every byte:
// whether the IAMCERT is accepted, and either valid or revoked, is asked each time.
type signedCache struct {
	mu    sync.RWMutex
	known map[[sha256.Size]byte]struct{}
}

// by is nil when issuer signed cert and may sign certificates.
func (c *signedCache) by(cert, issuer *x509.Certificate) error {
	of, by := sha256.Sum256(cert.Raw), sha256.Sum256(issuer.Raw)
	pair := sha256.Sum256(append(of[:], by[:]...))
	c.mu.RLock()
	_, known := c.known[pair]
	c.mu.RUnlock()
	if known {
		return nil
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxSigned {
		c.known = make(map[[sha256.Size]byte]struct{})
	}
	c.known[pair] = struct{}{}
	return nil
}
