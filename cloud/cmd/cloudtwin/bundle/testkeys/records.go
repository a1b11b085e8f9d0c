package testkeys

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Replacer replaces the keys in one store's records. It is of one goroutine.
type Replacer struct {
	keys         *maker
	root         []byte
	authorities  authorities
	iamCerts     map[string]crypto.PublicKey // by serial number; the empty one is that which seals now
	fingerprints map[string]string           // of certificates, old to new, hexadecimal
	counts       map[string]int
}

// New makes a Replacer.
func New(seed Seed) *Replacer {
	return &Replacer{keys: &maker{seed: seed, made: map[string]crypto.Signer{}}, root: seed.RootKey(),
		authorities: authorities{}, iamCerts: map[string]crypto.PublicKey{},
		fingerprints: map[string]string{}, counts: map[string]int{}}
}

// Notes tell what was replaced and what was left out, how often, sorted.
func (r *Replacer) Notes() (notes []string) {
	for _, what := range slices.Sorted(maps.Keys(r.counts)) {
		notes = append(notes, fmt.Sprintf("%s: %d", what, r.counts[what]))
	}
	return notes
}

// Learn takes a record's authorities to know who signed what. It is for the records of the cloud's own identities,
// which are to be learned before others are replaced; iamCert says that the first certificate seals what is at rest.
func (r *Replacer) Learn(value []byte, iamCert bool) error {
	record, err := decode(value)
	if err != nil {
		return err
	}
	object, ok := record.(map[string]any)
	if !ok {
		return errors.New("learn a record: want a JSON object")
	}
	if der := firstCertificate(object); iamCert && der != nil {
		if r.iamCerts[""], err = publicKey(der); err != nil {
			return err
		}
	}
	if iamCert {
		r.learnIAMCerts(record)
	}
	r.learn(record, r.authorities)
	_, err = r.Replace(value) // so that fingerprints are known
	clear(r.counts)
	return err
}

// learnIAMCerts takes the current one and the former ones: what is at rest may be sealed to any of them.
func (r *Replacer) learnIAMCerts(value any) {
	switch v := value.(type) {
	case map[string]any:
		for _, inner := range v {
			r.learnIAMCerts(inner)
		}
	case []any:
		for _, inner := range v {
			r.learnIAMCerts(inner)
		}
	case string:
		for _, der := range certificates(v) {
			if cert, err := x509.ParseCertificate(der); err == nil {
				r.iamCerts[cert.SerialNumber.Text(16)] = cert.PublicKey
			}
		}
	}
}

// Replace returns a record, a JSON value, with test keys in the place of its own. What nothing can take the place of is
// left out.
func (r *Replacer) Replace(value []byte) ([]byte, error) {
	record, err := decode(value)
	if err != nil {
		return nil, err
	}
	near := authorities{}
	r.learn(record, near)
	out, err := r.walk("", record, near, beside{})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(out)
	return bytes.TrimRight(text.Bytes(), "\n"), err
}

func decode(value []byte) (record any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil {
		return nil, fmt.Errorf("read a record: %w", err)
	}
	return record, nil
}

// learn looks for certificates of authorities anywhere in a value.
func (r *Replacer) learn(value any, into authorities) {
	switch v := value.(type) {
	case map[string]any:
		for _, inner := range v {
			r.learn(inner, into)
		}
	case []any:
		for _, inner := range v {
			r.learn(inner, into)
		}
	case string:
		for _, der := range certificates(v) {
			if cert, err := x509.ParseCertificate(der); err == nil {
				into.learn(cert)
			}
		}
	}
}

// certificates are those in a text, in DER: PEM or the base64 that JSON makes of bytes.
func certificates(text string) (list [][]byte) {
	rest := []byte(text)
	if !strings.Contains(text, "-----BEGIN") {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(der) < 64 {
			return nil
		}
		if rest = der; !bytes.Contains(der, []byte("-----BEGIN")) {
			if _, err := x509.ParseCertificate(der); err != nil {
				return nil
			}
			return [][]byte{der}
		}
	}
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			list = append(list, block.Bytes)
		}
	}
	return list
}

