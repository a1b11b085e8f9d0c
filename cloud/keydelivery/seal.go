package keydelivery

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// errUnseal is the one answer to anything that cannot be opened: which step went wrong tells an attacker something
// and a user nothing.
var errUnseal = errors.New("sealed message cannot be opened")

// binding is what a sealed message is for. It stands in the JWE's protected header, so that a message for one
// purpose, node, instance, certificate or request opens for no other.
type binding struct {
	purpose, node, instance, arn, nonce string
}

func (b binding) header() map[jose.HeaderKey]any {
	h := map[jose.HeaderKey]any{"purpose": b.purpose}
	for key, value := range map[jose.HeaderKey]string{
		"node": b.node, "instance": b.instance, "arn": b.arn, "nonce": b.nonce,
	} {
		if value != "" {
			h[key] = value
		}
	}
	return h
}

func bindingOf(h jose.Header) binding {
	text := func(key jose.HeaderKey) string { s, _ := h.ExtraHeaders[key].(string); return s }
	return binding{
		purpose: text("purpose"), node: text("node"), instance: text("instance"), arn: text("arn"), nonce: h.Nonce,
	}
}

// seal encrypts plaintext to a P-256 key as compact JWE (ECDH-ES+A256KW, A256GCM).
func seal(to *ecdsa.PublicKey, b binding, plaintext Secret) (string, error) {
	if to == nil || to.Curve != elliptic.P256() {
		return "", errors.New("seal: recipient's key is not P-256")
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM,
		jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: to},
		&jose.EncrypterOptions{ExtraHeaders: b.header()})
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", b.purpose, err)
	}
	object, err := encrypter.Encrypt(plaintext)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", b.purpose, err)
	}
	return object.CompactSerialize()
}

// open decrypts what seal made for exactly this binding.
func open(key *ecdsa.PrivateKey, want binding, message string) (Secret, error) {
	if len(message) > maxField {
		return nil, errUnseal
	}
	object, err := jose.ParseEncryptedCompact(message,
		[]jose.KeyAlgorithm{jose.ECDH_ES_A256KW}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errUnseal
	}
	if bindingOf(object.Header) != want {
		return nil, errUnseal
	}
	plaintext, err := object.Decrypt(key)
	if err != nil {
		return nil, errUnseal
	}
	return plaintext, nil
}

var errNoSealing = errors.New("profile 1's IAM identity seals nothing at rest")

const purposeAtRest = "at-rest:"

// SealAtRest seals a secret to IAMCERT for keeping in the store. It opens under the same purpose only. Profile 2's
// identity does it for both profiles: an RSA one is not for sealing.
func (a *Authority) SealAtRest(purpose string, plaintext Secret) (string, error) {
	to, ok := a.key.Public().(*ecdsa.PublicKey)
	if !ok {
		return "", errNoSealing
	}
	return seal(to, binding{purpose: purposeAtRest + purpose}, plaintext)
}

// OpenAtRest opens what SealAtRest made. The caller wipes the secret after use.
func (a *Authority) OpenAtRest(purpose, sealed string) (Secret, error) {
	key, ok := a.key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errNoSealing
	}
	return open(key, binding{purpose: purposeAtRest + purpose}, sealed)
}
