package keydelivery_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// TestStillGood asks again for a verified request after the IAMCERT that signed its LBCERT was retired, or ended,
// between the checks and the answer.
func TestStillGood(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t).authority.Certificate()
	own := w.authority.Certificate()
	cases := []struct {
		name     string
		accepted []*x509.Certificate
		at       time.Time
		detail   string // of the denial, empty for none
	}{
		{"nothing changed", []*x509.Certificate{own}, now, ""},
		{"another one signs, its own is accepted", []*x509.Certificate{other, own}, now, ""},
		{"its own is retired", []*x509.Certificate{other}, now, "which was retired"},
		{"all are retired", nil, now, "which was retired"},
		{"its own has ended", []*x509.Certificate{own}, own.NotAfter.Add(time.Second), "is valid from"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			accepted, at := []*x509.Certificate{own}, now
			checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
				IAMCerts: func(keydelivery.Profile) []*x509.Certificate { return accepted },
				Now:      func() time.Time { return at },
			})
			verified, err := checker.Verify(t.Context(), w.request(t, w.id, now), session)
			if err != nil {
				t.Fatal(err)
			}
			accepted, at = c.accepted, c.at
			err = checker.StillGood(t.Context(), verified)
			denial, denied := errors.AsType[*keydelivery.Denial](err)
			switch {
			case c.detail == "" && err != nil:
				t.Errorf("denied: %v", err)
			case c.detail != "" && (!denied || denial.Reason != keydelivery.ReasonIssuer ||
				!strings.Contains(denial.Detail, c.detail)):
				t.Errorf("got %v, want a denial (%s) that says %q", err, keydelivery.ReasonIssuer, c.detail)
			}
		})
	}
}
