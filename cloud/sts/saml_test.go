package sts_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// samlIDP signs assertions.
type samlIDP struct {
	key  *rsa.PrivateKey
	cert []byte
}

func newSAMLIDP(t *testing.T) *samlIDP {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: now().Add(-time.Hour),
		NotAfter: now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &samlIDP{key: key, cert: cert}
}

func (p *samlIDP) metadata() string {
	return `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.test/saml">` +
		`<IDPSSODescriptor><KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data>` +
		`<X509Certificate>` + base64.StdEncoding.EncodeToString(p.cert) + `</X509Certificate></X509Data></KeyInfo>` +
		`</KeyDescriptor></IDPSSODescriptor></EntityDescriptor>`
}

// assertion is the text of an assertion in which the pairs of words are replaced.
func samlAssertion(role string, replace ...string) string {
	at := func(d time.Duration) string { return now().Add(d).Format(time.RFC3339) }
	attribute := func(name, value string) string {
		return `<saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/` + name + `"><saml:AttributeValue>` + value +
			`</saml:AttributeValue></saml:Attribute>`
	}
	text := `<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_a1" Version="2.0" IssueInstant="` +
		at(0) + `"><saml:Issuer>https://idp.test/saml</saml:Issuer><saml:Subject><saml:NameID ` +
		`Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">ann</saml:NameID><saml:SubjectConfirmation ` +
		`Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="` + at(5*time.Minute) +
		`" Recipient="https://signin.aws.amazon.com/saml"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions ` +
		`NotBefore="` + at(-time.Minute) + `" NotOnOrAfter="` + at(5*time.Minute) + `"><saml:AudienceRestriction>` +
		`<saml:Audience>urn:amazon:webservices</saml:Audience></saml:AudienceRestriction></saml:Conditions>` +
		`<saml:AttributeStatement>` + attribute("Role", role) + attribute("RoleSessionName", "ann@corp") +
		`</saml:AttributeStatement></saml:Assertion>`
	return strings.NewReplacer(replace...).Replace(text)
}

// response signs an assertion and packs it.
func (p *samlIDP) response(t *testing.T, key crypto.Signer, assertion string) string {
	t.Helper()
	doc := etree.NewDocument()
	if err := doc.ReadFromString(assertion); err != nil {
		t.Fatal(err)
	}
	signing, err := dsig.NewSigningContext(key, [][]byte{p.cert})
	if err != nil {
		t.Fatal(err)
	}
	// As identity providers do: what stands around the assertion does not count.
	signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	signed, err := signing.SignEnveloped(doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	out := etree.NewDocument()
	out.SetRoot(signed)
	text, err := out.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	return wrapped(text)
}

func wrapped(assertion string) string {
	return base64.StdEncoding.EncodeToString([]byte(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ` +
		`ID="_r1" Version="2.0"><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/>` +
		`</samlp:Status>` + assertion + `</samlp:Response>`))
}

func TestAssumeRoleWithSAML(t *testing.T) {
	w := newWorld(t)
	p, stranger := newSAMLIDP(t), newSAMLIDP(t)
	made, err := w.iam.CreateSAMLProvider(w.root(t, home), &iammodel.CreateSAMLProviderInput{
		Name: model.Ptr("corp"), SAMLMetadataDocument: model.Ptr(p.metadata()),
	})
	if err != nil {
		t.Fatal(err)
	}
	provider := *made.SAMLProviderArn
	arn := w.role(t, "saml", statement(`{"Effect":"Allow","Principal":{"Federated":"`+provider+
		`"},"Action":"sts:AssumeRoleWithSAML","Condition":{"StringEquals":{"saml:aud":"https://signin.aws.amazon.com/saml",`+
		`"saml:sub_type":"persistent"}}}`))
	pair := arn + "," + provider
	good := samlAssertion(pair)
	for _, tt := range []struct{ name, response, code string }{
		{"good", p.response(t, p.key, good), ""},
		{"not signed", wrapped(good), "InvalidIdentityToken"},
		{"signed by a stranger", stranger.response(t, stranger.key, good), "InvalidIdentityToken"},
		{"signed by a stranger with the provider's certificate", p.response(t, stranger.key, good), "InvalidIdentityToken"},
		{"altered after the signature", base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(
			decoded(t, p.response(t, p.key, good)), ">ann<", ">eve<"))), "InvalidIdentityToken"},
		{"a second assertion beside it", base64.StdEncoding.EncodeToString([]byte(strings.Replace(
			decoded(t, p.response(t, p.key, good)), "</samlp:Status>", "</samlp:Status>"+
				strings.ReplaceAll(good, "_a1", "_a2"), 1))), "InvalidIdentityToken"},
		{"another role", p.response(t, p.key, samlAssertion(arn+"2,"+provider)), "IDPRejectedClaim"},
		{"old", p.response(t, p.key, samlAssertion(pair, `IssueInstant="`+now().Format(time.RFC3339),
			`IssueInstant="`+now().Add(-6*time.Minute).Format(time.RFC3339))), "ExpiredTokenException"},
		{"another audience", p.response(t, p.key, samlAssertion(pair, "urn:amazon:webservices", "urn:other")),
			"InvalidIdentityToken"},
		{"another recipient", p.response(t, p.key, samlAssertion(pair, "https://signin.aws.amazon.com/saml", "https://x")),
			"InvalidIdentityToken"},
		{"another issuer", p.response(t, p.key, samlAssertion(pair, "https://idp.test/saml", "https://idp.test/other")),
			"InvalidIdentityToken"},
		{"subject type that the trust does not name", p.response(t, p.key, samlAssertion(pair, "persistent", "transient")),
			"AccessDenied"},
		{"no XML", base64.StdEncoding.EncodeToString([]byte("x")), "InvalidIdentityToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := w.AssumeRoleWithSAML(t.Context(), &stsmodel.AssumeRoleWithSAMLInput{
				RoleArn: &arn, PrincipalArn: &provider, SAMLAssertion: &tt.response,
			})
			if code(err) != tt.code {
				t.Fatalf("error %v, want %q", err, tt.code)
			}
			if err != nil {
				return
			}
			c := authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
			if c.SessionName != "ann@corp" || c.Session.Provider != provider || *out.Subject != "ann" {
				t.Errorf("session %s of %s for %s", c.SessionName, c.Session.Provider, *out.Subject)
			}
		})
	}
}

