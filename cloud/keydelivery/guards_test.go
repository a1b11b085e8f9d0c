package keydelivery_test

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
)

// TestOneCertificateInAPEM refuses an LBCERT that comes with anything else: which of several is meant, two readers
// could answer differently.
func TestOneCertificateInAPEM(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCert: w.authority.Certificate(), Now: func() time.Time { return now },
	})
	for _, tt := range []struct {
		name string
		text []byte
	}{
		{"its own twice", slices.Concat(w.id.CertPEM, w.id.CertPEM)},
		{"another's behind it", slices.Concat(w.id.CertPEM, other.id.CertPEM)},
		{"IAMCERT behind it", slices.Concat(w.id.CertPEM, w.authority.CertificatePEM())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.request(t, w.id, now)
			r.CertPEM = tt.text
			_, err := checker.Verify(t.Context(), r, session)
			if denial, ok := errors.AsType[*keydelivery.Denial](err); !ok ||
				denial.Reason != keydelivery.ReasonCertificateMalformed {
				t.Errorf("%v, want %s", err, keydelivery.ReasonCertificateMalformed)
			}
			r = w.request(t, w.id, now)
			r.CertPEM = slices.Concat(w.id.CertPEM, []byte("\n \n"))
			if _, err := checker.Verify(t.Context(), r, session); err != nil {
				t.Errorf("control: with space behind it: %v", err)
			}
		})
	}
}

// TestRetiredIssuer refuses, at check 3, what an IAMCERT signed that was retired, and says so.
func TestRetiredIssuer(t *testing.T) {
	w, next := newWorld(t), newWorld(t)
	accepted := []*x509.Certificate{next.authority.Certificate(), w.authority.Certificate()}
	var retired []*x509.Certificate
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCerts:        func(keydelivery.Profile) []*x509.Certificate { return accepted },
		RetiredIAMCerts: func(keydelivery.Profile) []*x509.Certificate { return retired },
		Now:             func() time.Time { return now },
	})
	if _, err := checker.Verify(t.Context(), w.request(t, w.id, now), session); err != nil {
		t.Fatalf("control: before it was retired: %v", err)
	}
	accepted, retired = accepted[:1], accepted[1:]
	_, err := checker.Verify(t.Context(), w.request(t, w.id, now), session)
	if denial, ok := errors.AsType[*keydelivery.Denial](err); !ok || denial.Reason != keydelivery.ReasonIssuer {
		t.Errorf("%v, want %s", err, keydelivery.ReasonIssuer)
	}
}

// TestStillGoodAsksForRevocation refuses a request whose LBCERT was revoked between its checks and its answer.
func TestStillGoodAsksForRevocation(t *testing.T) {
	w, why := newWorld(t), ""
	checker := keydelivery.NewChecker(keydelivery.CheckerConfig{
		IAMCert: w.authority.Certificate(), Now: func() time.Time { return now },
		Revoked: func(context.Context, *x509.Certificate) (string, error) { return why, nil },
	})
	verified, err := checker.Verify(t.Context(), w.request(t, w.id, now), session)
	if err != nil {
		t.Fatal(err)
	}
	if err := checker.StillGood(t.Context(), verified); err != nil {
		t.Fatalf("control: while it is good: %v", err)
	}
	why = "the operator withdrew it"
	err = checker.StillGood(t.Context(), verified)
	if denial, ok := errors.AsType[*keydelivery.Denial](err); !ok || denial.Reason != keydelivery.ReasonRevoked {
		t.Errorf("%v, want %s", err, keydelivery.ReasonRevoked)
	}
}
