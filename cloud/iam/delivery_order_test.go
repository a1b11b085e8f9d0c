package iam_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// order is one request of which several things may be wrong at once. It is signed anew for every try, by hand, so
// that nothing but what was altered is wrong.
type order struct {
	scene     *scene
	profile   keydelivery.Profile
	caller    authn.Caller
	identity  keydelivery.Identity
	arn       string
	at        time.Time
	nonce     string
	signature func([]byte) []byte
	drop      string // a field to leave out
	replay    bool
}

// form signs the request.
func (o *order) form(t *testing.T) url.Values {
	t.Helper()
	timestamp := o.at.UTC().Format("2006-01-02T15:04:05Z")
	text := o.arn + "&" + timestamp
	form := url.Values{}
	if o.profile == keydelivery.Profile2 {
		text = "2&" + text + "&" + o.nonce
		form.Set("Profile", "2")
		form.Set("Nonce", o.nonce)
	}
	digest := sha256.Sum256([]byte(text))
	signature, err := signerOf(t, o.identity.Key).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if o.signature != nil {
		signature = o.signature(signature)
	}
	form.Set("CertificateArn", o.arn)
	form.Set("DelegationCertificate", base64.StdEncoding.EncodeToString(o.identity.CertPEM))
	form.Set("Timestamp", timestamp)
	form.Set("Signature", base64.StdEncoding.EncodeToString(signature))
	form.Del(o.drop)
	return form
}

func signerOf(t *testing.T, text keydelivery.Secret) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(text)
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// fault makes one of the checks fail.
type fault struct {
	name   string
	reason keydelivery.Reason
	alter  func(t *testing.T, o *order)
}

// faults in the order of the checks.
func faults(foreign, foreignRSA *keydelivery.Authority) []fault {
	return []fault{
		{"2 a user calls", keydelivery.ReasonNotRoleSession, func(t *testing.T, o *order) {
			o.caller = authn.CallerFrom(o.scene.root(t, demoAccount))
		}},
		{"a field is missing", keydelivery.ReasonMalformed, func(_ *testing.T, o *order) { o.drop = "Signature" }},
		{"3 LBCERT of another IAM", keydelivery.ReasonIssuer, func(t *testing.T, o *order) {
			by := foreign
			if o.profile == keydelivery.Profile1 {
				by = foreignRSA
			}
			o.identity.CertPEM = o.scene.resign(t, by, o.identity, o.scene.clock.Now())
		}},
		{"4 another instance's session", keydelivery.ReasonInstanceMismatch, func(t *testing.T, o *order) {
			if o.caller.Kind == authn.KindRole {
				o.caller = o.scene.instanceCaller(t, lbRole, instanceB)
			}
		}},
		{"5 stale", keydelivery.ReasonTimestamp, func(_ *testing.T, o *order) { o.at = o.at.Add(-time.Hour) }},
		{"6 signature altered", keydelivery.ReasonSignature, func(_ *testing.T, o *order) {
			o.signature = func(s []byte) []byte { s[len(s)-1] ^= 1; return s }
		}},
		{"7 seen before", keydelivery.ReasonReplay, func(_ *testing.T, o *order) { o.replay = true }},
		{"8 not granted", keydelivery.ReasonPolicy, func(_ *testing.T, o *order) { o.arn += "-foreign" }},
		{"9 no such certificate", keydelivery.ReasonNoSuchCertificate, func(_ *testing.T, o *order) {
			if o.arn == o.scene.arn {
				o.arn = goneARN
			}
		}},
	}
}

// goneARN is granted and does not exist.
const goneARN = "arn:aws:iam::123456789012:server-certificate/gone"

// resign makes an LBCERT for the identity's own key, of another authority.
func (s *scene) resign(t *testing.T, by *keydelivery.Authority, id keydelivery.Identity, now time.Time) []byte {
	t.Helper()
	cert, err := by.SignLBCert(instanceA, signerOf(t, id.Key).Public(), now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestOrderOfChecks makes every pair of checks fail together: the earlier one's reason is told, in both profiles. A
// pair whose second fault is undone keeps the first's reason, and with neither the delivery succeeds.
func TestOrderOfChecks(t *testing.T) {
	s := newScene(t, func(c *iam.Config) { c.MinDeliveryProfile = keydelivery.Profile1 })
	s.serviceRole(t, lbRole, s.arn)
	if err := s.PutServiceRolePolicy(t.Context(), systemAccount, lbRole, "gone",
		allow(iam.ActionDownload, goneARN)); err != nil {
		t.Fatal(err)
	}
	foreign, err := keydelivery.NewAuthority(s.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreignRSA, err := keydelivery.NewRSAAuthority(s.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	identities := map[keydelivery.Profile]keydelivery.Identity{
		keydelivery.Profile1: s.rsaIdentity(t, instanceA), keydelivery.Profile2: s.identity,
	}
	list := faults(foreign, foreignRSA)
	for profile, identity := range identities {
		for i := range list {
			for j := i; j < len(list); j++ {
				t.Run(fmt.Sprintf("profile %d/%s and %s", profile, list[i].name, list[j].name), func(t *testing.T) {
					s.clock.Advance(2 * time.Minute) // profile 1's signatures differ by the second alone
					o := s.order(t, profile, identity)
					list[i].alter(t, o)
					list[j].alter(t, o)
					if got := o.reason(t); got != list[i].reason {
						t.Errorf("reason %q, want %q", got, list[i].reason)
					}
				})
			}
		}
		s.clock.Advance(2 * time.Minute)
		if got := s.order(t, profile, identity).reason(t); got != "" {
			t.Errorf("control of profile %d: denied, %s", profile, got)
		}
	}
}

func (s *scene) order(t *testing.T, profile keydelivery.Profile, id keydelivery.Identity) *order {
	t.Helper()
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	return &order{
		scene: s, profile: profile, identity: id, arn: s.arn, at: s.clock.Now(),
		caller: s.instanceCaller(t, lbRole, instanceA), nonce: base64.StdEncoding.EncodeToString(nonce),
	}
}

// reason sends the request and returns why it was denied, empty if it was not.
func (o *order) reason(t *testing.T) keydelivery.Reason {
	t.Helper()
	if o.replay {
		// Another session sends the good request first; what else is wrong with o does not hinder it.
		first := *o
		first.caller, first.signature, first.drop = o.scene.instanceCaller(t, lbRole, instanceA), nil, ""
		_, _, _ = o.scene.DownloadServerCertificate(authn.WithCaller(t.Context(), first.caller), first.form(t))
		if o.caller.Kind == authn.KindRole {
			o.caller.AccessKeyID = "ASIAANOTHERSESSION00"
		}
	}
	_, _, err := o.scene.DownloadServerCertificate(authn.WithCaller(t.Context(), o.caller), o.form(t))
	if err == nil {
		return ""
	}
	return keydelivery.Reason(o.scene.lastEvent(t).Attributes["reason"])
}

func (w *world) rsaIdentity(t testing.TB, instanceID string) keydelivery.Identity {
	t.Helper()
	key, text, err := keydelivery.NewRSALBKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, _, err := w.SignLBCert(t.Context(), instanceID, key.Public(), 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return keydelivery.Identity{CertPEM: cert, Key: text}
}
