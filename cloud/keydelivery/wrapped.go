package keydelivery

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"strings"
)

// wrap seals a key as profile 1 has it: base64 of a 32-byte AES key under RSA PKCS#1 v1.5, a newline, base64 of an IV
// and AES-256-CBC with PKCS#7 padding over the base64 of the key's PEM. The original guest reads nothing else. Nothing
// in it authenticates: the answer's signature does.
func wrap(to *rsa.PublicKey, plaintext Secret) (string, error) {
	sessionKey, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	defer clear(sessionKey)
	_, _ = rand.Read(sessionKey) // does not fail
	_, _ = rand.Read(iv)
	wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, to, sessionKey) //nolint:staticcheck // what the protocol says
	if err != nil {
		return "", fmt.Errorf("wrap key: %w", err)
	}
	block, err := aes.NewCipher(sessionKey)
	if err != nil {
		return "", fmt.Errorf("wrap key: %w", err)
	}
	text := make([]byte, base64.StdEncoding.EncodedLen(len(plaintext)), len(plaintext)*2+2*aes.BlockSize)
	defer func() { clear(text) }()
	base64.StdEncoding.Encode(text, plaintext)
	padding := aes.BlockSize - len(text)%aes.BlockSize
	text = append(text, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	b64 := base64.StdEncoding.EncodeToString
	return b64(wrapped) + "\n" + b64(append(iv, text...)), nil
}

// unwrap opens what wrap made. There is one error, and a wrong RSA padding is found no sooner than a wrong key.
func unwrap(own *rsa.PrivateKey, message string) (Secret, error) {
	if len(message) > maxField {
		return nil, errUnseal
	}
	first, second, _ := strings.Cut(message, "\n")
	wrapped, err1 := decodeBase64(first)
	sealed, err2 := decodeBase64(second)
	if err1 != nil || err2 != nil || len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errUnseal
	}
	sessionKey := make([]byte, 32)
	defer clear(sessionKey)
	_, _ = rand.Read(sessionKey)
	//nolint:staticcheck // what the protocol says; a padding that is wrong leaves the random key
	if err := rsa.DecryptPKCS1v15SessionKey(rand.Reader, own, wrapped, sessionKey); err != nil {
		return nil, errUnseal
	}
	block, err := aes.NewCipher(sessionKey)
	if err != nil {
		return nil, errUnseal
	}
	text := sealed[aes.BlockSize:]
	cipher.NewCBCDecrypter(block, sealed[:aes.BlockSize]).CryptBlocks(text, text)
	defer clear(text)
	padding := int(text[len(text)-1])
	if padding == 0 || padding > aes.BlockSize ||
		!bytes.Equal(text[len(text)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errUnseal
	}
	text = text[:len(text)-padding]
	plaintext := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(plaintext, text)
	if err != nil {
		clear(plaintext)
		return nil, errUnseal
	}
	return plaintext[:n], nil
}
