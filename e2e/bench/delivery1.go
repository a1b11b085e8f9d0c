package main

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// The names of profile 1's numbers.
const (
	nameDelivery1Rate = "delivery.profile1.rate"
	nameDelivery1P99  = "delivery.profile1.p99"
)

// rsaLimit is the cryptography that a profile 1 delivery cannot do without: two signatures verified (LBCERT's by the
// IAM identity, the request's by LBPK), USERPK opened and wrapped, the answer signed.
type rsaLimit struct {
	iam, lb *rsa.PrivateKey
	byIAM   []byte
	byLB    []byte
	digest  [sha256.Size]byte
	opens   *keydelivery.Authority
	sealed  string
}

func newRSALimit(userKey []byte) (*rsaLimit, error) {
	l := &rsaLimit{digest: sha256.Sum256([]byte("limit"))}
	var err error
	if l.iam, err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		return nil, fmt.Errorf("make limit's keys: %w", err)
	}
	if l.lb, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, fmt.Errorf("make limit's keys: %w", err)
	}
	for key, into := range map[*rsa.PrivateKey]*[]byte{l.iam: &l.byIAM, l.lb: &l.byLB} {
		if *into, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, l.digest[:]); err != nil {
			return nil, fmt.Errorf("make limit's signatures: %w", err)
		}
	}
	if l.opens, err = keydelivery.NewAuthority(time.Now()); err != nil {
		return nil, err
	}
	l.sealed, err = l.opens.SealAtRest("limit", userKey)
	return l, err
}

func (l *rsaLimit) once() error {
	if err := errors.Join(rsa.VerifyPKCS1v15(&l.iam.PublicKey, crypto.SHA256, l.digest[:], l.byIAM),
		rsa.VerifyPKCS1v15(&l.lb.PublicKey, crypto.SHA256, l.digest[:], l.byLB)); err != nil {
		return err
	}
	text, err := l.opens.OpenAtRest("limit", l.sealed)
	if err != nil {
		return err
	}
	defer text.Wipe()
	key, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	_, _ = rand.Read(key) // never fails
	_, _ = rand.Read(iv)
	//nolint:staticcheck // what profile 1 is made of
	if _, err := rsa.EncryptPKCS1v15(rand.Reader, &l.lb.PublicKey, key); err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	sealed := make([]byte, len(text)/aes.BlockSize*aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, text[:len(sealed)])
	_, err = rsa.SignPKCS1v15(nil, l.iam, crypto.SHA256, l.digest[:])
	return err
}

// benchDelivery1 measures DownloadServerCertificate in profile 1 as benchDelivery does in profile 2.
func benchDelivery1(ctx context.Context, s *suite) error {
	return measureDelivery(ctx, s, deliveryBench{
		profile: keydelivery.Profile1, rate: nameDelivery1Rate, p99: nameDelivery1P99,
		limit: func(userKey []byte) (func() error, error) {
			limit, err := newRSALimit(userKey)
			if err != nil {
				return nil, err
			}
			return limit.once, nil
		},
	})
}
