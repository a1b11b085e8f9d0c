package sts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

var fuzzed = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// providerCert is a certificate of an identity provider whose key nobody has any more.
func providerCert(f *testing.F) []byte {
	f.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"},
		NotBefore: fuzzed.Add(-time.Hour), NotAfter: fuzzed.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	return der
}

// FuzzAssertion gives the reader of SAML assertions what a caller without credentials may send. Nobody has the
// provider's key, so nothing may pass, and each refusal is the caller's fault.
func FuzzAssertion(f *testing.F) {
	cert, err := x509.ParseCertificate(providerCert(f))
	if err != nil {
		f.Fatal(err)
	}
	m := &iam.SAMLMetadata{EntityID: "https://idp.test/saml", Certificates: []*x509.Certificate{cert}}
	const open = `<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol"><p:Status><p:StatusCode ` +
		`Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></p:Status>`
	const assertion = `<a:Assertion xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion" ID="_1"><a:Issuer>` +
		`https://idp.test/saml</a:Issuer></a:Assertion>`
	const signature = `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>` +
		`<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod ` +
		`Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI="#_1"/></ds:SignedInfo>` +
		`<ds:SignatureValue>AAAA</ds:SignatureValue></ds:Signature>`
	for _, text := range []string{
		"", "<", open + "</p:Response>", open + assertion + "</p:Response>", open + assertion + assertion + "</p:Response>",
		open + strings.Replace(assertion, "</a:Assertion>", signature+"</a:Assertion>", 1) + "</p:Response>",
		strings.Replace(open, "<p:Status>", signature+"<p:Status>", 1) + assertion + "</p:Response>",
		`<!DOCTYPE x [<!ENTITY e "` + strings.Repeat("e", 99) + `">]>` + open + "&e;</p:Response>",
		open + strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500) + "</p:Response>",
		`<?xml version="1.0" encoding="UTF-16"?>` + open + "</p:Response>",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bounded.Memory(t, len(text), func() {
			a, err := openAssertion(base64.StdEncoding.EncodeToString([]byte(text)), m, fuzzed)
			if err == nil {
				t.Errorf("an assertion that nobody signed: %+v", a)
			}
			fromCaller(t, err)
		})
	})
}

// FuzzMetadata gives the reader of SAML metadata what an administrator may upload.
func FuzzMetadata(f *testing.F) {
	const open = `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="e">`
	key := func(text string) string {
		return open + `<IDPSSODescriptor><KeyDescriptor use="signing"><KeyInfo><X509Data><X509Certificate>` + text +
			`</X509Certificate></X509Data></KeyInfo></KeyDescriptor></IDPSSODescriptor></EntityDescriptor>`
	}
	for _, text := range []string{
		"", open, key(base64.StdEncoding.EncodeToString(providerCert(f))), key("AAAA"), key("=="), key("&#0;"),
		strings.Replace(key(""), `entityID="e"`, `validUntil="never"`, 1), open + "<!--" + strings.Repeat("-", 99) + "-->",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bounded.Memory(t, len(text), func() {
			m, err := iam.ParseSAMLMetadata(text)
			if err == nil && (m.EntityID == "" || len(m.Certificates) == 0) {
				t.Errorf("metadata without a name or a certificate: %+v", m)
			}
		})
	})
}

// FuzzWebToken gives the reader of ID tokens what a caller without credentials may send, and a key set that a provider
// may answer. What is verified is verified by one of its keys.
func FuzzWebToken(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		f.Fatal(err)
	}
	good, err := jwt.Signed(signer).Claims(map[string]any{"iss": "https://idp.test", "sub": "ann", "aud": "app",
		"exp": fuzzed.Add(time.Hour).Unix(), "iat": fuzzed.Unix()}).Serialize()
	if err != nil {
		f.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, string(set))
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.", string(set))
	f.Add(good[:len(good)-4]+"AAAA", `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`)
	f.Add("..", `{"keys":[{"kty":"RSA","n":"AQ","e":"AAAAAAAAAAAA"}]}`)
	f.Add("a.b.c.d.e", `{"keys":[{"kty":"oct","k":"AAAA"}]}`)
	algorithms := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384,
		jose.ES512, jose.PS256}
	f.Fuzz(func(t *testing.T, text, document string) {
		bounded.Memory(t, len(text)+len(document), func() {
			var keys jose.JSONWebKeySet
			token, err := jwt.ParseSigned(text, algorithms)
			if err != nil || json.Unmarshal([]byte(document), &keys) != nil || len(token.Headers) != 1 {
				return
			}
			for _, k := range pick(keys, token.Headers[0].KeyID) {
				var c webClaims
				if token.Claims(k.Key, &c) != nil {
					continue
				}
				if _, secret := k.Key.([]byte); secret {
					t.Errorf("a token is good by a key that is no public one: %s", text)
				}
				_ = c.audience()
			}
		})
	})
}

// fromCaller says that an error has a code for the caller and is not the cloud's fault.
func fromCaller(t *testing.T, err error) {
	t.Helper()
	known, ok := err.(*model.Error) //nolint:errorlint // it is what the front door is handed
	if err != nil && (!ok || known.Code == "" || known.Status >= http.StatusInternalServerError) {
		t.Errorf("refused by %v, want an error of the caller's", err)
	}
}
