package leakscan

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// window is how many bytes of a secret in a row count as found.
const window = 24

// Key is a private key to look for. Name is what findings call it.
type Key struct {
	Name  string
	forms []form
}

// form is one spelling of a piece of a key. least is how many of its bytes in a row stand for window bytes of the key.
type form struct {
	what  string
	text  []byte
	least int
}

// Wipe overwrites the key.
func (k Key) Wipe() {
	for _, f := range k.forms {
		clear(f.text)
	}
}

// NewKey reads a private key in PEM (PKCS#8, PKCS#1, SEC 1).
func NewKey(name string, text []byte) (Key, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := parse(block.Bytes)
		clear(block.Bytes)
		if err != nil {
			return Key{}, fmt.Errorf("key %s: %w", name, err)
		}
		return FromKey(name, key)
	}
	return Key{}, fmt.Errorf("key %s: no private key in PEM", name)
}

// parse reads DER of any of the three kinds. The parsers' own errors may quote what they read.
func parse(der []byte) (crypto.PrivateKey, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, errors.New("neither PKCS#8 nor PKCS#1 nor SEC 1")
}

// FromKey is NewKey for a key in memory.
func FromKey(name string, key crypto.PrivateKey) (Key, error) {
	var secrets [][]byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
		secrets = append(secrets, k.D.Bytes(), k.Precomputed.Dp.Bytes(), k.Precomputed.Dq.Bytes(), k.Precomputed.Qinv.Bytes())
		for _, prime := range k.Primes {
			secrets = append(secrets, prime.Bytes())
		}
	case *ecdsa.PrivateKey:
		scalar, err := k.Bytes()
		if err != nil {
			return Key{}, fmt.Errorf("key %s: %w", name, err)
		}
		secrets = append(secrets, scalar)
	case ed25519.PrivateKey:
		secrets = append(secrets, k.Seed())
	default:
		return Key{}, fmt.Errorf("key %s: a %T is not known", name, key)
	}
	out := FromSecret(name, secrets...)
	out.addPEMs(key, secrets)
	return out, nil
}

// FromSecret looks for bytes that are no key pair: a symmetric key, a password. Each needs window bytes or more.
func FromSecret(name string, secrets ...[]byte) Key {
	k := Key{Name: name}
	for _, s := range secrets {
		k.add("raw", s, window)
		reversed := bytes.Clone(s)
		for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
			reversed[i], reversed[j] = reversed[j], reversed[i]
		}
		k.add("raw, least byte first", reversed, window)
		k.add("hexadecimal", []byte(hex.EncodeToString(s)), 2*window)
		k.add("HEXADECIMAL", []byte(strings.ToUpper(hex.EncodeToString(s))), 2*window)
		k.addBase64("base64", s, window)
	}
	return k
}

func (k *Key) add(what string, text []byte, least int) {
	// A secret that is shorter than its window is found as a whole.
	if least = min(least, len(text)); least >= seed {
		k.forms = append(k.forms, form{what, text, least})
	}
}

// addBase64 adds the base64 of text, whatever precedes and follows it: its first characters depend on its distance
// from the beginning of what was encoded, modulo 3.
func (k *Key) addBase64(what string, text []byte, least int) {
	for shift := range 3 {
		padded := append(make([]byte, shift), text...)
		skip := (shift*8 + 5) / 6
		end := len(padded) * 8 / 6
		// The first and last characters of a window may hold bits of its neighbours.
		chars := min((least*8-10)/6, end-skip)
		std := base64.RawStdEncoding.EncodeToString(padded)[skip:end]
		k.add(fmt.Sprintf("%s, alignment %d", what, shift), []byte(std), chars)
		if safe := base64.RawURLEncoding.EncodeToString(padded)[skip:end]; safe != std {
			k.add(fmt.Sprintf("%s for URLs, alignment %d", what, shift), []byte(safe), chars)
		}
		clear(padded)
	}
}

// addPEMs adds the parts of the key's PEM texts that spell its secrets, line ends included, also as they stand in
// JSON, in a form and in base64 once more.
func (k *Key) addPEMs(key crypto.PrivateKey, secrets [][]byte) {
	ders := map[string][]byte{}
	if der, err := x509.MarshalPKCS8PrivateKey(key); err == nil {
		ders["PRIVATE KEY"] = der
	}
	switch own := key.(type) {
	case *rsa.PrivateKey:
		ders["RSA PRIVATE KEY"] = x509.MarshalPKCS1PrivateKey(own)
	case *ecdsa.PrivateKey:
		if der, err := x509.MarshalECPrivateKey(own); err == nil {
			ders["EC PRIVATE KEY"] = der
		}
	}
	for kind, der := range ders {
		for _, s := range secrets {
			k.addSpan(kind, der, s)
		}
		clear(der)
	}
}

// perLine is how many characters of base64 a line of PEM has.
const perLine = 64

func (k *Key) addSpan(kind string, der, secret []byte) {
	at := bytes.Index(der, secret)
	if at < 0 {
		return
	}
	first, last := (at*8+5)/6, (at+len(secret))*8/6 // characters that hold bits of the secret alone
	body := base64.StdEncoding.EncodeToString(der)
	var span []byte
	for i := first; i < last; i++ {
		if i > first && i%perLine == 0 {
			span = append(span, '\n')
		}
		span = append(span, body[i])
	}
	what := "PEM " + kind
	chars := (window*8 - 10) / 6
	k.add(what, span, chars+1)
	k.addBase64("base64 of "+what, span, chars+1)
	for name, newline := range map[string]string{"in JSON": `\n`, "with CRLF": "\r\n"} {
		k.add(what+" "+name, bytes.ReplaceAll(span, []byte("\n"), []byte(newline)), chars+len(newline))
	}
	k.add(what+" in a form", []byte(url.QueryEscape(string(span))), chars+len("%0A"))
}