// TestSAMLAttributes: what the assertion says of the session's life and of who is behind it counts.
func TestSAMLAttributes(t *testing.T) {
	w := newWorld(t)
	p := newSAMLIDP(t)
	made, err := w.iam.CreateSAMLProvider(w.root(t, home), &iammodel.CreateSAMLProviderInput{
		Name: model.Ptr("corp"), SAMLMetadataDocument: model.Ptr(p.metadata()),
	})
	if err != nil {
		t.Fatal(err)
	}
	provider := *made.SAMLProviderArn
	roleFor := func(name, actions string) string {
		return w.role(t, name, statement(`{"Effect":"Allow","Principal":{"Federated":"`+provider+`"},"Action":[`+actions+
			`]}`))
	}
	plain := roleFor("plain", `"sts:AssumeRoleWithSAML"`)
	named := roleFor("named", `"sts:AssumeRoleWithSAML","sts:SetSourceIdentity"`)
	for _, tt := range []struct {
		name, role       string
		attribute, value string
		seconds          int64
		code             string
		life             time.Duration
		source           string
	}{
		{"no attribute", plain, "", "", 0, "", time.Hour, ""},
		{"duration of its own", plain, "", "", 5400, "", 90 * time.Minute, ""},
		{"duration of the assertion", plain, "SessionDuration", "1800", 0, "", 30 * time.Minute, ""},
		{"longer than the assertion", plain, "SessionDuration", "1800", 3600, "", 30 * time.Minute, ""},
		{"shorter than the assertion", plain, "SessionDuration", "1800", 900, "", 15 * time.Minute, ""},
		{"too short", plain, "SessionDuration", "899", 0, "InvalidIdentityToken", 0, ""},
		{"no number", plain, "SessionDuration", "1h", 0, "InvalidIdentityToken", 0, ""},
		{"source identity", named, "SourceIdentity", "ann", 0, "", time.Hour, "ann"},
		{"source identity that the trust does not let set", plain, "SourceIdentity", "ann", 0, "AccessDenied", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := samlAssertion(tt.role + "," + provider)
			if tt.attribute != "" {
				text = strings.Replace(text, "</saml:AttributeStatement>", `<saml:Attribute Name="https://aws.amazon.com/SAML/`+
					`Attributes/`+tt.attribute+`"><saml:AttributeValue>`+tt.value+`</saml:AttributeValue></saml:Attribute>`+
					`</saml:AttributeStatement>`, 1)
			}
			in := &stsmodel.AssumeRoleWithSAMLInput{
				RoleArn: &tt.role, PrincipalArn: &provider, SAMLAssertion: model.Ptr(p.response(t, p.key, text)),
			}
			if tt.seconds != 0 {
				in.DurationSeconds = &tt.seconds
			}
			out, err := w.AssumeRoleWithSAML(t.Context(), in)
			if code(err) != tt.code {
				t.Fatalf("error %v, want %q", err, tt.code)
			}
			if err != nil {
				return
			}
			if got := out.Credentials.Expiration.Sub(now()); got != tt.life || model.Val(out.SourceIdentity) != tt.source {
				t.Errorf("lasts %v for %q, want %v for %q", got, model.Val(out.SourceIdentity), tt.life, tt.source)
			}
			c := authn.CallerFrom(w.as(t, *out.Credentials.AccessKeyId, *out.Credentials.SessionToken))
			if c.Session.SourceIdentity != tt.source {
				t.Errorf("the session's source identity is %q", c.Session.SourceIdentity)
			}
		})
	}
}

func decoded(t *testing.T, text string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