// firstCertificate is the first one of an object's own fields, in the order in which a record's fields matter: the
// certificate itself before its chain.
func firstCertificate(object map[string]any) []byte {
	for _, name := range slices.SortedFunc(maps.Keys(object), func(a, b string) int {
		return cmp.Or(strings.Compare(chainLast(a), chainLast(b)), strings.Compare(a, b))
	}) {
		if text, ok := object[name].(string); ok {
			if list := certificates(text); len(list) > 0 {
				return list[0]
			}
		}
	}
	return nil
}

func chainLast(name string) string {
	if strings.Contains(strings.ToLower(name), "chain") {
		return "1"
	}
	return "0"
}

func publicKey(der []byte) (crypto.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	return cert.PublicKey, nil
}

// walk replaces what is below a value. A nil result with errDropped means that the value is left out.
func (r *Replacer) walk(name string, value any, near authorities, b beside) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		sealedTo, _ := v["SealedTo"].(string)
		b = beside{firstCertificate(v), sealedTo}
		for _, field := range slices.Sorted(maps.Keys(v)) {
			inner, err := r.walk(field, v[field], near, b)
			if slices.Contains(dropped, field) || errors.Is(err, errDropped) {
				r.counts["left out: "+field]++
				delete(v, field)
				continue
			}
			if err != nil {
				return nil, err
			}
			v[field] = inner
		}
		return v, nil
	case []any:
		for i := range v {
			inner, err := r.walk(name, v[i], near, b)
			if err != nil {
				return nil, err
			}
			v[i] = inner
		}
		return v, nil
	case string:
		return r.text(name, v, near, b)
	}
	return value, nil
}

// secretNames are parts of the names of fields whose text is a secret unless it is sealed.
var secretNames = []string{"secret", "password", "privatekey", "wrapped", "seed"}

// dropped are fields that are of use to nobody without a key that is not in the store.
var dropped = []string{"Credential"}

func (r *Replacer) text(name, text string, near authorities, b beside) (any, error) {
	switch {
	case sealedText.MatchString(text):
		out, err := r.seal(text, b)
		if err == nil {
			r.counts["sealed texts"]++
		}
		return out, err
	case strings.Contains(text, "-----BEGIN"):
		return r.pem(text, near)
	case r.fingerprints[text] != "":
		return r.fingerprints[text], nil
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) >= 64 {
		if sealedText.Match(raw) {
			out, err := r.seal(string(raw), b)
			return base64.StdEncoding.EncodeToString([]byte(out)), err
		}
		if bytes.Contains(raw, []byte("-----BEGIN")) {
			out, err := r.pem(string(raw), near)
			return base64.StdEncoding.EncodeToString([]byte(out)), err
		}
		if cert, err := x509.ParseCertificate(raw); err == nil {
			r.counts["certificates"]++
			der, err := r.reissue(cert, near)
			return base64.StdEncoding.EncodeToString(der), err
		}
	}
	lower := strings.ToLower(name)
	if text != "" && slices.ContainsFunc(secretNames, func(part string) bool { return strings.Contains(lower, part) }) {
		r.counts["secrets in clear"]++
		return r.keys.seed.Text(name, len(text)), nil
	}
	return text, nil
}

// pem replaces the blocks of a PEM text.
func (r *Replacer) pem(text string, near authorities) (string, error) {
	var out strings.Builder
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return "", fmt.Errorf("read a certificate: %w", err)
			}
			der, err := r.reissue(cert, near)
			if err != nil {
				return "", err
			}
			r.counts["certificates"]++
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}))
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key, err := parseKey(block.Bytes)
			if err != nil {
				return "", errDropped
			}
			own, err := r.keys.standIn(key.Public())
			if err != nil {
				return "", err
			}
			kind, der, err := encode(own)
			if err != nil {
				return "", err
			}
			r.counts["private keys in clear"]++
			out.Write(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		default:
			out.Write(pem.EncodeToMemory(block)) // a public key
		}
	}
	return out.String(), nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	var key any
	var err error
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
		func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
	} {
		if key, err = parse(der); err == nil {
			break
		}
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return signer, nil
	}
	return nil, errors.New("read a private key: neither PKCS#8 nor PKCS#1 nor SEC 1")
}
