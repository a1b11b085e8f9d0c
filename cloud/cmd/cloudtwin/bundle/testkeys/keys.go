// Package testkeys puts test keys in the place of a cloud's own in its records, so that the records can be carried
// away: a key of the same algorithm and size for each, certificates with the same subject, names and life, and texts
// that are sealed to those. With the same seed a key always has the same stand-in. A cloud can start on the result, and
// nothing of it opens anything that the original's keys opened.
//
// keys.go makes keys, certificates.go issues certificates again, sealed.go seals anew, records.go walks through
// records.
package testkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
)

// Seed is what all test keys follow from. It is no secret: whoever has a bundle has it.
type Seed [32]byte

// SeedFrom makes a seed from what is public of a cloud.
func SeedFrom(public []byte) Seed {
	return sha256.Sum256(append([]byte("cloudtwin test keys\x00"), public...))
}

// stream is random bytes for one use.
func (s Seed) stream(use string, of []byte) *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256(append([]byte(string(s[:])+use+"\x00"), of...)))
}

// Bytes are n bytes for one use.
func (s Seed) Bytes(use string, n int) []byte {
	out := make([]byte, n)
	_, _ = s.stream(use, nil).Read(out)
	return out
}

// letters are those of an access key's secret.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// Text is a text of n letters and digits for one use.
func (s Seed) Text(use string, n int) string {
	out := s.Bytes(use, n)
	for i := range out {
		out[i] = letters[int(out[i])%len(letters)]
	}
	return string(out)
}

// RootKey is the root key that seals the records' secrets.
func (s Seed) RootKey() []byte { return s.Bytes("root key", 32) }

// differentRSA is how many different RSA keys of a size there are: each takes a good part of a second to make. Two keys
// of a cloud may thus have the same stand-in.
const differentRSA = 8

// maker makes keys and keeps those that it made.
type maker struct {
	seed Seed
	mu   sync.Mutex
	made map[string]crypto.Signer
}

// standIn is the test key in the place of that whose public half it is.
func (m *maker) standIn(public crypto.PublicKey) (crypto.Signer, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("test key for a %T: %w", public, err)
	}
	sum := sha256.Sum256(spki)
	of := sum[:]
	switch key := public.(type) {
	case *rsa.PublicKey:
		return m.keep(fmt.Sprintf("rsa-%d-%d", key.N.BitLen(), of[0]%differentRSA), func(name string) (crypto.Signer, error) {
			return newRSA(m.seed.stream(name, nil), key.N.BitLen())
		})
	case *ecdsa.PublicKey:
		return m.keep(fmt.Sprintf("ec-%x", of), func(name string) (crypto.Signer, error) {
			return newEC(m.seed.stream(name, nil), key.Curve)
		})
	case ed25519.PublicKey:
		return ed25519.NewKeyFromSeed(m.seed.Bytes(fmt.Sprintf("ed-%x", of), ed25519.SeedSize)), nil
	}
	return nil, fmt.Errorf("no test key of the kind %T is known", public)
}

func (m *maker) keep(name string, create func(name string) (crypto.Signer, error)) (crypto.Signer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key := m.made[name]; key != nil {
		return key, nil
	}
	key, err := create(name)
	if err == nil {
		m.made[name] = key
	}
	return key, err
}

// newEC takes a scalar below the curve's order.
func newEC(from *rand.ChaCha8, curve elliptic.Curve) (*ecdsa.PrivateKey, error) {
	scalar := make([]byte, (curve.Params().BitSize+7)/8)
	for range 64 {
		_, _ = from.Read(scalar)
		scalar[0] >>= uint(len(scalar)*8 - curve.Params().BitSize)
		if key, err := ecdsa.ParseRawPrivateKey(curve, scalar); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no test key on %s was found", curve.Params().Name)
}

// The sizes of RSA keys that are made, in bits.
const leastRSA, mostRSA = 1024, 4096

// newRSA makes a key by hand: crypto/rsa makes none that follows from a seed.
func newRSA(from *rand.ChaCha8, bits int) (*rsa.PrivateKey, error) {
	if bits < leastRSA || bits > mostRSA || bits%2 != 0 {
		return nil, fmt.Errorf("test key of RSA with %d bits: want an even number from %d to %d", bits, leastRSA, mostRSA)
	}
	const exponent = 65537
	e, one := big.NewInt(exponent), big.NewInt(1)
	prime := func() *big.Int {
		text := make([]byte, bits/16)
		for {
			_, _ = from.Read(text)
			text[0] |= 0xC0 // so that the product of two has all its bits
			text[len(text)-1] |= 1
			p := new(big.Int).SetBytes(text)
			rest := new(big.Int).Sub(p, one)
			if p.ProbablyPrime(20) && new(big.Int).GCD(nil, nil, e, rest).Cmp(one) == 0 {
				return p
			}
		}
	}
	p, q := prime(), prime()
	for p.Cmp(q) == 0 {
		q = prime()
	}
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent},
		D:         new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("test key of RSA: %w", err)
	}
	return key, nil
}
