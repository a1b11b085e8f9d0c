package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// cryptoLimit is the cryptography of a profile 2 delivery, step by step as the protocol has it, and nothing else: no
// message is parsed or written, nothing is looked up. The cloud spares one step of a guest that asks again: it
// remembers that IAMCERT signed its LBCERT.
type cryptoLimit struct {
	iamKey, lbKey   *ecdsa.PrivateKey
	iamECDH, lbECDH *ecdh.PrivateKey
	certificate     [sha256.Size]byte // a digest, and IAMPK's signature over it
	certificateSig  []byte
	request         []byte // what LBPK signs, and its signature
	requestSig      []byte
	atRest          sealedMessage
	answer          []byte // about as long as what IAMPK signs
}

// sealedMessage is what remains of a JWE (ECDH-ES+A256KW, A256GCM) without its encoding.
type sealedMessage struct {
	ephemeral  *ecdh.PublicKey
	wrapped    []byte
	nonce      []byte
	ciphertext []byte
}

// answerSize is roughly what an answer's signature covers, in bytes: two P-256 certificates and the sealed key.
const answerSize = 3 << 10

// newCryptoLimit prepares messages that carry userKey.
func newCryptoLimit(userKey []byte) (*cryptoLimit, error) {
	l := &cryptoLimit{request: make([]byte, 160), answer: make([]byte, answerSize)}
	for _, k := range []struct {
		sign  **ecdsa.PrivateKey
		agree **ecdh.PrivateKey
	}{{&l.iamKey, &l.iamECDH}, {&l.lbKey, &l.lbECDH}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		*k.sign = key
		if *k.agree, err = key.ECDH(); err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
	}
	var err error
	if l.certificateSig, err = ecdsa.SignASN1(rand.Reader, l.iamKey, l.certificate[:]); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	digest := sha256.Sum256(l.request)
	if l.requestSig, err = ecdsa.SignASN1(rand.Reader, l.lbKey, digest[:]); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	l.atRest, err = seal(l.iamECDH.PublicKey(), userKey)
	return l, err
}

var errCrypto = errors.New("cryptography does not agree with itself")

// once does one delivery's share.
func (l *cryptoLimit) once() error {
	if !ecdsa.VerifyASN1(&l.iamKey.PublicKey, l.certificate[:], l.certificateSig) {
		return errCrypto
	}
	digest := sha256.Sum256(l.request)
	if !ecdsa.VerifyASN1(&l.lbKey.PublicKey, digest[:], l.requestSig) {
		return errCrypto
	}
	userKey, err := l.atRest.open(l.iamECDH)
	if err != nil {
		return err
	}
	if _, err := seal(l.lbECDH.PublicKey(), userKey); err != nil {
		return err
	}
	digest = sha256.Sum256(l.answer)
	_, err = ecdsa.SignASN1(rand.Reader, l.iamKey, digest[:])
	return err
}

// seal makes an ephemeral key, agrees on a key with it, wraps a content key in that, and encrypts with the content
// key.
func seal(to *ecdh.PublicKey, plaintext []byte) (sealedMessage, error) {
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return sealedMessage{}, fmt.Errorf("make ephemeral key: %w", err)
	}
	wrapper, err := agree(ephemeral, to)
	if err != nil {
		return sealedMessage{}, err
	}
	contentKey := make([]byte, 32)
	_, _ = rand.Read(contentKey) // crypto/rand never returns an error
	m := sealedMessage{ephemeral: ephemeral.PublicKey(), nonce: make([]byte, 12)}
	_, _ = rand.Read(m.nonce)
	if m.wrapped, err = josecipher.KeyWrap(wrapper, contentKey); err != nil {
		return sealedMessage{}, fmt.Errorf("wrap key: %w", err)
	}
	aead, err := newGCM(contentKey)
	if err != nil {
		return sealedMessage{}, err
	}
	m.ciphertext = aead.Seal(nil, m.nonce, plaintext, nil)
	return m, nil
}

func (m sealedMessage) open(key *ecdh.PrivateKey) ([]byte, error) {
	wrapper, err := agree(key, m.ephemeral)
	if err != nil {
		return nil, err
	}
	contentKey, err := josecipher.KeyUnwrap(wrapper, m.wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap key: %w", err)
	}
	aead, err := newGCM(contentKey)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, m.nonce, m.ciphertext, nil)
}

// agree is ECDH with one round of SHA-256 as key derivation.
func agree(key *ecdh.PrivateKey, with *ecdh.PublicKey) (cipher.Block, error) {
	secret, err := key.ECDH(with)
	if err != nil {
		return nil, fmt.Errorf("agree on key: %w", err)
	}
	derived := sha256.Sum256(secret)
	return aes.NewCipher(derived[:])
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
