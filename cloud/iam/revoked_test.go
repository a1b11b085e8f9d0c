package iam_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// TestRevokedUnderWay: an LBCERT that is revoked while its request is answered gets no key.
func TestRevokedUnderWay(t *testing.T) {
	asked := 0
	s := newScene(t, func(c *iam.Config) {
		c.Revoked = func(context.Context, *x509.Certificate) (string, error) {
			if asked++; asked == 1 {
				return "", nil
			}
			return "revoked at noon by uid 7: stolen", nil
		}
	})
	r := s.request(t, s.arn, s.identity, s.clock.Now())
	_, err := s.download(t, s.caller, s.identity, r.Form(), r)
	wantCode(t, err, "NotAuthorized")
	audit := s.lastEvent(t).Attributes
	if audit["reason"] != string(keydelivery.ReasonRevoked) || !strings.HasSuffix(audit["detail"], ": stolen") ||
		audit["check"] != "3" {
		t.Errorf("audit %v", audit)
	}
	if asked != 2 {
		t.Errorf("asked %d times, want at check 3 and before the answer", asked)
	}
}

// TestRevokedSessions: role credentials of an instance whose identity was revoked do nothing, whatever the role allows.
func TestRevokedSessions(t *testing.T) {
	revoked := map[string]bool{}
	s := newScene(t, func(c *iam.Config) {
		c.SessionRevoked = func(instance string) bool { return revoked[instance] }
	})
	ask := func(caller authn.Caller) error {
		return s.Authorize(t.Context(), caller, iam.ActionDownload, []string{s.arn}, nil)
	}
	sameAccount := "arn:aws:iam::" + systemAccount + ":server-certificate/x"
	if err := s.PutServiceRolePolicy(t.Context(), systemAccount, lbRole, "all",
		allow("iam:*", "*")); err != nil {
		t.Fatal(err)
	}
	own := func(caller authn.Caller) error {
		return s.Authorize(t.Context(), caller, "iam:GetServerCertificate", []string{sameAccount}, nil)
	}
	other := s.instanceCaller(t, lbRole, instanceB)
	if err := own(s.caller); err != nil {
		t.Fatalf("before the revocation: %v", err)
	}
	revoked[s.caller.InstanceID] = true
	for _, try := range []func(authn.Caller) error{ask, own} {
		wantCode(t, try(s.caller), "AccessDenied")
	}
	if audit := s.lastEvent(t); audit.Kind != "policy.denied" ||
		!strings.Contains(audit.Attributes["detail"], "was revoked") {
		t.Errorf("audit %v", audit)
	}
	if _, err := s.AuthorizeAssume(t.Context(), s.caller, "arn:aws:iam::"+systemAccount+":role/other", nil); err == nil {
		t.Error("a role was assumed")
	}
	if err := own(other); err != nil {
		t.Errorf("another instance of the role: %v", err)
	}
	if err := own(authn.Caller{Kind: authn.KindRoot, AccountID: systemAccount, System: true}); err != nil {
		t.Errorf("a caller that is no instance: %v", err)
	}
}
